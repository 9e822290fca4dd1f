"""One question of the doctor's and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hqclip.errors import AccessError, HQClipError

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it."""

    status: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """One question; `run` answers it, or raises an `HQClipError`, which is a FAIL.

    What one `may_do_without` to launch and to follow jobs is a WARN where one has no right to look.
    """

    name: str
    run: Callable[[], Finding]
    may_do_without: bool = False


def examine(check: Check) -> Finding:
    """The answer of a check; a fault that a person can mend is one."""
    try:
        return check.run()
    except HQClipError as error:
        if check.may_do_without and isinstance(error, AccessError):
            return Finding(WARN, f"not looked at: {error}", "")
        return Finding(FAIL, str(error), "")


def unknown(of: str) -> Finding:
    """What cannot be asked, since an earlier check failed."""
    return Finding(WARN, f"not looked at: {of} failed", "")
