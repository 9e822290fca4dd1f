"""The launcher says that it is still there; the agents notice when it no longer does.

Nobody's clock is compared with anybody else's: a lease is stale when it has not changed for a while on the watch of
the agent that looks.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from hqclip.errors import HQClipError, TerminatedError
from hqclip.launch.job import folder
from hqclip.store import Store

LOOKS = 5  # in the time after which a lease is stale


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
        self._store, self._key, self._interval_s = store, f"{folder(key)}/lease.json", interval_s
        self._owner = owner or f"{socket.gethostname()}-{os.getpid()}"
        self._beats = 0
        self._end = threading.Event()
        self._wait = wait or self._end.wait
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self.renew()  # before anything starts that looks at it
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()

    def renew(self) -> None:
        """Change the lease; what the store refuses is only reported. A launcher that is stopped meanwhile, stops."""
        self._beats += 1
        lease = {"owner": self._owner, "beat": self._beats, "time": time.time()}
        try:
            self._store.write(self._key, json.dumps(lease).encode(), create_only=False)
        except TerminatedError:
            raise
        except HQClipError as error:
            print(f"hqclip launch: the lease was not renewed: {error}", file=sys.stderr, flush=True)

    def _keep(self) -> None:
        while not self._wait(self._interval_s) and not self._end.is_set():
            self.renew()


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
        self._store, self._key = store, f"{folder(key)}/lease.json"
        self._stale_s, self._lost, self._clock = stale_s, lost, clock
        self._generation = ""
        self._changed = clock()
        self._end = threading.Event()

    def __enter__(self) -> LeaseWatch:
        if self._stale_s > 0:
            self._changed = self._clock()
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
            print(f"hqclip agent: the lease cannot be read: {error}", file=sys.stderr, flush=True)
            return
        if there is not None and there.generation != self._generation:
            self._generation, self._changed = there.generation, self._clock()

    def is_stale(self) -> bool:
        """Whether it has not changed for too long, as far as is known."""
        return self._clock() - self._changed > self._stale_s

    def _look_on(self) -> None:
        self.look()
        while not self._end.wait(self._stale_s / LOOKS):
            self.look()

    def _judge_on(self) -> None:
        while not self._end.wait(self._stale_s / LOOKS):
            if self.is_stale():
                self._lost()
                return
