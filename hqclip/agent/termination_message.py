"""The end of an agent where Kubernetes looks for it: the termination message of its container."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hqclip import log

LIMIT_BYTES = 4096  # Kubernetes cuts longer messages
DEFAULT = "/dev/termination-log"
CUT = "..."


def write_termination_message(record: dict[str, Any]) -> None:
    """Write the record to `HQCLIP_TERMINATION_LOG`; nowhere if that is not set and this is no container."""
    path = os.environ.get("HQCLIP_TERMINATION_LOG") or (DEFAULT if os.access(DEFAULT, os.W_OK) else "")
    if path:
        try:
            Path(path).write_bytes(shortened(record))
        except OSError as error:  # the record in the store says the same
            log.warning("agent", f"no termination message: {error}")


def shortened(record: dict[str, Any]) -> bytes:
    """The record as JSON in `LIMIT_BYTES`: the traceback loses its beginning, then the message its end."""
    cut = dict(record)
    for name, keep in (("traceback", _last), ("message", _first)):
        text = str(cut[name])
        room = len(text)
        while len(json.dumps(cut).encode()) > LIMIT_BYTES and room > 0:
            room -= max(1, (len(json.dumps(cut)) - LIMIT_BYTES) // 6)  # a character is at most \uXXXX
            cut[name] = keep(text, max(0, room))
    return json.dumps(cut).encode()


def _last(text: str, size: int) -> str:
    return CUT + text[len(text) - size :] if size else ""


def _first(text: str, size: int) -> str:
    return text[:size] + CUT
