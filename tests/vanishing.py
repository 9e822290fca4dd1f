"""Objects that somebody deletes at the worst moment: right after they were listed, or seen to be there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.store.local import LocalStore


def vanishes(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """This file of a local store is deleted as soon as anybody has heard of it other than by reading it."""

    def instead(name: str, names_it: Callable[[LocalStore, Any, Any], bool], whole: Callable[[Any], Any]) -> None:
        method = getattr(LocalStore, name)

        def heard(store: LocalStore, *given: Any) -> Any:
            said = whole(method(store, *given))
            if names_it(store, given, said):
                path.unlink(missing_ok=True)
            return said

        monkeypatch.setattr(LocalStore, name, heard)

    instead("list", lambda store, _, said: any(store.root / key == path for key in said), list)
    instead("scan", lambda store, _, said: any(store.root / one.key == path for one in said), list)
    for name in ("exists", "stat"):
        instead(name, lambda store, given, said: bool(said) and store.root / given[0] == path, lambda said: said)
