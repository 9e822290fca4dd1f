"""No process outlives the one that started it: a reaper kills them when that one is gone, however it went.

`python -m hqclip.annotate.process_reaper PID` notes every process that comes up below PID, until its standard input
ends, which only its parent can write to. vLLM's own children do not notice when their parent is killed, and keep the
GPU.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from contextlib import suppress

import psutil

EVERY_S = 0.5
GRACE_S = 10.0  # for killed processes to be gone: they may have to give much memory back
DONE = b"done"


class ProcessReaper:
    """Watches what this process starts, until it is told to finish or this process is gone."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "hqclip.annotate.process_reaper", str(psutil.Process().pid)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has seen what was there before

    def finish(self) -> None:
        """Kill what vLLM left, and watch no more; nothing happens if that was done."""
        if self._process.poll() is None:
            self._process.communicate(DONE)


def main(parent: int) -> None:
    """Note, wait, kill."""
    before = _below(parent)
    print("watching", flush=True)
    seen: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        seen |= _below(parent) - before
    seen |= _below(parent) - before
    only_vllm = sys.stdin.buffer.read() == DONE
    condemned = [process for process in seen if not only_vllm or _name(process).startswith("VLLM")]
    for process in condemned:
        with suppress(psutil.Error):  # gone, which is what is wanted; a number that was given anew is another process
            process.kill()
    end = time.monotonic() + GRACE_S
    while any(map(_name, condemned)) and time.monotonic() < end:
        time.sleep(0.02)


def _name(process: psutil.Process) -> str:
    """What it is called; nothing once it has ended, also while its parent has not noticed."""
    with suppress(psutil.Error):
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    return ""


def _below(parent: int) -> set[psutil.Process]:
    """The processes below another, without this one."""
    with suppress(psutil.NoSuchProcess):
        return {child for child in psutil.Process(parent).children(recursive=True) if child != psutil.Process()}
    return set()


if __name__ == "__main__":
    main(int(sys.argv[1]))
