"""Shards in, pictures out: read ahead by one thread, decoded and shrunk by a few, handed to the event loop when ready.

No order among pictures is promised, so that those that are slow to decode hold up no others.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hqclip.annotate.partial_rows import ShardRows
from hqclip.annotate.picture import Picture
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.shard_queue import ShardQueue
from hqclip.data.images import ImageFault
from hqclip.data.index import ShardImages
from hqclip.records import Status
from hqclip.store import Store

CHUNK = 8  # pictures decoded in one go


class Reader:
    """Runs ahead of the engine by `ahead` pictures. Its thread never keeps the process alive.

    Images in `quarantine`, by the SHA-256 of their bytes, are not decoded.
    """

    def __init__(
        self,
        store: Store,
        shards: ShardQueue,
        preparation: Preparation,
        quarantine: Collection[str],
        *,
        threads: int,
        ahead: int,
    ) -> None:
        self._store, self._shards, self._preparation, self._quarantine = store, shards, preparation, quarantine
        self._decoders = ThreadPoolExecutor(threads, "hqclip-decode")
        self._room = threading.Semaphore(max(2, -(-ahead // CHUNK)))
        self._stopped = False

    async def pictures(self, opened: Callable[[ShardRows], Awaitable[None]]) -> AsyncIterator[Picture]:
        """Every picture that has no row yet. `opened` hears of a shard before its first picture comes."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()

        def tell(item: Any) -> None:
            if not self._stopped:
                loop.call_soon_threadsafe(queue.put_nowait, item)

        threading.Thread(target=self._read, args=(tell,), daemon=True, name="hqclip-read").start()
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, ShardRows):
                    await opened(item)
                    continue
                for picture in item:
                    yield picture
                self._room.release()
        finally:
            self.stop()

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._shards.stop()
        self._room.release()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _read(self, tell: Callable[[Any], None]) -> None:
        try:
            for shard in self._shards:
                tell(shard)
                self._read_shard(shard, tell)
                if self._stopped:
                    return
            self._decoders.shutdown()  # waits for the last pictures
            tell(None)
        except BaseException as error:  # noqa: BLE001 - handed to the event loop, which raises it
            tell(error)

    def _read_shard(self, shard: ShardRows, tell: Callable[[Any], None]) -> None:
        missing = shard.missing
        if not missing:
            return
        with ShardImages(self._store, shard.entry, shard.index) as images:
            for start in range(0, len(missing), CHUNK):
                rows = missing[start : start + CHUNK]
                data = [(row, images.read(row)) for row in rows]
                self._room.acquire()
                if self._stopped or shard.lost:
                    self._room.release()
                    return
                self._decoders.submit(self._decode, shard, data, tell)

    def _decode(self, shard: ShardRows, data: list[tuple[int, bytes]], tell: Callable[[Any], None]) -> None:
        try:
            tell([self._picture(shard, row, image) for row, image in data])
        except BaseException as error:  # noqa: BLE001 - handed to the event loop, which raises it
            tell(error)

    def _picture(self, shard: ShardRows, row: int, data: bytes) -> Picture:
        """Ready to be asked about; what cannot be has no image."""
        uid, text = shard.index.uids[row], self._preparation.alt_text(shard.index.texts[row])
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in self._quarantine:
            return Picture(shard, uid, None, text, sha256, Status.QUARANTINED)
        try:
            return Picture(shard, uid, self._preparation.pixels(data), text, sha256)
        except ImageFault as fault:
            return Picture(shard, uid, None, text, sha256, reason=fault.reason)
