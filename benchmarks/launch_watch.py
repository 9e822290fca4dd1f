"""What a launcher asks of the API server to watch many pods: `python benchmarks/launch_watch.py [PODS [SECONDS]]`.

The real command follows a job of PODS replicas on the fake cluster of the tests, through a relay that counts bytes: all
wait, all start, and all run for SECONDS; a table on stdout. A pod of the fake is made as heavy as a real one.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.launch_memory import COMMAND, measure  # noqa: E402 - of this checkout
from tests.fakes.kubernetes import FakeCluster  # noqa: E402
from tests.launching import IMAGE, PLURAL, SETTINGS, Pods, write_kubeconfig  # noqa: E402

POD_BYTES = 7800  # of a pod as JSON, measured on a real cluster
START_S = 60.0  # in which all pods begin


def main(pods: int = 1000, seconds: float = 120.0) -> None:
    """Print the table."""
    print("| scheduler | pods | starting, kB/s | running, kB/s | lists of pods | in all, MB | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for scheduler in PLURAL:
        starting, running, lists, total, peak = follow(scheduler, pods, seconds)
        print(
            f"| {scheduler} | {pods:,} | {starting / 1e3:.1f} | {running / 1e3:.1f} | {lists} | {total / 1e6:.2f} | "
            f"{peak:.0f} |"
        )


def follow(scheduler: str, pods: int, seconds: float) -> tuple[float, float, int, int, float]:
    """Bytes a second while pods start and while they run, lists of pods, bytes in all, and peak MB of the launcher."""
    with tempfile.TemporaryDirectory() as folder, FakeCluster() as cluster, Relay(cluster.url) as relay:
        kubeconfig = write_kubeconfig(Path(folder) / "kubeconfig", relay.url)
        given = {**SETTINGS, "store": f"{folder}/store", "scheduler": scheduler, "image": IMAGE, "nodes": pods}
        given = {name: value for name, value in given.items() if name not in ("dataset", "run", "batch_size")}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        words = ["launch", "run", "annotate", *flags, "--pool=pools/0/pool.json", f"--volumes=claim:s:{folder}"]
        rates: list[float] = []

        def work() -> None:
            job = Pods(cluster, f"{folder}/store", scheduler)
            cluster.until(lambda: cluster.names(PLURAL[scheduler]))
            names = cluster.start_pods(job.name, phase="Pending")
            for name in names:
                notes = cluster.get("pods", name)["metadata"].setdefault("annotations", {})
                notes["padding"] = "x" * (POD_BYTES - 3000)
            cluster.until(lambda: any(request.verb == "watch" for request in cluster.requests))
            rates.append(rate(relay, lambda: start(cluster, names)))
            job.phase("Running")
            rates.append(rate(relay, lambda: time.sleep(seconds)))
            job.store.write(f"launch/{job.key}/result.json", b"{}", create_only=False)
            job.phase("Completed")

        threading.Thread(target=work, daemon=True).start()
        peak, _ = measure(f'import os; os.environ["KUBECONFIG"] = {str(kubeconfig)!r}; {COMMAND.format(words=words)}')
        lists = sum(request.verb == "list" and request.plural == "pods" for request in cluster.requests)
        return rates[0], rates[1], lists, relay.count, peak


def start(cluster: FakeCluster, names: list[str]) -> None:
    """One pod after the other: on a machine, its container made, and running."""
    for name in names:
        cluster.pod_phase(name, "Pending", "ContainerCreating")
        cluster.pod_phase(name, "Running")
        time.sleep(START_S / len(names))


def rate(relay: Relay, do: Callable[[], object]) -> float:
    """Bytes a second while this is done."""
    before, begun = relay.count, time.monotonic()
    do()
    return (relay.count - before) / (time.monotonic() - begun)


class Relay:
    """Between a client and a server; `count` is what went to and fro, in bytes."""

    def __init__(self, url: str) -> None:
        self._to = int(url.rpartition(":")[2])
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.count = 0

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._socket.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", self._to))
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.count += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
