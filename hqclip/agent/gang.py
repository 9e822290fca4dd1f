"""One program on several ranks and machines: the ranks of this node by torchrun, inside this process.

torchrun on its own ends with 1 whatever happened, so its parts are called: the cause of a failure is in what it raises.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hqclip.agent.stop import Halt, Stop
from hqclip.launch.exit_status import ExitStatus, agent_exit_status, broke_first, left_behind, read_error
from hqclip.launch.job import Job
from hqclip.store.leftovers import scratch_folder

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

FOREVER_S = 7 * 86400
THREADS, GRACE = "OMP_NUM_THREADS", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"


def run_gang(
    job: Job, node: int, run_id: str, command: Sequence[str], stop: Stop, node_0: Callable[[], str]
) -> ExitStatus:
    """Start `nproc` ranks of `python {command}`, together with those of the other nodes; how that ended.

    `node_0` finds the address of node 0, where the environment has only its port.

    Raises `Halt` once the ranks have ended because of it, and `UnavailableError` if the rendezvous fails.
    """
    with stop.deferred():  # half a torch is not fit to end with
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch

        from hqclip.agent import rendezvous

        rendezvous.register()

    if job.nproc > 1:
        os.environ.setdefault(THREADS, "1")  # as torchrun has it
    os.environ[GRACE] = str(_seconds(job.shutdown_s))

    def as_torchrun() -> SignalException:
        return SignalException("asked to stop", signal.SIGTERM)

    def found() -> str:
        stop.breaks_in = Halt  # clients of stores try again after any Exception, and no rank runs yet
        try:
            return node_0()
        finally:
            stop.breaks_in = as_torchrun

    with scratch_folder() as folder:
        try:
            stop.breaks_in = as_torchrun
            elastic_launch(_config(job, node, run_id, folder, found), sys.executable)(*command)
        except SignalException:
            cause = broke_first(end for end in left_behind(folder) if end.timestamp < stop.asked_at)
            if cause is None:
                raise Halt from None
            return agent_exit_status(cause)  # it had broken before, and others of its ranks did not come to an end
        except ChildFailedError as error:
            stop.armed = False  # the cause is known: a request must not take its place
            ends = [read_error(f.error_file_data, f.exitcode, rank) for rank, f in error.failures.items()]
            return agent_exit_status(broke_first(ends) or ends[0])
        finally:
            stop.breaks_in, stop.armed = Halt, True
    return ExitStatus(exit_code=0)


def _config(job: Job, node: int, run_id: str, folder: Path, node_0: Callable[[], str]) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    from hqclip.agent.rendezvous import BACKEND

    return LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.nproc,
        run_id=run_id,
        role="rank",
        rdzv_backend=BACKEND,
        rdzv_endpoint=os.environ.get("HQCLIP_RENDEZVOUS", "") if job.nodes > 1 else "localhost:0",
        rdzv_configs={"node": node, "timeout": _seconds(job.rendezvous_timeout_s), "node_0": node_0},
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder), tee=Std.ALL),
        log_line_prefix_template="[${rank}] ",
        signals_to_handle="SIGHUP,SIGQUIT",  # SIGTERM and SIGINT stay with the agent
    )


def _seconds(limit_s: float) -> int:
    return math.ceil(limit_s) or FOREVER_S
