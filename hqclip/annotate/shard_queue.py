"""Which shard is next: those of a pool, one after the other, until every one of them is done by somebody."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from hqclip.annotate.claims import Claims
from hqclip.annotate.partial_rows import ShardRows
from hqclip.records import ShardEntry
from hqclip.store import Store


class ShardQueue:
    """The shards that this replica takes. Iterated by one thread; the other methods may be called from any."""

    def __init__(
        self, store: Store, folder: str, entries: Sequence[ShardEntry], claims: Claims | None, poll_s: float
    ) -> None:
        self._store, self._folder, self._claims, self._poll_s = store, folder, claims, poll_s
        self._left = deque(entries)
        if claims and entries:  # replicas that start together begin at different places
            self._left.rotate(int(hashlib.sha256(claims.owner.encode()).hexdigest(), 16) % len(entries))
        self._in_work: set[str] = set()
        self._stopped = False
        self._changed = threading.Event()

    def __iter__(self) -> Iterator[ShardRows]:
        skipped = 0  # shards in a row that somebody else has, or that we have not finished yet
        while self._left and not self._stopped:
            self._changed.clear()
            entry = self._left.popleft()
            if self._is_done(entry):
                skipped = 0
                continue
            if entry.name not in self._in_work and (self._claims is None or self._claims.take(entry.name)):
                skipped = 0
                rows = ShardRows(self._store, self._folder, entry)
                if rows.left and self._is_done(entry):  # while its parts were read
                    self.release(entry.name)
                    continue
                self._in_work.add(entry.name)
                yield rows
                if self._claims is None:
                    continue
            self._left.append(entry)  # look again later: whoever has it may die
            skipped += 1
            if skipped >= len(self._left):
                self._changed.wait(self._poll_s)
                skipped = 0

    def _is_done(self, entry: ShardEntry) -> bool:
        return self._store.exists(f"{self._folder}/{entry.name}.parquet")

    def release(self, name: str) -> None:
        """A shard is done, or was lost to another replica."""
        self._in_work.discard(name)
        if self._claims:
            self._claims.release(name)
        self._changed.set()

    def stop(self) -> None:
        """Yield no more."""
        self._stopped = True
        self._changed.set()
