"""What the local runner prints in, what a person wants to see of it out; the whole of it goes to a file."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from pathlib import Path
from typing import TextIO

from hqclip.log import REASON

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_ENDED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_OURS = re.compile(r"\s*(?:\[\d+\] )?(hqclip [\w ]+: .*)")
TAIL = 30  # lines shown of a task that failed without saying why


def plain(text: str) -> str:
    """The text without colours."""
    return _COLOUR.sub("", text)


class Console(io.TextIOBase):
    """Stands for stdout while a pipeline runs: tasks as they start and end, what our stages say, and no more."""

    def __init__(self, shown: TextIO, log: Path) -> None:
        self._shown = shown
        self._log = log.open("a", encoding="utf-8")
        self._start = time.monotonic()
        self._line = ""
        self._tail: deque[str] = deque(maxlen=TAIL)

    def write(self, text: str) -> int:
        """Take some text; whole lines are looked at."""
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._look_at(plain(line))
        return len(text)

    def flush(self) -> None:
        """Bring the file up to date."""
        self._log.flush()

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _look_at(self, line: str) -> None:
        self._tail.append(line)
        if match := _STARTED.search(line):
            self._say(f"{match[1]} ...")
        elif match := _ENDED.search(line):
            self._say(f"{match[1]} {'done' if match[2] == 'SUCCESS' else 'FAILED'}")
            if match[2] != "SUCCESS" and not any(REASON.search(tail) for tail in self._tail):
                self._shown.write("\n".join(f"    | {tail}" for tail in self._tail) + "\n")
        elif match := _OURS.fullmatch(line):
            self._say(f"    {match[1]}")

    def _say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._start)
        self._shown.write(f"{seconds // 60:3d}:{seconds % 60:02d}  {text}\n")
        self._shown.flush()
