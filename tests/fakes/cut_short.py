"""A folder as a store that fails, or whose process is killed, at one of its operations, whichever that is."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from hqclip.store import local
from hqclip.store.local import LocalStore

OPERATIONS = [name for name, _ in inspect.getmembers(LocalStore, inspect.isfunction) if not name.startswith("_")]


class Killed(BaseException):
    """No handler of the product's own stops it, as none stops a kill; and nothing is done after it."""


def cut_short(patch: pytest.MonkeyPatch, number: int, error: BaseException, *, after: bool = False) -> list[str]:
    """The operation of that number (0: none) raises `error`, before or after its work; the operations as they come."""
    done: list[str] = []
    gone = False

    def failing(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal gone
            done.append(name)
            if gone:
                raise error
            if len(done) != number:
                return operation(*args, **kwargs)
            if after:
                with suppress(Exception):
                    operation(*args, **kwargs)
            gone = isinstance(error, Killed)
            raise error

        return call

    for name in OPERATIONS:
        patch.setattr(LocalStore, name, failing(name, getattr(LocalStore, name)))
    return done


def die_at_change(number: int) -> Callable[[], int]:
    """This process ends as by SIGKILL at its change of that number (0: none) of a folder; how many began so far."""
    changes = 0

    def or_die(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == number:
                os._exit(137)
            return change(*args, **kwargs)

        return changed

    local._publish = or_die(local._publish)
    LocalStore.delete = or_die(LocalStore.delete)  # type: ignore[method-assign]
    return lambda: changes
