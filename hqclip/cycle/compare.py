"""Evaluations of several models on one suite in, differences to the first with their intervals out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hqclip.data.outcomes import Outcomes, average, interval, read_outcomes
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks import main_metrics
from hqclip.records import Evaluation
from hqclip.store import Store

RESAMPLES = 1000
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Compared:
    """Models by name, judged on the same items; the first is the baseline of all differences."""

    names: Sequence[str]
    evaluations: Sequence[Evaluation]
    outcomes: Sequence[Outcomes]

    @classmethod
    def read(cls, store: Store, names: Sequence[str], evaluations: Sequence[Evaluation]) -> Compared:
        """Raises `DataError` if the suites differ: such figures cannot be compared."""
        suites = {evaluation.suite_digest for evaluation in evaluations}
        if len(suites) > 1:
            raise DataError(
                f"the models were judged on different suites ({', '.join(sorted(suites))}); evaluate them on one"
            )
        return cls(names, evaluations, [read_outcomes(store, evaluation.outcomes) for evaluation in evaluations])

    def metrics(self) -> dict[str, list[tuple[str, str]]]:
        """(benchmark, metric) pairs by kind of benchmark; `metric group` stands for one group of items."""
        found: dict[str, list[tuple[str, str]]] = {}
        for benchmark in self.evaluations[0].benchmarks:
            rows = found.setdefault(benchmark.kind, [])
            for name in sorted(self.outcomes[0].values):
                of, _, metric = name.partition("/")
                if of == benchmark.name:
                    groups = self.outcomes[0].by_group(name)
                    rows.append((benchmark.name, metric))
                    rows += [(benchmark.name, f"{metric}: {group}") for group in groups if len(groups) > 1]
        return found

    def row(self, benchmark: str, metric: str) -> tuple[list[float], list[Triple | None], int]:
        """Values of every model, differences to the first (None for itself), and the number of items."""
        name, _, group = metric.partition(": ")
        chosen = [_only(outcomes, f"{benchmark}/{name}", group) for outcomes in self.outcomes]
        values = [outcomes.score(f"{benchmark}/{name}") for outcomes in chosen]
        differences = [self._difference(chosen[0], outcomes, [[f"{benchmark}/{name}"]]) for outcomes in chosen[1:]]
        return values, [None, *differences], len(chosen[0].values[f"{benchmark}/{name}"])

    def average(self) -> tuple[list[float], list[Triple | None]]:
        """The mean of the main metrics of every model, and its differences to the first."""
        mains = self._mains()
        differences = [self._difference(self.outcomes[0], outcomes, mains) for outcomes in self.outcomes[1:]]
        return [evaluation.average for evaluation in self.evaluations], [None, *differences]

    def gain(self) -> Triple:
        """How much the average of the second model exceeds the first's, with its 95 % interval."""
        return self._difference(self.outcomes[0], self.outcomes[1], self._mains())

    def _mains(self) -> list[list[str]]:
        return [main_metrics(benchmark.name, benchmark.kind) for benchmark in self.evaluations[0].benchmarks]

    def _difference(self, baseline: Outcomes, outcomes: Outcomes, benchmarks: list[list[str]]) -> Triple:
        low, high = interval(outcomes, benchmarks, RESAMPLES, baseline)
        return average(outcomes, benchmarks) - average(baseline, benchmarks), low, high


def _only(outcomes: Outcomes, name: str, group: str) -> Outcomes:
    """One metric, on all its items or on those of one group."""
    kept = outcomes.groups[name] == group if group else slice(None)
    return Outcomes({name: outcomes.values[name][kept]}, {name: outcomes.groups[name][kept]})
