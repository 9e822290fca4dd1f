"""The rendezvous of the agents of a gang before their ranks start: a store of torch's on node 0, which each node joins.

torch has two of its own: one numbers the nodes by their addresses, so that rank 0 is anywhere; the other
cannot be interrupted while it waits. Here node 0 has rank 0, SIGTERM counts at once, and who does not come is named.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, TCPStore  # type: ignore[attr-defined]  # so documented
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

from hqclip.backoff import pause_s
from hqclip.errors import ConfigError, HQClipError, UnavailableError

BACKEND = "hqclip"
STORE_S = 60  # that one question to the store may take
RETRY_S = 0.5  # between two looks at who has joined; between two tries to connect at first, and
LONGEST_S = 5.0  # at last: thousands may wait for one
CHECK_S = 5.0  # between two looks whether node 0 is still there


class Rendezvous(RendezvousHandler):
    """That of `nodes` agents at `host:port` as `node` sees it. Port 0, for a single node, is any free one.

    Of an endpoint `:port`, `node_0` is asked for the host before each try; it is empty while node 0 has not begun.
    """

    def __init__(
        self,
        run_id: str,
        endpoint: str,
        node: int,
        nodes: int,
        timeout_s: float,
        *,
        node_0: Callable[[], str] = str,
    ) -> None:
        self._run_id, self._node, self._nodes, self._timeout_s = run_id, node, nodes, timeout_s
        host, self._port = split_endpoint(endpoint)
        self._host = host if node else "localhost"  # node 0 may not know its own name yet
        self._find_host: Callable[[], str] = (lambda: host) if host else node_0
        self._store: PrefixStore | None = None
        self._checked = 0.0

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait until all have joined. Raises `UnavailableError`."""
        end = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._join(end)
            except DistError:
                if self._node == 0 or time.monotonic() > end:
                    raise
            time.sleep(RETRY_S)  # that was the node 0 of an attempt before, on its way out

    def num_nodes_waiting(self) -> int:
        """None ever: a gang starts again as a whole. Raises `UnavailableError` once node 0 is gone."""
        now = time.monotonic()
        if self._node and self._store is not None and now > self._checked + CHECK_S:
            self._checked = now
            try:
                self._store.check([_joined(0)])
            except DistError as error:
                raise UnavailableError(f"node 0 at {self._host}:{self._port} is gone: {error}") from error
        return 0

    def _join(self, end: float) -> RendezvousInfo:
        if self._node:
            self._wait_for_node_0(end)
        store = TCPStore(
            self._host,
            self._port,
            is_master=self._node == 0,
            timeout=timedelta(seconds=STORE_S),
            wait_for_workers=False,
            multi_tenant=True,
        )
        ours = PrefixStore(self._run_id, store)
        ours.set(_joined(self._node), "")
        nodes = {node: _joined(node) for node in range(self._nodes)}
        while not ours.check(list(nodes.values())):
            if time.monotonic() > end:
                missing = [str(node) for node, key in nodes.items() if not ours.check([key])]
                raise UnavailableError(f"node {', '.join(missing)} did not come within {self._timeout_s:.0f} s")
            time.sleep(RETRY_S)
        self._store, self._checked = ours, time.monotonic()
        return RendezvousInfo(ours, self._node, self._nodes, RendezvousStoreInfo(self._host, store.port))

    def _wait_for_node_0(self, end: float) -> None:
        """Until node 0 has a name and answers: its pod may start minutes later."""
        for tried in itertools.count():
            try:
                self._host = self._find_host()
                if not self._host:
                    raise OSError("it has not begun")
                socket.create_connection((self._host, self._port), timeout=10).close()
                return
            except (OSError, ValueError, HQClipError) as error:  # the store may be away, or half a record be there
                if time.monotonic() > end:
                    where = f"node 0 at {self._host}:{self._port}"
                    raise UnavailableError(f"{where} did not answer for {self._timeout_s:.0f} s: {error}") from error
            time.sleep(pause_s(tried, first_s=RETRY_S, longest_s=LONGEST_S))

    def get_backend(self) -> str:
        """Its name in torch's registry."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """The ranks use the same store."""
        return True

    def is_closed(self) -> bool:
        """It is held once."""
        return False

    def set_closed(self) -> None:
        """It is held once."""

    def get_run_id(self) -> str:
        """What tells different attempts apart."""
        return self._run_id

    def shutdown(self) -> bool:
        """Its store ends with this process."""
        return True


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` as two, `:port` with an empty host. Raises `ConfigError`."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isdecimal():
        raise ConfigError(f"HQCLIP_RENDEZVOUS is {endpoint!r}; give host:port of node 0, or :port")
    return host.strip("[]"), int(port)


def register() -> None:
    """Make it known to torchrun under `BACKEND`; twice is as good as once."""
    rendezvous_handler_registry.register(BACKEND, _made)


def _made(parameters: RendezvousParameters) -> RendezvousHandler:
    node, timeout_s = int(parameters.get("node")), float(parameters.get("timeout"))
    node_0 = parameters.get("node_0")
    return Rendezvous(parameters.run_id, parameters.endpoint, node, parameters.max_nodes, timeout_s, node_0=node_0)


def _joined(node: int) -> str:
    """The key that is there once the node has joined."""
    return f"here/{node}"
