"""What is said to people: on stderr, a line at a time, with who says it."""

from __future__ import annotations

import sys

from hqclip.errors import HQClipError


def fault(command: str, error: HQClipError) -> int:
    """Say what is wrong; the exit code."""
    print(f"hqclip {command}: {error}", file=sys.stderr, flush=True)
    return error.exit_code
