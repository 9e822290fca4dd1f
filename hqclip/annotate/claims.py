"""Which replica works on which shard: claims that are kept alive by a heartbeat, and taken over when it stops.

Only a saving: two replicas on one shard do its work twice, but its sidecar is created once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hqclip.errors import ConflictError, NotFoundError
from hqclip.store import ObjectInfo, Store
from hqclip.store.lease import Freshness, content, new_owner


class Claims:
    """The claims of one replica under `folder`. Safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        folder: str,
        *,
        stale_s: float,
        owner: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = owner or new_owner()
        self._store, self._folder = store, folder
        self._others = Freshness(stale_s, clock)
        self._held: dict[str, ObjectInfo] = {}
        self._beats = 0
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Claim a shard; False if a living replica holds it. Raises what the store raises."""
        there = self._store.stat(self._key(name))
        if there is not None:
            self._others.see(name, there.generation)
            if not self._others.is_stale(name):
                return False
        try:
            held = self._store.swap(self._key(name), self._content(), expected=there)
        except ConflictError:
            return False  # somebody was quicker
        with self._lock:
            self._held[name] = held
        return True

    def beat(self) -> list[str]:
        """Renew every claim that is held; the names of those that were lost to somebody else."""
        lost = []
        for name, info in list(self._held.items()):
            try:
                renewed = self._store.swap(self._key(name), self._content(), expected=info)
            except (ConflictError, NotFoundError):
                lost.append(name)
                renewed = None
            with self._lock:
                if name in self._held and renewed is not None:
                    self._held[name] = renewed
                elif renewed is None:
                    self._held.pop(name, None)
        return lost

    def release(self, name: str) -> None:
        """Give a shard back, done or not; nothing happens if it was lost before."""
        with self._lock:
            held = self._held.pop(name, None)
        if held is None:
            return
        there = self._store.stat(self._key(name))
        if there is not None and there.generation == held.generation:
            self._store.delete(self._key(name))

    def release_all(self) -> None:
        """Give everything back."""
        for name in list(self._held):
            self.release(name)

    def _content(self) -> bytes:
        self._beats += 1
        return content(self.owner, self._beats)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}.json"
