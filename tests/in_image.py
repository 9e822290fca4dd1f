"""A Python program as in an image: `python -m tests.in_image LOCK,LOCK MODULE ARGUMENTS`.

Of the packages that are installed here only those of the locks can be imported, as if there were no others.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import runpy
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

OWN = ("hqclip", "tests")


class Image:
    """Finds what the locks name, what comes with Python, and ourselves; stands for Python's own finder of files."""

    def __init__(self, locks: list[Path]) -> None:
        lines = [line for lock in locks for line in lock.read_text().splitlines()]
        held = {_plain(line.partition("==")[0]) for line in lines if re.match(r"[A-Za-z0-9]", line)}
        packages = importlib.metadata.packages_distributions()
        self._absent = {name for name, owners in packages.items() if not {_plain(one) for one in owners} & held}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """None for what is not in the image."""
        top = name.partition(".")[0]
        if top in self._absent and top not in OWN and top not in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, path, target)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(locks: str, module: str, *arguments: str) -> None:
    """Run the module as a program."""
    sys.meta_path[sys.meta_path.index(PathFinder)] = Image([Path(lock) for lock in locks.split(",")])  # type: ignore[call-overload]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
