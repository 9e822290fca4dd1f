"""How much memory and time the launcher itself takes: `python benchmarks/launch_memory.py [LINES]`, a table on stdout.

The real command follows a job of two pods on the fake cluster of the tests while node 0 says LINES lines, once for each
scheduler; bare Python and what is only imported stand beside it. Peak resident memory, as the kernel counts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fakes.kubernetes import FakeCluster  # noqa: E402 - of this checkout
from tests.launching import IMAGE, PLURAL, SETTINGS, Pods, write_kubeconfig  # noqa: E402

MEASURED = """
import json, resource, sys, time
start = time.monotonic()
{body}
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps([peak, time.monotonic() - start]), file=sys.stderr)
"""
IMPORTS = "import hqclip.launch.run, hqclip.launch.submit, hqclip.launch.watch"
COMMAND = "from hqclip.cli import main; assert main({words!r}) == 0"


def main(lines: int = 100_000) -> None:
    """Print the table."""
    rows = [("bare Python", *measure("pass")), ("imports of the launcher", *measure(IMPORTS))]
    rows += [(f"follows a job on {scheduler}", *follow(scheduler, lines)) for scheduler in PLURAL]
    print(f"| {lines:,} lines of output | peak MB | seconds |\n|---|---|---|")
    for name, peak, seconds in rows:
        print(f"| {name} | {peak:.0f} | {seconds:.1f} |")


def measure(body: str) -> tuple[float, float]:
    """Peak MB and seconds of a Python process that does this."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(body=body)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    peak, seconds = json.loads(done.stderr.splitlines()[-1])
    return peak, seconds


def follow(scheduler: str, lines: int) -> tuple[float, float]:
    """The whole command, with a cluster on which the job runs and ends."""
    with tempfile.TemporaryDirectory() as folder, FakeCluster() as cluster:
        kubeconfig = write_kubeconfig(Path(folder) / "kubeconfig", cluster.url)
        given = {**SETTINGS, "store": f"{folder}/store", "scheduler": scheduler, "image": IMAGE, "nodes": 2, "cpus": 1}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        words = ["launch", "run", "train", *flags, f"--volumes=claim:shared:{folder}"]
        pods = Pods(cluster, f"{folder}/store", scheduler)

        def work() -> None:
            cluster.until(lambda: cluster.names(PLURAL[scheduler]))
            names = pods.start()
            cluster.log(names[0], *(f"step {n}: loss 1.2345, 8,192 images, 31,000 images/s" for n in range(lines)))
            time.sleep(8)  # the launcher looks every few seconds
            pods.succeed(model="m")

        threading.Thread(target=work, daemon=True).start()
        return measure(f'import os; os.environ["KUBECONFIG"] = {str(kubeconfig)!r}; {COMMAND.format(words=words)}')


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
