"""What every container of a job runs: `python -m hqclip.agent STORE_URI KEY`, or `hqclip-agent`.

It starts the ranks of its node and turns their end into an exit code that a scheduler can act on:

    0    done
    64, 65, 66, 70, 73, 77, 78    trying again does not help; errors.py says what they mean
    75   stopped because the launcher is gone, or by the stage's own settings; the same job continues
    137  a rank was killed: out of memory, or from outside
    143  SIGTERM, after what was finished was kept
    69   node 0 or the store did not answer
    1    anything else

Environment: HQCLIP_NODE (number of this node), HQCLIP_RENDEZVOUS (host:port of node 0, for a gang of several nodes, or
:port where node 0 writes its HQCLIP_POD_IP into the store),
HQCLIP_ATTEMPT, HQCLIP_POD, HQCLIP_TERMINATION_LOG, HQCLIP_PARENT (process id of a launcher that started it; all may be
missing).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hqclip import log
from hqclip.agent.stop import Halt, Stop

RANK_MODULE = "hqclip.agent.rank"


def main(argv: Sequence[str] | None = None, *, rank_module: str = RANK_MODULE) -> int:
    """Do the work of one node of a job, to its end; the exit code. The ranks run `rank_module`."""
    stop = Stop()
    stop.listen()  # first of all: importing takes a while
    try:
        from hqclip.agent.agent import run_agent

        return run_agent(sys.argv[1:] if argv is None else argv, stop, rank_module)
    except Halt:  # before there was anything to tell
        return log.fault("agent", stop.error())


if __name__ == "__main__":
    sys.exit(main())
