"""What happened in a `FakeCluster`, one change after the other, and the lines of a watch out of it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes.faulty import Faulty
from tests.fakes.kubernetes_api import Request, Resource, status
from tests.fakes.kubernetes_table import is_asked, table

FIRST = 1000  # the version before anything happened
Change = tuple[int, str, Resource | None, dict[str, Any]]  # version, what, of what, the object then


class History(Faulty):
    """Every change has a version, higher than those before."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.version = self.forgotten = FIRST
        self.changes: list[Change] = []

    def note(self, what: str, resource: Resource | None, obj: dict[str, Any]) -> None:
        """ADDED, MODIFIED or DELETED: the object gets the version, and whoever watches hears of it."""
        self.version += 1
        obj.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.changes.append((self.version, what, resource, copy.deepcopy(obj)))
        self.changed.notify_all()

    def bookmark(self) -> None:
        """The server says how far it is, as it does every minute, though nothing happened."""
        with self.changed:
            self.note("BOOKMARK", None, {})

    def forget(self) -> None:
        """What happened so far is forgotten, as after five minutes: who comes from before that must list again."""
        with self.changed:
            self.forgotten = self.version
            self.changes.clear()

    def watched(
        self, resource: Resource, request: Request, fits: Callable[[dict[str, Any]], bool], now: list[dict[str, Any]]
    ) -> Iterator[bytes]:
        """Lines for a watch from the version it names; of one that names none, what is there `now` comes first."""
        asked = request.query.get("resourceVersion", "")
        at = self.version if asked in ("", "0") else int(asked)
        if at < self.forgotten:
            gone = status(410, f"too old resource version: {at} ({self.forgotten})", "Expired")
            return iter([_line("ERROR", gone)])
        first = [("ADDED", obj) for obj in now] if asked in ("", "0") else []
        return self._changes(request, resource, fits, first, at)

    def _changes(
        self,
        request: Request,
        resource: Resource,
        fits: Callable[[dict[str, Any]], bool],
        first: list[tuple[str, dict[str, Any]]],
        at: int,
    ) -> Iterator[bytes]:
        shape = _Shape(request, resource)
        end = time.monotonic() + float(request.query.get("timeoutSeconds") or 3600)
        yield from (shape.line(what, obj) for what, obj in first)
        while True:
            with self.changed:
                new = [change for change in self.changes if change[0] > at]
                if not new:
                    left = end - time.monotonic()
                    if self.closed or left <= 0:
                        return
                    self.changed.wait(left)
                    continue
            at = new[-1][0]
            for _, what, of, obj in new:
                if what == "BOOKMARK" and request.flag("allowWatchBookmarks") or of == resource and fits(obj):
                    yield shape.line(what, obj)


class _Shape:
    """Objects as they are, or rows; a watch of rows tells its columns in the first line alone."""

    def __init__(self, request: Request, resource: Resource) -> None:
        self._table, self._resource, self._headers = is_asked(request.accept), resource, True

    def line(self, what: str, obj: dict[str, Any]) -> bytes:
        kind = {"kind": self._resource.kind, "apiVersion": self._resource.api_version}
        obj = {**kind, **obj}
        if self._table:
            blank = {**obj, "metadata": {"name": "", **obj["metadata"]}}  # a bookmark has a row, too
            obj = table([blank], obj["metadata"]["resourceVersion"], headers=self._headers)
            self._headers = False
        return _line(what, obj)


def _line(what: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": what, "object": obj}).encode() + b"\n"
