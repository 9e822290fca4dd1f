"""The pods of one job while it is watched: listed once, then told by the server as they change.

A thousand pods are some hundred kilobytes of rows at the start, and some hundred bytes at each change. What was missed
while the connection was away comes when it is there again, from the version that was seen last; if the server has
forgotten that, all is listed anew, so that no pod stays that is gone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from hqclip import log
from hqclip.backoff import pause_s
from hqclip.errors import AccessError, HQClipError
from hqclip.launch.kube import CORE, TELL_AT, Cluster, Expired
from hqclip.launch.patches import Json
from hqclip.launch.pods import PodRow, read_rows
from hqclip.launch.schedulers.protocol import Scheduler


class PodWatch:
    """The newest that is known of the pods of a job. `wait` sleeps for so many seconds, or less once it is closed."""

    def __init__(
        self, cluster: Cluster, scheduler: Scheduler, job: str, *, wait: Callable[[float], object] | None = None
    ) -> None:
        self._cluster, self._scheduler, self._job = cluster, scheduler, job
        self._query = {"labelSelector": f"{scheduler.pod_label}={job}"}
        self._pods: dict[str, PodRow] = {}
        self._version = ""  # of what is known; empty before the first list, and when it has to come again
        self._births = itertools.count(1)
        self._fault: AccessError | None = None
        self._changed, self._end = threading.Lock(), threading.Event()
        self._wait = wait or self._end.wait
        self._thread: threading.Thread | None = None

    def look(self) -> list[PodRow]:
        """The pods by node. The first look lists them; raises what that raises, and `AccessError` later on, too."""
        if self._thread is None:
            self._list()
            self._thread = threading.Thread(target=self._follow, name="pods", daemon=True)
            self._thread.start()
        if self._fault is not None:
            raise self._fault
        with self._changed:
            return sorted(self._pods.values(), key=lambda pod: (pod.node, pod.name))

    def close(self) -> None:
        """Watch no longer."""
        self._end.set()

    def _list(self) -> None:
        rows, version = self._cluster.table(CORE, "pods", **self._query)
        pods = read_rows(self._scheduler, self._job, rows, next(self._births))
        with self._changed:
            self._pods, self._version = {pod.name: pod for pod in pods}, version

    def _follow(self) -> None:
        tried = 0
        while not self._end.is_set():
            try:
                if not self._version:
                    self._list()
                for kind, rows, version in self._cluster.watch(CORE, "pods", self._version, **self._query):
                    tried = 0
                    self._note(kind, rows, version)
                    if self._end.is_set():
                        return
            except Expired:
                self._version = ""
            except AccessError as error:
                self._fault = error
                return
            except HQClipError as error:
                tried += 1
                if tried == TELL_AT:
                    log.warning("launch", f"the pods of {self._job} cannot be watched: {error}; asked again")
            self._wait(pause_s(tried, first_s=0.5, longest_s=30.0))

    def _note(self, kind: str, rows: Sequence[Json], version: str) -> None:
        if kind == "BOOKMARK":
            rows = []
        with self._changed:
            for pod in read_rows(self._scheduler, self._job, rows):
                before = self._pods.pop(pod.name, None)
                if kind != "DELETED":
                    born = before.born if before and kind == "MODIFIED" else next(self._births)
                    self._pods[pod.name] = PodRow(pod.node, pod.name, pod.status, born)
            self._version = version or self._version
