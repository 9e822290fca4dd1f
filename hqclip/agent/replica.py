"""One process of a job whose processes share their work through the store: started, waited for, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from hqclip.agent.stop import Halt
from hqclip.launch.exit_status import ERROR_FILE, ExitStatus, agent_exit_status, read_error
from hqclip.store.leftovers import scratch_folder
from hqclip.typed_json import loads

OF_A_GANG = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def run_replica(node: int, command: Sequence[str], shutdown_s: float) -> ExitStatus:
    """Run `python {command}` to its end; how it ended. Its output is that of this process.

    Raises `Halt` after the process was told to stop and has done so, within `shutdown_s` (0: it has forever).
    """
    with scratch_folder() as folder:
        error_file = folder / ERROR_FILE
        environment = {name: value for name, value in os.environ.items() if name not in OF_A_GANG}
        environment["TORCHELASTIC_ERROR_FILE"] = str(error_file)
        process = subprocess.Popen([sys.executable, *command], env=environment)
        try:
            code = process.wait()
        except Halt:
            if _stop(process, shutdown_s) != 0:
                raise
            return ExitStatus(exit_code=0)  # it had just finished
        if code == 0:
            return ExitStatus(exit_code=0)
        said = loads(error_file.read_bytes()) if error_file.exists() else {}
        return agent_exit_status(read_error(said, code, node))


def _stop(process: subprocess.Popen[bytes], shutdown_s: float) -> int:
    process.terminate()
    try:
        return process.wait(shutdown_s or None)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
