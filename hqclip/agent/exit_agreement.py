"""An end that is not to be tried again is shared, so that all agents of a gang end with the code that says so.

Only one of them sees the fault, or first that the launcher is gone; the others see a broken connection or ranks that
stop, which a scheduler would start again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hqclip.launch.job import folder
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.store.documents import read_json_or_warn

EVERY_S = 0.25


def publish(store: Store, key: str, agent: str, exit_code: int) -> None:
    """Say that the agent called `{node}-{n}` ends with this code; saying it twice is as good as once."""
    store.write(f"{folder(key)}/verdicts/{agent}.json", canonical_json({"agent": agent, "exit_code": exit_code}))


class ExitAgreement:
    """The exit codes that agents of a job have published since this agent began."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._prefix = store, f"{folder(key)}/verdicts/"
        self._before = set(store.list(self._prefix))

    def wait(
        self,
        patience_s: float,
        *,
        until: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> tuple[str, int] | None:
        """The name of an agent and its exit code; None if there is none for so long, or until `until` says so."""
        end = clock() + patience_s
        while True:
            for key in self._store.list(self._prefix):
                if key not in self._before:
                    published = read_json_or_warn(self._store, key, "agent") or {}
                    if isinstance(published.get("exit_code"), int):
                        return str(published.get("agent", "")), published["exit_code"]
                    self._before.add(key)  # damaged, and that was said
            if clock() >= end or until():
                return None
            sleep(EVERY_S)
