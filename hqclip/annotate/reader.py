"""Shards in, pictures out: read ahead by one thread, decoded and shrunk by a few, handed to the event loop in order."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip.annotate.claims import Claims
from hqclip.annotate.dispatcher import Picture
from hqclip.annotate.lvlm import Family
from hqclip.annotate.partial_rows import OpenShard
from hqclip.annotate.prompt import clean_alt_text
from hqclip.data.images import ImageFault, decode
from hqclip.data.index import ShardImages
from hqclip.records import ShardEntry, Status
from hqclip.store import Store

CHUNK = 8  # pictures decoded in one go


@dataclass(frozen=True)
class Preparation:
    """How a sample is made ready for the LVLM."""

    family: Family
    image_tokens: int
    cut: Callable[[str], str]
    quarantine: frozenset[str] = frozenset()

    def picture(self, shard: OpenShard, row: int, data: bytes) -> Picture:
        """Decode, shrink, clean. What cannot be asked about has no image."""
        uid, text = shard.index.uids[row], self.cut(clean_alt_text(shard.index.texts[row]))
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in self.quarantine:
            return Picture(shard, uid, None, text, sha256, Status.QUARANTINED)
        try:
            return Picture(shard, uid, self.family.fit(decode(data), self.image_tokens), text, sha256)
        except ImageFault:
            return Picture(shard, uid, None, text, sha256)


def token_cutter(model: Path | None, max_tokens: int) -> Callable[[str], str]:
    """Cuts a text after so many tokens of the model's tokenizer; leaves it alone if the model brings none."""
    if model is None or not (model / "tokenizer.json").is_file():
        return lambda text: text
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def cut(text: str) -> str:
        ends = tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(ends) <= max_tokens else text[: ends[max_tokens - 1][1]].rstrip()

    return cut


class Shards:
    """The shards that this replica works on, one after the other, until every one of them is done by somebody."""

    def __init__(
        self, store: Store, folder: str, entries: Sequence[ShardEntry], claims: Claims | None, poll_s: float
    ) -> None:
        self._store, self._folder, self._claims, self._poll_s = store, folder, claims, poll_s
        self._left = deque(entries)
        if claims and entries:  # replicas that start together begin at different places
            self._left.rotate(int(hashlib.sha256(claims.owner.encode()).hexdigest(), 16) % len(entries))
        self._in_work: set[str] = set()
        self._stopped = False
        self._news = threading.Event()

    def __iter__(self) -> Iterator[OpenShard]:
        passed = 0  # shards in a row that somebody else has, or that we have not finished yet
        while self._left and not self._stopped:
            self._news.clear()
            entry = self._left.popleft()
            if self._store.exists(f"{self._folder}/{entry.name}.parquet"):
                passed = 0
                continue
            if entry.name not in self._in_work and (self._claims is None or self._claims.take(entry.name)):
                passed = 0
                self._in_work.add(entry.name)
                yield OpenShard(self._store, self._folder, entry)
                if self._claims is None:
                    continue
            self._left.append(entry)  # look again later: whoever has it may die
            passed += 1
            if passed >= len(self._left):
                self._news.wait(self._poll_s)
                passed = 0

    def let_go(self, name: str) -> None:
        """A shard is done, or was lost to another replica."""
        self._in_work.discard(name)
        if self._claims:
            self._claims.release(name)
        self._news.set()

    def stop(self) -> None:
        """Yield no more."""
        self._stopped = True
        self._news.set()


class Reader:
    """Runs ahead of the engine by `ahead` pictures. Its thread never keeps the process alive."""

    def __init__(self, store: Store, shards: Shards, preparation: Preparation, *, threads: int, ahead: int) -> None:
        self._store, self._shards, self._preparation = store, shards, preparation
        self._decoders = ThreadPoolExecutor(threads, "hqclip-decode")
        self._room = threading.Semaphore(max(2, -(-ahead // CHUNK)))
        self._stopped = False

    async def pictures(self, opened: Callable[[OpenShard], Awaitable[None]]) -> AsyncIterator[Picture]:
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
                if isinstance(item, OpenShard):
                    await opened(item)
                    continue
                for picture in await asyncio.wrap_future(item):
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
            tell(None)
        except BaseException as error:  # noqa: BLE001 - handed to the event loop, which raises it
            tell(error)

    def _read_shard(self, shard: OpenShard, tell: Callable[[Any], None]) -> None:
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
                tell(self._decode(shard, data))

    def _decode(self, shard: OpenShard, data: list[tuple[int, bytes]]) -> Future[list[Picture]]:
        return self._decoders.submit(lambda: [self._preparation.picture(shard, row, image) for row, image in data])


def quarantined(store: Store) -> frozenset[str]:
    """The images, by SHA-256, that killed engines before."""
    return frozenset(key.rpartition("/")[2].removesuffix(".json") for key in store.list("quarantine/"))
