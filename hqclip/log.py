"""What is said to people while something works: on stderr, a line at a time, with who says it.

Levels and loggers (`hqclip.train`, `hqclip.launch`, ...) are those of `logging`, so a program around hqclip may listen
with handlers of its own. Where there is no command line to say `-v`, `--quiet` or `--log-format json`, as in a
pipeline's task or a job's container, the environment does: `HQCLIP_LOG_LEVEL` and `HQCLIP_LOG_FORMAT`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from hqclip.errors import HQClipError
from hqclip.foreign_text import inert, without_keys

ROOT = "hqclip"
LEVEL, FORMAT = "HQCLIP_LOG_LEVEL", "HQCLIP_LOG_FORMAT"  # handed on to all processes that are started
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("text", "json")
REASON = re.compile(r"hqclip [\w ]+: (?!\d+ of \d+ ).+")  # a line that may say why something ended, not how far it came


def debug(who: str, text: str) -> None:
    """What helps to find a fault of hqclip or of a service."""
    _logger(who).debug(text)


def info(who: str, text: str) -> None:
    """What is going on."""
    _logger(who).info(text)


def warning(who: str, text: str) -> None:
    """What did not go as it should, though the work goes on."""
    _logger(who).warning(text)


def fault(command: str, error: HQClipError) -> int:
    """Say what is wrong; the exit code."""
    _logger(command).error(str(error))
    return error.exit_code


def choose(level: str = "", format: str = "") -> None:
    """Set level and format, for this process and those that it starts; what is empty stays as it is."""
    for name, value in ((LEVEL, level), (FORMAT, format)):
        if value:
            os.environ[name] = value
    root = logging.getLogger(ROOT)
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Stderr)]


def is_shown(level: int = logging.INFO) -> bool:
    """Whether a person sees text of this level."""
    return _logger("").isEnabledFor(level) and os.environ.get(FORMAT) != "json"


@contextmanager
def kept(lines: int) -> Iterator[deque[str]]:
    """While entered, the last `lines` of what is said, as text."""
    handler, root = _Kept(lines), _logger("")
    root.addHandler(handler)
    try:
        yield handler.said
    finally:
        root.removeHandler(handler)


def _logger(who: str) -> logging.Logger:
    root = logging.getLogger(ROOT)
    if not any(isinstance(handler, _Stderr) for handler in root.handlers):
        handler = _Stderr()
        handler.setFormatter(_Json() if os.environ.get(FORMAT) == "json" else _Text())
        root.addHandler(handler)
        root.setLevel(LEVELS.get(os.environ.get(LEVEL, ""), logging.INFO))
        root.propagate = False
    return root.getChild(who) if who else root


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what is stderr at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _Kept(logging.Handler):
    """Keeps the last lines."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.said: deque[str] = deque(maxlen=lines)
        self.setFormatter(_Text())

    def emit(self, record: logging.LogRecord) -> None:
        self.said.extend(self.format(record).splitlines())


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name.replace('.', ' ', 1)}: {_message(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "who": record.name.partition(".")[2],
            "message": _message(record),
        }
        return json.dumps(said, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    return without_keys(inert(record.getMessage()))
