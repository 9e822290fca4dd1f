"""What the pods of a job say, as they say it: reconnected when the line breaks, over all attempts, and kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

from hqclip import log
from hqclip.errors import AccessError, HQClipError
from hqclip.launch.job import KEPT_BYTES, logs_folder
from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.patches import Json
from hqclip.launch.pod_template import CONTAINER
from hqclip.launch.pods import READABLE, PodRow, is_over, phase
from hqclip.store import Store

MOST_PODS = 64  # followed at a time
PAUSE_S = 0.5  # before a connection is made again


class Follower:
    """Shows the output of node 0, or of all nodes, on stderr; a thread for each pod.

    `look` is called by whoever watches the job, with its pods; new pods are followed from their first line.
    """

    def __init__(self, cluster: Cluster, store: Store, key: str, *, whose: str) -> None:
        self._cluster, self._store, self._key = cluster, store, key
        self._all, self._none = whose == "all", whose == "none"
        self._threads: dict[str, threading.Thread] = {}  # by uid of the pod
        self._seen: set[PodRow] = set()
        self._ended, self._stopped = threading.Event(), threading.Event()

    def look(self, pods: list[PodRow]) -> None:
        """Follow the pods that are new."""
        for row in pods:
            alive = sum(thread.is_alive() for thread in self._threads.values())
            wanted = not self._none and (self._all or row.node == 0) and not row.waits
            if not wanted or row in self._seen or alive >= MOST_PODS:
                continue
            self._seen.add(row)
            pod = self._cluster.get(CORE, "pods", row.name)
            if pod is None or phase(pod) not in READABLE or pod["metadata"]["uid"] in self._threads:
                continue
            thread = threading.Thread(target=self._follow, args=(row.node, pod), name=f"log-{row.node}", daemon=True)
            self._threads[pod["metadata"]["uid"]] = thread
            thread.start()

    def finish(self, seconds: float = 5.0) -> None:
        """The job has ended: let the threads read to the end, all together for so long."""
        self._ended.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Nobody watches any more: no thread asks the cluster again, and one that still reads ends with its line."""
        self._stopped.set()
        self._ended.set()

    def _pause(self, seconds: float) -> bool:
        """Before the next try, which comes at once when the job has just ended; whether there is none."""
        if self._ended.is_set():
            return self._stopped.wait(seconds)
        self._ended.wait(seconds)
        return self._stopped.is_set()

    def _follow(self, node: int, pod: Json) -> None:
        kept = bytearray()
        prefix = f"[{node}] " if self._all else ""
        for line in follow_pod(self._cluster, pod, self._pause):
            if self._stopped.is_set():
                break
            sys.stderr.write(f"{prefix}{line}\n")
            kept += line.encode() + b"\n"
            del kept[:-KEPT_BYTES]
        uid = pod["metadata"]["uid"]
        try:
            self._store.write(f"{logs_folder(self._key)}/{node}-{uid[:8]}.txt", bytes(kept), create_only=False)
        except HQClipError as error:
            log.warning("launch", f"the log of node {node} was not kept: {error}")


def follow_pod(cluster: Cluster, pod: Json, pause: Callable[[float], bool]) -> Iterator[str]:
    """Lines of a pod until it has ended or is gone; each line once, however often the connection breaks.

    `pause` lets some seconds pass before a connection is made again; True of it gives up.
    """
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    seen = _Seen()
    while True:
        try:
            over = is_over(cluster, name, uid)
            if over is None:
                return
            timed = {"container": CONTAINER, "timestamps": "true", "follow": "true"}
            yield from seen.fresh(cluster.log_lines(name, **timed, **seen.since()))
            if over:
                return
        except AccessError as error:
            log.warning("launch", f"the output of {name} cannot be shown: {error}")
            return
        except HQClipError:
            pass  # the line broke, or the container has not begun
        if pause(PAUSE_S):
            return


class _Seen:
    """Which lines were shown: Kubernetes gives times, and again all lines of the second that was asked for."""

    def __init__(self) -> None:
        self._last = ""
        self._at_last = 0

    def since(self) -> dict[str, str]:
        return {"sinceTime": self._last} if self._last else {}

    def fresh(self, lines: Iterator[str]) -> Iterator[str]:
        skipped, before, at_before = 0, self._last, self._at_last
        for line in lines:
            time, _, text = line.partition(" ")
            if not time[:1].isdigit():
                continue  # the kubelet itself: "unable to retrieve container logs for ...", which has no time
            if before and _order(time) < _order(before):
                continue
            if time == before and skipped < at_before:
                skipped += 1
                continue
            self._at_last = self._at_last + 1 if time == self._last else 1
            self._last = time
            yield text


def _order(time: str) -> tuple[str, str]:
    """RFC 3339 with any number of digits of a second, for comparison."""
    seconds, _, fraction = time.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")
