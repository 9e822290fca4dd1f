"""One process of a job: `python -m hqclip.agent.rank STORE_URI KEY` runs its stage and says how that ended.

Started by an agent, as one rank of a gang or as a replica. The result goes to `launch/{key}/result.json`, a fault to
the error file that the agent named.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hqclip import log
from hqclip.agent.exit_agreement import publish
from hqclip.errors import ConfigError, HQClipError
from hqclip.launch.exit_status import ExitStatus, write_error_file
from hqclip.launch.job import Job, folder, read_job
from hqclip.process_watch import end_this_process, when_parent_is_gone
from hqclip.stages import STAGES, run_stage
from hqclip.store import open_store

AGENT_PID, AGENT_NAME = "HQCLIP_AGENT_PID", "HQCLIP_AGENT_NAME"  # set by the agent; the name is `{node}-{n}`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage of a job in this process; the exit code."""
    store_uri, key = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the agent passes it on as SIGTERM
    try:
        job = read_job(open_store(store_uri), key)
        # left alone, this rank would keep its GPU
        when_parent_is_gone(os.environ.get(AGENT_PID), functools.partial(end_this_process, job.shutdown_s))
        _run(job, store_uri, key)
    except HQClipError as error:
        if _write_exit_status(error).is_permanent:
            _publish(store_uri, key, error)
        return log.fault(key, error)
    except Exception as error:  # nothing is hidden: it is told to the agent, printed, and ends the process
        _write_exit_status(error)
        traceback.print_exc()
        return 1
    return 0


def _run(job: Job, store_uri: str, key: str) -> None:
    if job.stage not in STAGES:
        raise ConfigError(f"stage {job.stage!r} of job {job.name}: this version of hqclip has no such stage")
    settings = STAGES[job.stage].settings.from_mapping(job.settings, f"{job.stage}.")
    result = run_stage(job.stage, settings)
    if os.environ.get("RANK", "0") == "0":
        said = (json.dumps(result, indent=1) + "\n").encode()
        open_store(store_uri).write(f"{folder(key)}/result.json", said, create_only=False)


def _write_exit_status(error: Exception) -> ExitStatus:
    exit_status = ExitStatus.of(error, int(os.environ.get("RANK", "0")))
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        write_error_file(Path(path), exit_status)
    return exit_status


def _publish(store_uri: str, key: str, error: HQClipError) -> None:
    """Tell the other agents of a gang at once: this rank's own may wait long for ranks that hang."""
    agent = os.environ.get(AGENT_NAME)
    if agent and "RANK" in os.environ:
        try:
            publish(open_store(store_uri), key, agent, error.exit_code)
        except HQClipError as fault:
            log.warning(key, f"exit code {error.exit_code} was not shared: {fault}")


def leave(code: int) -> None:
    """End this process with the code, at once if it is one of several that broke: its threads may wait for others."""
    if code and "RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
