"""No process outlives the one that started it: a watcher that kills them when that one is gone, however it went.

`python -m hqclip.annotate.orphans PID ...` waits for the end of its standard input, which only the parent can write
to, and then kills the processes. vLLM's own children do not notice when their parent is killed, and keep the GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress


class Watcher:
    """Watches over children of this process until it is told to finish, or this process is gone."""

    def __init__(self, pids: Sequence[int]) -> None:
        command = [sys.executable, "-m", "hqclip.annotate.orphans", *map(str, pids)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def finish(self) -> None:
        """Kill what is still there, and watch no more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def main(pids: Sequence[str]) -> None:
    """Wait for the parent to go, then kill what it left."""
    sys.stdin.read()
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
