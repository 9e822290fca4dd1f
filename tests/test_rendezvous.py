"""Agents that come early, late, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousInfo

from hqclip.agent import rendezvous
from hqclip.agent.rendezvous import Rendezvous, split_endpoint
from hqclip.errors import ConfigError, HQClipError, UnavailableError

PATIENCE_S = 120.0


@pytest.fixture
def endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def come(endpoint: str, node: int, nodes: int = 2, timeout_s: float = PATIENCE_S) -> Rendezvous:
    return Rendezvous("run", endpoint, node, nodes, timeout_s)


def aside(work: Callable[[], RendezvousInfo]) -> tuple[threading.Thread, list[RendezvousInfo]]:
    found: list[RendezvousInfo] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


def test_every_node_has_its_own_number_whoever_comes_first(endpoint: str):
    thread, late = aside(come(endpoint, 1).next_rendezvous)
    first = come(endpoint, 0).next_rendezvous()
    thread.join(PATIENCE_S)
    assert [(info.rank, info.world_size) for info in (first, *late)] == [(0, 2), (1, 2)]
    ports = {info.bootstrap_store_info and info.bootstrap_store_info.master_port for info in (first, *late)}
    assert ports == {split_endpoint(endpoint)[1]}
    first.store.set("said", "by node 0")
    assert late[0].store.get("said") == b"by node 0"


def test_a_single_node_meets_on_any_free_port():
    info = come("localhost:0", 0, nodes=1).next_rendezvous()
    assert info.bootstrap_store_info is not None
    assert info.bootstrap_store_info.master_port > 0


def test_who_does_not_come_is_named(endpoint: str):
    with pytest.raises(UnavailableError, match="node 1, 2 did not come within 0 s"):
        come(endpoint, 0, nodes=3, timeout_s=0.2).next_rendezvous()
    with pytest.raises(UnavailableError, match=f"node 0 at {endpoint} did not answer"):
        come(endpoint, 1, timeout_s=0.2).next_rendezvous()
    with pytest.raises(UnavailableError, match="node 0 at nobody.invalid:1 did not answer"):
        come("nobody.invalid:1", 1, timeout_s=0.2).next_rendezvous()


def test_a_node_0_of_an_earlier_attempt_that_goes_away_is_waited_out(endpoint: str):
    port = split_endpoint(endpoint)[1]
    old = TCPStore("localhost", port, is_master=True, timeout=timedelta(seconds=PATIENCE_S), wait_for_workers=False)
    thread, late = aside(come(endpoint, 1).next_rendezvous)
    PrefixStore("run", old).wait(["here/1"])  # it takes the old one for the new
    del old
    first = come(endpoint, 0).next_rendezvous()
    thread.join(PATIENCE_S)
    assert [info.rank for info in (first, *late)] == [0, 1]


def test_a_node_notices_when_node_0_is_gone(endpoint: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rendezvous, "CHECK_S", 0.0)
    node_0, node_1 = come(endpoint, 0), come(endpoint, 1)
    thread, found = aside(node_1.next_rendezvous)
    info = node_0.next_rendezvous()
    thread.join(PATIENCE_S)
    assert node_0.num_nodes_waiting() == node_1.num_nodes_waiting() == 0
    del node_0, info
    end = time.monotonic() + PATIENCE_S
    with pytest.raises(UnavailableError, match="node 0 at .* is gone"):
        while time.monotonic() < end:
            node_1.num_nodes_waiting()


@pytest.mark.parametrize("endpoint", ["", "node-0", "29500", "node-0:http"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str):
    with pytest.raises(ConfigError, match="give host:port of node 0") as fault:
        split_endpoint(endpoint)
    assert isinstance(fault.value, HQClipError)


def test_node_0_is_asked_for_where_its_pod_has_no_name(endpoint: str):
    host, port = split_endpoint(endpoint)
    said = ["", OSError("the store is away"), "127.0.0.9", host]  # not begun, unknown, of an attempt before, there

    def node_0() -> str:
        answer = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    late = Rendezvous("run", f":{port}", 1, 2, PATIENCE_S, node_0=node_0)
    thread, found = aside(late.next_rendezvous)
    first = come(endpoint, 0).next_rendezvous()
    thread.join(PATIENCE_S)
    assert [info.rank for info in (first, *found)] == [0, 1]
    with pytest.raises(UnavailableError, match=r"node 0 at :\d+ did not answer for 0 s: it has not begun"):
        Rendezvous("run", f":{port}", 1, 2, 0.2, node_0=str).next_rendezvous()
