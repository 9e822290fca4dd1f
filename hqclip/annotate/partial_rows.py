"""Rows as they finish in, a sidecar a shard out; meanwhile in parts, so that a kill costs few of them.

Parts are small Parquet files of finished rows in any order, under names that no other process uses. Whoever opens the
shard next takes the first row of every sample from them. They are deleted once the sidecar exists.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from hqclip.data.index import ShardIndex, read_index
from hqclip.data.sidecar import read_part, write_annotations, write_part
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import AnnotatedRow, ShardEntry
from hqclip.store import Store

PART_ROWS = 128  # one part is being written while the next fills: at most twice as many rows are lost to a kill


class ShardRows:
    """The rows of a shard that is in work; `lost` once another replica has taken it over."""

    def __init__(self, store: Store, folder: str, entry: ShardEntry) -> None:
        self.entry = entry
        self.index: ShardIndex = read_index(store, entry)
        self.lost = False
        self._store, self._folder = store, folder
        self._row_of = {uid: row for row, uid in enumerate(self.index.uids)}
        self._rows: list[AnnotatedRow | None] = [None] * entry.rows
        self.left = entry.rows
        self._unsaved: list[AnnotatedRow] = []
        self._process, self._parts = secrets.token_hex(6), 0
        for key in store.list(self._prefix):
            for row in self._read_part(key):
                self._put(row)
        self.resumed = entry.rows - self.left

    @property
    def missing(self) -> list[int]:
        """The numbers of the rows that are still to be made."""
        return [number for number, row in enumerate(self._rows) if row is None]

    def add(self, row: AnnotatedRow) -> None:
        """Take a row that was made now."""
        if self._put(row):
            self._unsaved.append(row)

    def take_unsaved(self) -> list[AnnotatedRow]:
        """The rows that are in no part yet; from now on they count as saved."""
        rows, self._unsaved = self._unsaved, []
        return rows

    def save(self, rows: list[AnnotatedRow]) -> None:
        """Write a part of them."""
        write_part(self._store, f"{self._prefix}{self._process}-{self._parts:06d}.parquet", rows, self.entry)
        self._parts += 1

    def finish(self, annotator: str) -> None:
        """Write the sidecar, unless another replica has; then the parts are not needed any more."""
        rows = [row for row in self._rows if row is not None]
        with suppress(ConflictError):  # theirs was first, and is as good
            write_annotations(self._store, f"{self._folder}/{self.entry.name}.parquet", rows, self.entry, annotator)
        self.tidy()

    def tidy(self) -> None:
        """Delete the parts."""
        for key in list(self._store.list(self._prefix)):
            self._store.delete(key)

    @property
    def _prefix(self) -> str:
        return f"{self._folder}/parts/{self.entry.name}/"

    def _put(self, row: AnnotatedRow) -> bool:
        number = self._row_of.get(row.uid, -1)
        if number < 0 or self._rows[number] is not None:
            return False
        self._rows[number] = row
        self.left -= 1
        return True

    def _read_part(self, key: str) -> list[AnnotatedRow]:
        """A part that cannot be read is work lost, not a reason to stop; nor is one that another replica deletes."""
        try:
            return read_part(self._store, key, self.entry)
        except (DataError, NotFoundError):
            return []


class RowWriter:
    """Writes the rows of all shards in work: in parts at intervals, in sidecars at the end. One thread does it."""

    def __init__(self, annotator: str) -> None:
        self.shards: dict[str, ShardRows] = {}
        self._annotator = annotator
        self._unsaved = 0
        self._saving = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "hqclip-write")

    async def add(self, shard: ShardRows, row: AnnotatedRow) -> bool:
        """Take a row; whether its shard is complete with it. Waits while too much is unsaved."""
        shard.add(row)
        self._unsaved += 1
        if shard.left == 0:
            return await self.finish(shard)
        if self._unsaved >= PART_ROWS:
            await self._save(PART_ROWS)
        return False

    async def finish(self, shard: ShardRows) -> bool:
        """Write the sidecar of a shard all of whose rows are there; False if that was done before."""
        if self.shards.pop(shard.entry.name, None) is None:
            return False
        await self._write(shard.finish, self._annotator)
        return True

    async def close(self) -> None:
        """Save what is unsaved, however little, and wait until it is stored."""
        await self._save(0)
        self._thread.shutdown(wait=True)

    async def _save(self, at_least: int) -> None:
        """Write parts, if there is still that much unsaved once the writes before are done."""
        async with self._saving:
            if self._unsaved < at_least:
                return
            self._unsaved = 0
            for shard in list(self.shards.values()):
                if rows := shard.take_unsaved():
                    await self._write(shard.save, rows)

    async def _write(self, write: Callable[..., None], *what: object) -> None:
        """In the thread; it is written also if nobody waits for it any more."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, write, *what))
