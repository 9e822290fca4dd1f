"""Steps whose loss or gradient was not finite: how many there may be, and of which samples they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hqclip.records import canonical_json
from hqclip.store import Store

SHARE = 100  # one step of so many may be skipped in all
NAMED = 3  # uids in a message


class Skips:
    """The same on every rank. `before` is how many steps of the run were skipped before this process began."""

    def __init__(self, allowed_in_a_row: int, steps: int, before: int = 0) -> None:
        self._allowed_in_a_row = allowed_in_a_row
        self._allowed = max(1, steps // SHARE) if allowed_in_a_row else 0
        self.in_all = before
        self.gone_back_to: int | None = None
        self.in_a_row: list[dict[str, Any]] = []  # step and uids, of the steps since the last good one

    def good(self) -> None:
        """A step went well."""
        self.in_a_row.clear()

    def skipped(self, step: int, uids: Sequence[str]) -> bool:
        """A step was left out; whether that was one too many."""
        self.in_all += 1
        self.in_a_row.append({"step": step, "uids": list(uids)})
        return len(self.in_a_row) > self._allowed_in_a_row or self.in_all > self._allowed

    def go_back(self, step: int, before: int) -> None:
        """From here on it is as it was after `step` steps, of which `before` were skipped."""
        self.gone_back_to = step
        self.in_all = before
        self.in_a_row.clear()

    def write(self, store: Store, folder: str) -> str:
        """Keep whose samples they were in `skipped.json`; what a person wants to know of it."""
        key = f"{folder}/skipped.json"
        store.write(key, canonical_json({"steps": self.in_a_row}), create_only=False)
        again = "" if self.gone_back_to is None else f", again after going back to step {self.gone_back_to}"
        if not self.in_a_row:
            return f"weights that are not finite{again}; lower learning_rate or set precision fp32"
        first = self.in_a_row[0]
        named = ", ".join(first["uids"][:NAMED])
        return (
            f"loss or gradient was not finite in {len(self.in_a_row)} steps in a row, {self.in_all} in all{again}; "
            f"look at the samples of step {first['step']} ({named}, ...; all are in {store.uri}/{key}), lower "
            "learning_rate or set precision fp32"
        )
