"""Names that were given up: each is understood, with a warning, in the two minor versions from the one that renamed it.

Standard library only. `tests/test_deprecated.py` fails once a name is past its time: then its line goes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hqclip import log

LASTS = 2  # minor versions
COMMAND, SETTING, INPUT = "command", "setting", "pipeline input"


@dataclass(frozen=True)
class Renamed:
    """What was called `was`, and is called `now` since the minor version `since`, e.g. 0.2."""

    kind: str
    was: str
    now: str
    since: str

    @property
    def until(self) -> str:
        """The minor version that no longer understands it."""
        major, minor = map(int, self.since.split("."))
        return f"{major}.{minor + LASTS}"


NAMES = (
    Renamed(COMMAND, "teach", "distill", "0.2"),
    Renamed(COMMAND, "request", "plan_evaluation", "0.2"),
    Renamed(SETTING, "points", "trials", "0.2"),
    Renamed(INPUT, "train_points", "train_trials", "0.2"),
    Renamed(INPUT, "sweep_points", "sweep_trials", "0.2"),
)


def current(kind: str, name: str, known: Collection[str]) -> str:
    """What `name` is called today, said with a warning if that is another; itself where `known` has it."""
    if name in known:
        return name
    for one in NAMES:
        if (one.kind, one.was) == (kind, name) and one.now in known:
            log.warning(
                "names", f"the {kind} {name} is called {one.now} since {one.since}; {one.until} will not know {name}"
            )
            return one.now
    return name


def current_flags(words: Sequence[str], known: Collection[str]) -> list[str]:
    """Words of a command line with the flags of today; `known` are the names of its settings."""
    return [_flag(word, known) if word.startswith("--") else word for word in words]


def _flag(word: str, known: Collection[str]) -> str:
    flag, equals, value = word.partition("=")
    name = flag[2:].replace("-", "_")
    now = current(SETTING, name, known)
    return word if now == name else f"--{now.replace('_', '-')}{equals}{value}"
