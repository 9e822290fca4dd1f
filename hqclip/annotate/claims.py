"""Which replica works on which shard: claims that are kept alive by a heartbeat, and taken over when it stops.

Only a saving: two replicas on one shard do its work twice, but its sidecar is created once. Nobody's clock is
compared with anybody else's: a claim is stale when it has not changed for a while on the watch of the one who looks.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

from hqclip.errors import ConflictError, NotFoundError
from hqclip.store import ObjectInfo, Store


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
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store, self._folder, self._stale_s, self._clock = store, folder, stale_s, clock
        self._held: dict[str, ObjectInfo] = {}
        self._seen: dict[str, tuple[str, float]] = {}  # generation of another's claim, and when it was first seen
        self._beats = 0
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Claim a shard; False if a living replica holds it. Raises what the store raises."""
        there = self._store.stat(self._key(name))
        if there is not None and not self._is_stale(name, there):
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

    def _is_stale(self, name: str, there: ObjectInfo) -> bool:
        generation, since = self._seen.get(name, ("", 0.0))
        if generation != there.generation:
            self._seen[name] = (there.generation, self._clock())
            return False
        return self._clock() - since > self._stale_s

    def _content(self) -> bytes:
        """For people; the beat makes every renewal another content."""
        self._beats += 1
        return json.dumps({"owner": self.owner, "beat": self._beats, "time": round(time.time())}).encode()

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}.json"
