"""The launcher says that it is still there; the agents notice when it no longer does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, TypedDict

from hqclip import log
from hqclip.errors import DataError, HQClipError, NotFoundError
from hqclip.launch.job import folder
from hqclip.store import Store
from hqclip.store.lease import Freshness, Heartbeat, content, new_owner
from hqclip.typed_json import loads, read_as

LOOKS = 5  # in the time after which a lease is stale


class LastLook(NamedTuple):
    """Who watched a job last, and when, in seconds since 1970 by the clock of the launcher."""

    owner: str
    time: float


class _Lease(TypedDict):
    """As `LastLook` on disk, and more."""

    owner: str
    time: float


def last_look(store: Store, key: str) -> LastLook | None:
    """What the lease of a job says, None if it has none. Raises `DataError` if it is damaged."""
    try:
        lease = read_as(_Lease, loads(store.read(_where(key))))
        return LastLook(lease["owner"], float(lease["time"]))
    except NotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{_where(key)} in {store.uri}: not a lease: {error!r}") from error


def _where(key: str) -> str:
    return f"{folder(key)}/lease.json"


class LeaseKeeper:
    """While entered, renews the lease of a job every `interval_s`, in a thread of its own.

    A store that fails is reported and tried again. The lease stays at the end: whoever adopts the job goes on with it.
    `wait` sleeps for so many seconds, or less and says True once it is set.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        interval_s: float,
        owner: str = "",
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._store, self._key, self._owner = store, _where(key), owner or new_owner()
        self._beats = 0
        self._heartbeat = Heartbeat(self.renew, interval_s, wait)

    def __enter__(self) -> LeaseKeeper:
        self.renew()  # before anything starts that looks at it
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heartbeat.__exit__(kind, error, trace)

    def renew(self) -> None:
        """Change the lease; what the store refuses is only reported."""
        self._beats += 1
        try:
            self._store.write(self._key, content(self._owner, self._beats), create_only=False)
        except HQClipError as error:
            log.warning("launch", f"the lease was not renewed: {error}")


class LeaseWatch:
    """While entered, calls `lost` once if the lease of a job has not changed for `stale_s`, from another thread.

    That is so too when there is no lease, and when the store does not answer: nobody can renew anything there then.
    A `stale_s` of 0 watches nothing.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        stale_s: float,
        lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._key = store, _where(key)
        self._stale_s, self._lost = stale_s, lost
        self._freshness = Freshness(stale_s, clock)
        self._freshness.see(self._key, "")
        self._end = threading.Event()

    def __enter__(self) -> LeaseWatch:
        if self._stale_s > 0:
            # Looking may take minutes when the store is slow, so somebody else looks at the clock.
            for turn in (self._look_on, self._judge_on):
                threading.Thread(target=turn, name="lease", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()

    def look(self) -> None:
        """Note whether the lease has changed."""
        try:
            there = self._store.stat(self._key)
        except HQClipError as error:
            log.warning("agent", f"the lease cannot be read: {error}")
            return
        if there is not None:
            self._freshness.see(self._key, there.generation)

    def is_stale(self) -> bool:
        """Whether it has not changed for too long, as far as is known."""
        return self._freshness.is_stale(self._key)

    def _look_on(self) -> None:
        self.look()
        while not self._end.wait(self._stale_s / LOOKS):
            self.look()

    def _judge_on(self) -> None:
        while not self._end.wait(self._stale_s / LOOKS):
            if self.is_stale():
                self._lost()
                return
