"""How a rank or an agent ended, and which of several ends was the cause of the others.

An end travels from a rank to its agent in the error file of torchrun, whose format is torch's.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip.errors import HQClipError
from hqclip.launch.job import PERMANENT

ERROR_FILE = "error.json"  # as torchrun calls it
STOPPED = 75  # on purpose, resumable: neither a failure nor to be started again by a controller
KILLED = 137
TERMINATED = 143  # SIGTERM came, here or on another node of the gang, and a checkpoint was written
TOGETHER_S = 3.0  # ends this close to the first may be its cause: clocks differ, and a kill is noticed late
SUDDEN = (KILLED, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL)


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """`rank` is the global rank that broke, None for the agent itself; `timestamp` is when, in seconds since 1970.

    The exit code of a process that a signal ended is the signal's number, negative; an agent's never is.
    """

    exit_code: int
    rank: int | None = None
    message: str = ""
    traceback: str = ""
    timestamp: float = 0.0

    @classmethod
    def of(cls, error: Exception, rank: int | None = None) -> ExitStatus:
        """Of what was raised: a fault for people has a message, a bug has its traceback, too."""
        if isinstance(error, HQClipError):
            return cls(exit_code=error.exit_code, rank=rank, message=str(error), timestamp=time.time())
        trace = "".join(traceback.format_exception(error))
        message = f"{type(error).__name__}: {error}"
        return cls(exit_code=1, rank=rank, message=message, traceback=trace, timestamp=time.time())

    @property
    def failed(self) -> bool:
        """Whether it was neither done nor stopped from outside."""
        return self.exit_code not in (0, STOPPED, TERMINATED, -signal.SIGTERM)

    @property
    def is_permanent(self) -> bool:
        """Whether trying again changes nothing."""
        return self.exit_code in PERMANENT


def agent_exit_status(exit_status: ExitStatus) -> ExitStatus:
    """The end of an agent whose rank ended like this: codes that tell a scheduler something stay, others become 1."""
    code = {-signal.SIGKILL: KILLED, -signal.SIGTERM: TERMINATED}.get(exit_status.exit_code, exit_status.exit_code)
    telling = (0, STOPPED, KILLED, TERMINATED, *PERMANENT)
    return dataclasses.replace(exit_status, exit_code=code if code in telling else 1)


def broke_first(exit_statuses: Iterable[ExitStatus]) -> ExitStatus | None:
    """The failure that caused the others, which follow within moments: None if nothing failed.

    A fault for people and a sudden death are never consequences; an agent without a broken rank follows another one.
    """
    failed = [exit_status for exit_status in exit_statuses if exit_status.failed]
    if not failed:
        return None
    for_good = [exit_status for exit_status in failed if exit_status.is_permanent and exit_status.rank is not None]
    if for_good:  # whatever the clocks of the machines say
        return min(for_good, key=lambda exit_status: exit_status.timestamp)
    first = min(exit_status.timestamp for exit_status in failed)
    return min(
        (exit_status for exit_status in failed if exit_status.timestamp <= first + TOGETHER_S),
        key=lambda e: (e.rank is None, not e.is_permanent, e.exit_code not in SUDDEN, not e.message, e.timestamp),
    )


def write_error_file(path: Path, exit_status: ExitStatus) -> None:
    """Leave the end for the agent, whole or not at all: torchrun gives up on half a file."""
    extra: dict[str, Any] = {"timestamp": str(int(exit_status.timestamp)), "time": exit_status.timestamp}
    if exit_status.traceback:
        extra["py_callstack"] = exit_status.traceback
    extra |= {"exit_code": exit_status.exit_code, "rank": exit_status.rank}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"message": {"message": exit_status.message, "extraInfo": extra}}))
    temporary.replace(path)


def read_error(data: Mapping[str, Any], exit_code: int, rank: int) -> ExitStatus:
    """The end of a process by its exit code, and by what it left in its error file; empty if it left nothing."""
    said = data.get("message")
    if not isinstance(said, Mapping):
        return ExitStatus(exit_code=exit_code, rank=rank, message=_by_code(exit_code, rank), timestamp=time.time())
    extra = said.get("extraInfo", {})
    return ExitStatus(
        exit_code=exit_code,
        rank=rank,
        message=str(said.get("message", "")),
        traceback=str(extra.get("py_callstack", "")),
        timestamp=float(extra.get("time", extra.get("timestamp", 0))),
    )


def left_behind(folder: Path) -> list[ExitStatus]:
    """The ends in all error files below a folder."""
    files = [json.loads(path.read_bytes()) for path in sorted(folder.rglob(ERROR_FILE))]
    codes = [data["message"]["extraInfo"] for data in files]
    return [read_error(data, code["exit_code"], code["rank"]) for data, code in zip(files, codes, strict=True)]


def _by_code(exit_code: int, rank: int) -> str:
    if exit_code == -signal.SIGKILL:
        return f"rank {rank} was killed (SIGKILL): it was out of memory, or somebody killed it"
    if exit_code < 0:
        return f"rank {rank} was ended by {signal.Signals(-exit_code).name}"
    return f"rank {rank} ended with exit code {exit_code} and said nothing"
