"""A stage that does what a test asks for, in the real agent and its real ranks.

`python -m tests.fakes.stages STORE NAME` is the agent, and what that starts by the same name are its ranks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from hqclip.agent import __main__ as agent
from hqclip.agent import rank
from hqclip.errors import ConfigError, TerminatedError
from hqclip.settings import Settings, setting
from hqclip.stages import STAGES, Stage
from hqclip.store import open_store
from hqclip.termination import Termination

PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class FakeConfig(Settings):
    """What to do, on which rank; the other ranks wait until they are told to stop, or hang and do not even hear it."""

    store: str = setting("where")
    act: str = setting("what to do")
    on: int = setting("on which rank; -1: on all", -1)
    others: str = setting("what the others do", "wait", choices=("wait", "hang"))


def run(config: FakeConfig) -> dict[str, Any]:
    """Act, or wait for the end."""
    number = int(os.environ.get("RANK", os.environ["HQCLIP_NODE"]))
    if config.on not in (-1, number):
        return {"wait": wait, "hang": hang}[config.others](config)
    return {"meet": meet, "fault": fault, "bug": bug, "kill": kill, "once": once, "wait": wait}[config.act](config)


def meet(config: FakeConfig) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor([dist.get_rank() + 1.0])
    dist.all_reduce(total)
    print(f"met {dist.get_world_size()}", flush=True)
    dist.destroy_process_group()
    return {
        "total": total.item(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "plugin": os.environ.get("PLUGIN", ""),
        "attempt": os.environ["HQCLIP_ATTEMPT"],
    }


def fault(config: FakeConfig) -> dict[str, Any]:
    raise ConfigError("the batch is odd; give an even one")


def bug(config: FakeConfig) -> dict[str, Any]:
    store = open_store(config.store)
    while config.others == "hang" and not list(store.list("waiting/")):
        time.sleep(0.02)
    raise ZeroDivisionError(f"in rank {os.environ.get('RANK')}")


def kill(config: FakeConfig) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def once(config: FakeConfig) -> dict[str, Any]:
    """Die the first time, finish the second."""
    store = open_store(config.store)
    if store.exists("died"):
        return {"rank": os.environ.get("RANK", "none")}
    store.write("died", b"")
    return kill(config)


def wait(config: FakeConfig) -> dict[str, Any]:
    with Termination() as termination:
        open_store(config.store).write(f"waiting/{os.getpid()}", b"")
        end = time.monotonic() + PATIENCE_S
        while not termination.asked and time.monotonic() < end:
            time.sleep(0.02)
    raise TerminatedError("told to stop; what was finished is kept")


def hang(config: FakeConfig) -> dict[str, Any]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open_store(config.store).write(f"waiting/{os.getpid()}", b"")
    time.sleep(PATIENCE_S)
    return {}


if __name__ == "__main__":
    STAGES["fake"] = Stage("tests.fakes.stages", FakeConfig)
    if rank.AGENT_PID in os.environ:
        rank.leave(rank.main())
    sys.exit(agent.main(rank_module="tests.fakes.stages"))
