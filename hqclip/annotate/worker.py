"""One process at work on the shards of a pool: everything between the store and a started engine, and back."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hqclip.annotate.admission import OUT
from hqclip.annotate.annotator import Annotator
from hqclip.annotate.claims import Claims
from hqclip.annotate.dispatcher import Dispatcher, Picture, describe
from hqclip.annotate.engines.protocol import Engine, EngineInfo, make_engine
from hqclip.annotate.partial_rows import Keeper, OpenShard
from hqclip.annotate.reader import Preparation, Reader, Shards, quarantined, token_cutter
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.annotate.worklog import WorkLog
from hqclip.config import AnnotateConfig
from hqclip.errors import HQClipError, TerminatedError
from hqclip.progress import Progress
from hqclip.records import AnnotatedRow, ShardEntry
from hqclip.store import Store

AHEAD = 64  # pictures decoded before there is room for them, at least
POLL_S = 15.0  # between looks at shards that other replicas hold
BEATS = 5  # heartbeats before a claim is stale


class Worker:
    """One process at work on the shards of a pool that are not done."""

    def __init__(
        self, config: AnnotateConfig, store: Store, annotator: Annotator, folder: str, entries: Sequence[ShardEntry]
    ) -> None:
        self._config, self._store, self._annotator, self._folder = config, store, annotator, folder
        self._claims = Claims(store, f"{folder}/claims", stale_s=config.claim_stale_s)
        self._shards = Shards(
            store, folder, entries, self._claims if config.claims else None, min(POLL_S, config.claim_stale_s / BEATS)
        )
        self._keeper = Keeper(annotator.digest)
        self._rows = sum(entry.rows for entry in entries)
        self._progress = Progress("annotate", self._rows, "images")
        self._num_shards = len(entries)

    async def run(self) -> None:
        """Work until every shard is done. Raises `TerminatedError` on SIGTERM."""
        engine = make_engine(self._config, self._annotator.prompt, self._annotator.folder or self._config.model)
        try:
            info = await engine.start()
            print(f"annotate: {describe(info)}", file=sys.stderr, flush=True)
            me = asyncio.current_task()
            assert me is not None
            with self._progress, stopped_by_sigterm(me.cancel) as terminated:
                try:
                    await self._feed(engine, info)
                except asyncio.CancelledError:
                    if not terminated():
                        raise
                    raise TerminatedError("SIGTERM: what was finished is kept, the same command continues") from None
        finally:
            await engine.close()

    async def _feed(self, engine: Engine, info: EngineInfo) -> None:
        window = self._config.in_flight or math.ceil(1.1 * info.max_num_seqs)
        dispatcher = Dispatcher(
            engine,
            RetryPolicy.of(self._config),
            window=window,
            timeout_s=self._config.timeout_s,
            max_restarts=self._config.max_restarts,
        )
        self._log = WorkLog(
            self._store,
            f"{self._folder}/work/{self._claims.owner}",
            self._rows,
            self._num_shards,
            window,
            dispatcher.counts,
            busy_share=gpu_meter(info),
            info=info,
        )
        reader = Reader(
            self._store,
            self._shards,
            Preparation(
                self._annotator.family,
                self._annotator.image_tokens,
                token_cutter(self._annotator.folder, self._config.max_alt_tokens),
                quarantined(self._store),
            ),
            threads=self._config.decode_threads,
            ahead=max(AHEAD, window // 4),
        )
        try:
            async with self._beside(self._heartbeat()), self._beside(self._watch()):
                await dispatcher.run(reader.pictures(self._opened), self._keep)
        finally:
            reader.stop()
            await self._close()

    async def _opened(self, shard: OpenShard) -> None:
        self._keeper.open[shard.entry.name] = shard
        self._progress.advance(shard.resumed)
        if shard.left == 0 and await self._keeper.finish(shard):
            await self._done(shard)

    async def _keep(self, picture: Picture, row: AnnotatedRow) -> None:
        shard: OpenShard = picture.place
        if shard.lost:
            return
        if picture.strikes >= OUT:
            await asyncio.to_thread(self._quarantine, picture, row)
        self._log.add(row)
        self._progress.advance()
        if await self._keeper.keep(shard, row):
            await self._done(shard)

    async def _done(self, shard: OpenShard) -> None:
        self._log.shards += 1
        await asyncio.to_thread(self._shards.let_go, shard.entry.name)

    def _quarantine(self, picture: Picture, row: AnnotatedRow) -> None:
        about = {"uid": picture.uid, "shard": picture.place.entry.key, "annotator": self._annotator.digest}
        record = json.dumps({**about, "reason": row.answer}, indent=1).encode()
        self._store.write(f"quarantine/{picture.sha256}.json", record, create_only=False)

    async def _heartbeat(self) -> None:
        while self._config.claims:
            await asyncio.sleep(self._config.claim_stale_s / BEATS)
            try:
                lost = await asyncio.to_thread(self._claims.beat)
            except HQClipError as error:  # claims only save work: annotation goes on without them
                print(f"annotate: no heartbeat ({error})", file=sys.stderr, flush=True)
                continue
            for name in lost:
                shard = self._keeper.open.pop(name, None)
                if shard is not None:
                    shard.lost = True
                    print(f"annotate: {name} was taken over by another replica", file=sys.stderr, flush=True)
                self._shards.let_go(name)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._log.look()
            if self._log.is_due():
                await asyncio.to_thread(self._log.write)

    @asynccontextmanager
    async def _beside(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Something that goes on while the block does; a fault of it ends the block."""
        me = asyncio.current_task()
        assert me is not None
        task = asyncio.create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception() is None or me.cancel())
        try:
            yield
        finally:
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(done, Exception):
                raise done

    async def _close(self) -> None:
        """Save what is finished and give the shards back. If the store fails here too, the first fault is told."""
        first = sys.exception()
        in_threads = (asyncio.to_thread(close) for close in (self._claims.release_all, self._log.close))
        for closing in (self._keeper.close(), *in_threads):
            try:
                await closing
            except HQClipError:
                if first is None or isinstance(first, asyncio.CancelledError):
                    raise


@contextmanager
def stopped_by_sigterm(stop: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Within the block, the first SIGTERM calls `stop`; the value tells whether it came.

    Outside the main thread nothing is caught, as Python asks.
    """
    came: list[bool] = []

    def handle() -> None:
        if not came:
            came.append(True)
            stop()

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, handle)
    try:
        yield lambda: bool(came)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def gpu_meter(info: EngineInfo) -> Callable[[], float | None]:
    """How busy the GPUs were so far, if there are any."""
    if not info.num_gpus:
        return lambda: None
    from hqclip.annotate.gpu import GpuMeter

    return GpuMeter().busy_share
