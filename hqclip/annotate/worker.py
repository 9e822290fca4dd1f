"""One process at work on the shards of a pool: everything between the store and a started engine, and back."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hqclip import log
from hqclip.annotate.admission import MAX_STRIKES
from hqclip.annotate.annotator import Annotator
from hqclip.annotate.claims import Claims
from hqclip.annotate.dispatcher import Dispatcher
from hqclip.annotate.engines.protocol import Engine, EngineInfo
from hqclip.annotate.engines.readiness import start_in_time
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.partial_rows import RowWriter, ShardRows
from hqclip.annotate.picture import Picture
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.quarantine import quarantine, quarantined
from hqclip.annotate.reader import Reader
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.annotate.shard_queue import ShardQueue
from hqclip.annotate.supervisor import Limits
from hqclip.annotate.worklog import WorkLog
from hqclip.config import AnnotateConfig
from hqclip.errors import HQClipError, TerminatedError
from hqclip.gpu import busy_meter
from hqclip.progress import Progress
from hqclip.records import AnnotatedRow, ShardEntry
from hqclip.store import Store
from hqclip.termination import stopped_by_sigterm

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
        self._shards = ShardQueue(
            store, folder, entries, self._claims if config.claims else None, min(POLL_S, config.claim_stale_s / BEATS)
        )
        self._writer = RowWriter(annotator.digest)
        self._rows = sum(entry.rows for entry in entries)
        self._progress = Progress("annotate", self._rows, "images")
        self._num_shards = len(entries)

    async def run(self) -> None:
        """Work until every shard is done. Raises `TerminatedError` on SIGTERM."""
        engine = make_engine(self._config, self._annotator.prompt, self._annotator.folder or self._config.model)
        try:
            info = await start_in_time(engine, self._config.ready_s)
            what = f"{info.name} {info.version} on {info.device}, {info.max_num_seqs} sequences at a time"
            log.info("annotate", f"{what}")
            me = asyncio.current_task()
            assert me is not None
            with self._progress, stopped_by_sigterm(me.cancel) as terminated:
                try:
                    await self._annotate(engine, info)
                except asyncio.CancelledError:
                    if not terminated():
                        raise
                    raise TerminatedError("SIGTERM: what was finished is kept, the same command continues") from None
        finally:
            await engine.close()

    async def _annotate(self, engine: Engine, info: EngineInfo) -> None:
        window = self._config.in_flight or math.ceil(1.1 * info.max_num_seqs)
        dispatcher = Dispatcher(
            engine,
            RetryPolicy.of(self._config),
            window=window,
            limits=Limits(self._config.timeout_s, self._config.ready_s, max_restarts=self._config.max_restarts),
        )
        self._log = WorkLog(
            self._store,
            f"{self._folder}/work/{self._claims.owner}",
            self._rows,
            self._num_shards,
            window,
            dispatcher.counts,
            busy_share=busy_meter(info.num_gpus),
            info=info,
        )
        reader = Reader(
            self._store,
            self._shards,
            Preparation.of(self._annotator, self._config.max_alt_tokens),
            quarantined(self._store),
            threads=self._config.decode_threads,
            ahead=max(AHEAD, window // 4),
        )
        try:
            async with self._alongside(self._heartbeat()), self._alongside(self._report()):
                await dispatcher.run(reader.pictures(self._opened), self._keep)
        finally:
            reader.stop()
            await self._close()

    async def _opened(self, shard: ShardRows) -> None:
        self._writer.shards[shard.entry.name] = shard
        self._progress.advance(shard.resumed)
        if shard.left == 0 and await self._writer.finish(shard):
            await self._done(shard)

    async def _keep(self, picture: Picture, row: AnnotatedRow) -> None:
        shard: ShardRows = picture.place
        if shard.lost:
            return
        if picture.strikes >= MAX_STRIKES:
            await asyncio.to_thread(self._quarantine, picture, row)
        self._log.add(row)
        self._progress.advance()
        if await self._writer.add(shard, row):
            await self._done(shard)

    async def _done(self, shard: ShardRows) -> None:
        self._log.shards += 1
        await asyncio.to_thread(self._shards.release, shard.entry.name)

    def _quarantine(self, picture: Picture, row: AnnotatedRow) -> None:
        about = {"uid": picture.uid, "shard": picture.place.entry.key, "annotator": self._annotator.digest}
        quarantine(self._store, picture.sha256, {**about, "reason": row.answer})

    async def _heartbeat(self) -> None:
        while self._config.claims:
            await asyncio.sleep(self._config.claim_stale_s / BEATS)
            try:
                lost = await asyncio.to_thread(self._claims.beat)
            except HQClipError as error:  # claims only save work: annotation goes on without them
                log.warning("annotate", f"no heartbeat ({error})")
                continue
            for name in lost:
                shard = self._writer.shards.pop(name, None)
                if shard is not None:
                    shard.lost = True
                    log.info("annotate", f"{name} was taken over by another replica")
                self._shards.release(name)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._log.look()
            if self._log.is_due():
                await asyncio.to_thread(self._log.write)

    @asynccontextmanager
    async def _alongside(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
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
        for closing in (self._writer.close(), *in_threads):
            try:
                await closing
            except HQClipError:
                if first is None or isinstance(first, asyncio.CancelledError):
                    raise
