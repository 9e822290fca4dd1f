"""Evaluations of several models on one suite in, differences to the first with their intervals out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hqclip.data.outcomes import Outcomes, average, interval, read_outcomes
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks import main_metrics
from hqclip.evaluate.datacomp import averages
from hqclip.records import BenchmarkScore, Evaluation
from hqclip.store import Store

RESAMPLES = 1000
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PairedRow:
    """One metric of one benchmark, on all its items or on those of one `group`.

    Values are in the order of the models; differences are (value, low, high) to the first model, None for itself.
    """

    kind: str
    benchmark: str
    metric: str
    group: str
    items: int
    values: list[float]
    differences: list[Triple | None]


@dataclass(frozen=True)
class PairedComparison:
    """Models by name, judged on the same items; the first is the baseline of all differences."""

    names: Sequence[str]
    evaluations: Sequence[Evaluation]
    outcomes: Sequence[Outcomes]

    @classmethod
    def read(cls, store: Store, judged: Mapping[str, Evaluation]) -> PairedComparison:
        """Raises `DataError` if the suites differ: such figures cannot be compared."""
        suites = {evaluation.suite_digest for evaluation in judged.values()}
        if len(suites) > 1:
            raise DataError(
                f"the models were judged on different suites ({', '.join(sorted(suites))}); evaluate them on one"
            )
        outcomes = [read_outcomes(store, e.outcomes, e.outcomes_crc32c) for e in judged.values()]
        paired = cls(list(judged), list(judged.values()), outcomes)
        paired._check()
        return paired

    def _check(self) -> None:
        """Raises `DataError` if the outcomes of an evaluation are not those of its benchmarks."""
        wanted = {metric for metrics in self._mains() for metric in metrics}
        for name, evaluation, outcomes in zip(self.names, self.evaluations, self.outcomes, strict=True):
            if missing := sorted(wanted - outcomes.values.keys()):
                raise DataError(
                    f"{evaluation.outcomes}: the outcomes of {name} lack {', '.join(missing)}; they are damaged, or "
                    "not those of its evaluation: delete both and evaluate it again"
                )

    def only(self, names: Sequence[str]) -> PairedComparison:
        """The same of these models; the first of them is the baseline."""
        chosen = [list(self.names).index(name) for name in names]
        return PairedComparison(names, [self.evaluations[n] for n in chosen], [self.outcomes[n] for n in chosen])

    @cached_property
    def rows(self) -> list[PairedRow]:
        """Every metric that all models have, those of one kind together; after each its groups, if there are several.

        An older version judged by fewer metrics.
        """
        by_kind: dict[str, list[PairedRow]] = {}
        for benchmark in self.evaluations[0].benchmarks:
            of_kind = by_kind.setdefault(benchmark.kind, [])
            for name in sorted(set.intersection(*(set(outcomes.values) for outcomes in self.outcomes))):
                of, _, metric = name.partition("/")
                if of == benchmark.name:
                    groups = self.outcomes[0].by_group(name)
                    of_kind.append(self._row(benchmark, metric))
                    of_kind += [self._row(benchmark, metric, group) for group in groups if len(groups) > 1]
        return [row for of_kind in by_kind.values() for row in of_kind]

    @cached_property
    def average(self) -> tuple[list[float], list[Triple | None]]:
        """The mean of the main metrics of every model, and its differences to the first."""
        mains = self._mains()
        differences = [self._difference(self.outcomes[0], outcomes, mains) for outcomes in self.outcomes[1:]]
        return [evaluation.average for evaluation in self.evaluations], [None, *differences]

    @cached_property
    def datacomp(self) -> dict[str, tuple[list[float], list[Triple | None]]]:
        """The averages of DataComp that the suite allows, by title, as `average` has them."""
        found = {}
        for title, members in averages(self.evaluations[0].benchmarks).items():
            mains = [main_metrics(one.name, one.kind, one.main) for one in members]
            values = [average(outcomes, mains) for outcomes in self.outcomes]
            differences = [self._difference(self.outcomes[0], outcomes, mains) for outcomes in self.outcomes[1:]]
            found[title] = (values, [None, *differences])
        return found

    def gain(self, benchmark: str = "") -> Triple:
        """How much the average of the second model exceeds the first's, with its 95 % interval.

        With a benchmark, how much its main metric does.
        """
        mains = self._mains()
        if benchmark:
            mains = [mains[[one.name for one in self.evaluations[0].benchmarks].index(benchmark)]]
        return self._difference(self.outcomes[0], self.outcomes[1], mains)

    def _row(self, benchmark: BenchmarkScore, metric: str, group: str = "") -> PairedRow:
        name = f"{benchmark.name}/{metric}"
        chosen = [_only(outcomes, name, group) for outcomes in self.outcomes]
        return PairedRow(
            kind=benchmark.kind,
            benchmark=benchmark.name,
            metric=metric,
            group=group,
            items=len(chosen[0].values[name]),
            values=[outcomes.score(name) for outcomes in chosen],
            differences=[None, *(self._difference(chosen[0], outcomes, [[name]]) for outcomes in chosen[1:])],
        )

    def _mains(self) -> list[list[str]]:
        return [
            main_metrics(benchmark.name, benchmark.kind, benchmark.main) for benchmark in self.evaluations[0].benchmarks
        ]

    def _difference(self, baseline: Outcomes, outcomes: Outcomes, benchmarks: list[list[str]]) -> Triple:
        low, high = interval(outcomes, benchmarks, RESAMPLES, baseline)
        return average(outcomes, benchmarks) - average(baseline, benchmarks), low, high


def _only(outcomes: Outcomes, name: str, group: str) -> Outcomes:
    """One metric, on all its items or on those of one group."""
    kept = outcomes.groups[name] == group if group else slice(None)
    return Outcomes(
        {name: outcomes.values[name][kept]}, {name: outcomes.groups[name][kept]}, {name: outcomes.rule(name)}
    )
