"""Cases in, the table of what held out, for docs/compatibility.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Case:
    """One case and how it ended: held, broke, or was left out and why."""

    part: str
    title: str
    verdict: str = "held"
    seconds: float = 0.0

    def after(self, report: pytest.TestReport) -> Case:
        """The case after one more of its phases: set up, called, torn down."""
        verdict = self.verdict
        if report.failed:
            verdict = "**broke**"
        elif report.skipped:
            said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            verdict = f"left out: {said.removeprefix('Skipped: ')}"
        return dataclasses.replace(self, verdict=verdict, seconds=self.seconds + report.duration)


def markdown(versions: Mapping[str, str], cases: Sequence[Case], minutes: float) -> str:
    """Versions and cases, part by part, and how long it took in all; cases of several parts may overlap."""
    there = ", ".join(f"{name} {version}" for name, version in versions.items()) or "nothing of a cluster"
    held = sum(case.verdict == "held" for case in cases)
    rows = [
        f"| {case.part} | {case.title} | {case.verdict} | {case.seconds:.0f} |"
        for case in sorted(cases, key=lambda case: case.part)
    ]
    return "\n".join(
        [
            f"{there}: {held} of {len(cases)} cases held, in {minutes:.0f} minutes.",
            "",
            "| part | case | | s |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
