"""A candidate and the champion of its cycle in, every bar it had to reach out, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hqclip.config import PromoteConfig
from hqclip.errors import ConfigError, NotFoundError
from hqclip.evaluate.benchmarks import MAIN
from hqclip.records import Bar, CyclePlan, Evaluation
from hqclip.settings import did_you_mean
from hqclip.store import Store

if TYPE_CHECKING:
    from hqclip.cycle.paired import PairedComparison

AVERAGE = "average"
ROUNDING = 1e-9  # so that 0.50 - 0.49 is no more than 0.01


class Judgement(NamedTuple):
    """Whether the candidate reached every bar, a sentence that says why, and the bars."""

    passed: bool
    reason: str
    bars: tuple[Bar, ...]


def judge(store: Store, plan: CyclePlan, candidate: Evaluation, config: PromoteConfig) -> Judgement:
    """Hold the candidate against the champion that was in force when the cycle was opened.

    The average must lead by the margin; single benchmarks have floors, and drops they may not exceed. Raises
    `ConfigError` for a bar whose benchmark was not judged, and `NotFoundError` if the champion was not.
    """
    check_names(config, [benchmark.name for benchmark in candidate.benchmarks])
    if plan.champion is None:
        bars = (Bar("margin", AVERAGE, candidate.average, config.margin, passed=True), *_floors(config, candidate))
        reason = f"there was no champion before; {candidate.model} has the best average, {candidate.average:.1%}"
    else:
        pair = _pair(store, plan.champion, candidate)
        bars = tuple(_against(pair, config))
        reason = _of_average(bars[0])
    return Judgement(all(bar.passed for bar in bars), _with_broken(reason, bars), bars)


def check_names(config: PromoteConfig, benchmarks: Iterable[str]) -> None:
    """Raises `ConfigError` for bars of benchmarks that are not among these, all at once."""
    known = list(benchmarks)
    unknown = [
        f"promote.{rule} names {name!r}, which the suite does not have{did_you_mean(name, known)}; "
        f"it has {', '.join(known) or 'none'}"
        for rule in ("floor", "max_drop")
        for name in config.bars(rule)
        if name not in known
    ]
    if unknown:
        raise ConfigError("\n".join(unknown))


def judged_key(store: Store, champion: Mapping[str, Any], suite: str) -> str:
    """Where the champion's evaluation on the suite of this digest is. Raises `NotFoundError` if there is none."""
    key = f"evaluations/{champion['model_digest']}/{suite}.json"
    if not store.exists(key):
        raise NotFoundError(
            f"{key}: the champion was not judged on this suite, so nothing can be held against it; run "
            f"`hqclip evaluate --store {store.uri} --model {champion['model']} --suite ...`, with the same sets, and "
            "try again"
        )
    return key


def _pair(store: Store, before: Mapping[str, str], candidate: Evaluation) -> PairedComparison:
    key = judged_key(store, before, candidate.suite_digest)
    champion = Evaluation.from_json(store.read(key), key)
    from hqclip.cycle.paired import PairedComparison  # what it imports is not wanted to check names

    return PairedComparison.read(store, {"champion": champion, "candidate": candidate})


def _against(pair: PairedComparison, config: PromoteConfig) -> Iterator[Bar]:
    champion, candidate = pair.evaluations
    gain = pair.gain()
    passed = _reaches(gain[0], config.margin)
    yield Bar("margin", AVERAGE, candidate.average, config.margin, passed, champion.average, gain)
    before = _mains(champion)
    for bar in _floors(config, candidate):
        yield Bar(**{**vars(bar), "champion": before[bar.metric], "difference": pair.gain(bar.metric)})
    for name, most in config.bars("max_drop").items():
        gain = pair.gain(name)
        yield Bar("max_drop", name, _mains(candidate)[name], most, _reaches(gain[0], -most), before[name], gain)


def _floors(config: PromoteConfig, candidate: Evaluation) -> Iterator[Bar]:
    scores = _mains(candidate)
    for name, least in config.bars("floor").items():
        yield Bar("floor", name, scores[name], least, _reaches(scores[name], least))


def _reaches(value: float, least: float) -> bool:
    return value >= least - ROUNDING


def _mains(evaluation: Evaluation) -> dict[str, float]:
    return {benchmark.name: benchmark.metrics[MAIN] for benchmark in evaluation.benchmarks}


def _of_average(bar: Bar) -> str:
    gain, low, high = bar.difference or (0.0, 0.0, 0.0)
    return (
        f"average {bar.candidate:.1%} against {bar.champion:.1%} of the champion, "
        f"difference {gain:+.1%} (95 % interval {low:+.1%} to {high:+.1%}): "
        f"{'at least' if bar.passed else 'less than'} the margin of {bar.threshold:.1%}"
    )


def _with_broken(reason: str, bars: Iterable[Bar]) -> str:
    """The sentence with what single benchmarks fell short of."""
    broken = [
        f"{bar.metric} has {bar.candidate:.2%}, less than its floor of {bar.threshold:.2%}"
        if bar.rule == "floor"
        else f"{bar.metric} fell by {-(bar.difference or (0.0,))[0]:.2%}, of which {bar.threshold:.2%} is allowed"
        for bar in bars
        if bar.rule != "margin" and not bar.passed
    ]
    return "; ".join([reason, *broken])
