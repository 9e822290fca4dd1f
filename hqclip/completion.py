"""What may come next on a command line, for a shell that asks by argcomplete.

The shell sets `_ARGCOMPLETE` to the number of words that make up the program (`hqclip`: 1, `python -m pipelines`: 3),
`COMP_LINE` to the line and `COMP_POINT` to the cursor: https://github.com/kislyuk/argcomplete
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

PROGRAM = "_ARGCOMPLETE"


def is_asked() -> bool:
    """Whether a shell asks, in place of a person who runs a command."""
    return PROGRAM in os.environ


def words() -> list[str]:
    """Those of the line before the one that is being written, without the program."""
    from argcomplete.lexers import split_line

    before: list[str] = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    return before[int(os.environ[PROGRAM]) :]


def answer(parser: argparse.ArgumentParser, after: int = 0) -> None:
    """Say what may come next, and end the process; the parser knows nothing of the first `after` words."""
    import argcomplete

    os.environ[PROGRAM] = str(int(os.environ[PROGRAM]) + after)
    argcomplete.autocomplete(parser)


def offer(action: Any, values: Sequence[str]) -> None:
    """Values of an argument that argparse itself does not know the choices of; without any, files are offered."""
    if values:
        action.completer = lambda **_: values
