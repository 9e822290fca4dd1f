"""How sure a score is: intervals that cover the truth, differences judged on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hqclip.data.outcomes import Outcomes, average, interval, read_outcomes, write_outcomes
from hqclip.data.parquet import parse_table, to_parquet
from hqclip.data.rules import Rule
from hqclip.errors import DataError, NotFoundError
from hqclip.store.local import LocalStore


def outcomes(values: object, groups: object = None, name: str = "acc") -> Outcomes:
    """One metric; a single group unless told."""
    found = np.asarray(values, dtype=np.float64)
    return Outcomes({name: found}, {name: np.asarray(["all"] * len(found) if groups is None else groups)})


def tossed(seed: int, chance: float, count: int = 400) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < chance).astype(float)


def test_groups_count_alike_however_many_items_they_have() -> None:
    judged = outcomes([1, 1, 1, 1, 1, 1, 0, 0], ["a"] * 6 + ["b"] * 2)
    assert judged.by_group("acc") == {"a": 1.0, "b": 0.0}
    assert judged.score("acc") == 0.5


def test_the_interval_of_a_fair_coin_is_known() -> None:
    low, high = interval(outcomes([0, 1] * 200), [["acc"]], 4000)
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.025, abs=0.004), pytest.approx(0.5 + 1.96 * 0.025, abs=0.004))


def test_the_interval_covers_the_truth_about_nineteen_times_in_twenty() -> None:
    covered = 0
    for seed in range(200):
        low, high = interval(outcomes(tossed(seed, 0.3, 200)), [["acc"]], 200)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_what_is_always_right_leaves_no_doubt() -> None:
    assert interval(outcomes(np.ones(50)), [["acc"]], 100) == (1.0, 1.0)
    assert interval(outcomes(np.ones(50), ["a", "b"] * 25), [["acc"]], 100) == (1.0, 1.0)


def test_a_model_does_not_differ_from_itself() -> None:
    judged = outcomes(tossed(0, 0.5), ["a", "b"] * 200)
    assert interval(judged, [["acc"]], 500, judged) == (0.0, 0.0)


def test_the_same_score_on_other_items_is_no_certainty() -> None:
    low, high = interval(outcomes([1, 0] * 100), [["acc"]], 500, outcomes([0, 1] * 100))
    assert low < 0 < high


def test_pairing_sees_what_two_separate_intervals_would_not() -> None:
    before = tossed(1, 0.5)
    after = before.copy()
    after[np.flatnonzero(before == 0)[:20]] = 1  # 5 points better, and nowhere worse
    alone_before, alone_after = (interval(outcomes(v), [["acc"]], 1000) for v in (before, after))
    assert alone_after[0] < alone_before[1], "the two overlap"
    low, high = interval(outcomes(after), [["acc"]], 1000, outcomes(before))
    assert 0 < low < 0.05 < high


def test_a_difference_turned_round_changes_its_sign() -> None:
    a, b = outcomes(tossed(2, 0.6)), outcomes(tossed(3, 0.4))
    there, back = interval(a, [["acc"]], 1000, b), interval(b, [["acc"]], 1000, a)
    assert there == pytest.approx((-back[1], -back[0]))


def test_the_interval_of_several_metrics_is_that_of_their_mean() -> None:
    both = Outcomes({"x": np.ones(30), "y": np.zeros(30)}, {"x": np.full(30, "all"), "y": np.full(30, "all")})
    assert interval(both, [["x"], ["y"]], 100) == pytest.approx((0.5, 0.5))


def test_a_small_group_makes_the_score_less_sure() -> None:
    values = [0, 1] * 200
    low, high = interval(outcomes(values), [["acc"]], 1000)
    low_small, high_small = interval(outcomes(values, ["a"] * 396 + ["b"] * 4), [["acc"]], 1000)
    assert high_small - low_small > 3 * (high - low)


def test_the_interval_is_the_same_whenever_it_is_asked_for() -> None:
    judged = outcomes(tossed(4, 0.5))
    assert interval(judged, [["acc"]], 200) == interval(judged, [["acc"]], 200)


def test_outcomes_come_back_as_they_were_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    judged = Outcomes(
        {"b/r1": np.array([1.0, 0, 1]), "a/acc": np.array([0.0, 1])},
        {"b/r1": np.array(["neu", "größe", "neu"]), "a/acc": np.array(["x", "x"])},
    )
    write_outcomes(store, "outcomes.parquet", judged)
    read = read_outcomes(store, "outcomes.parquet")
    assert set(read.values) == set(judged.values)
    for metric in judged.values:
        assert read.values[metric].tolist() == judged.values[metric].tolist()
        assert read.groups[metric].tolist() == judged.groups[metric].tolist()
        assert read.by_group(metric) == judged.by_group(metric)


def ruled() -> Outcomes:
    groups = np.array(["a", "a", "b", "b", "b"])
    return Outcomes(
        {"q/worst": np.array([1.0, 1, 1, 0, 0]), "q/share": np.array([0.1, 1, 0, 0, 0]), "q/acc": np.ones(5)},
        dict.fromkeys(("q/worst", "q/share", "q/acc"), groups),
        {"q/worst": Rule.WORST, "q/share": Rule.CLASSES},
    )


def test_how_a_score_is_made_comes_back_and_no_digit_of_a_value_is_lost(tmp_path: Path) -> None:
    store, judged = LocalStore(tmp_path), ruled()
    write_outcomes(store, "o", judged)
    read = read_outcomes(store, "o")
    assert read.rules == judged.rules
    for metric, values in judged.values.items():
        assert read.values[metric].tolist() == values.tolist()
        assert read.score(metric) == judged.score(metric)
    assert read.by_group("q/worst") == {"a": 1.0, "b": 1 / 3}
    assert read.by_group("q/share") == {}, "they are too many to be told"


def test_a_rule_of_a_later_version_is_refused(tmp_path: Path) -> None:
    columns = {"metric": ["q/x"], "group": ["all"], "value": [1.0], "rule": ["median"]}
    store = LocalStore(tmp_path)
    store.write("o", to_parquet(pa.table(columns), {}))
    with pytest.raises(DataError, match="o: 'median' is not a valid Rule; upgrade hqclip, or delete it"):
        read_outcomes(store, "o")


def test_outcomes_of_plain_metrics_are_written_as_ever(tmp_path: Path) -> None:
    """Older versions read them."""
    store = LocalStore(tmp_path)
    write_outcomes(store, "o", outcomes([0, 1]))
    table = parse_table(store.read("o"), "o")
    assert table.column_names == ["metric", "group", "value"]
    assert table.schema.field("value").type == pa.float32()


def test_the_worst_group_is_the_least_in_every_draw() -> None:
    """A group that is always wrong leaves no doubt; of two fair coins the worse one is below a half."""
    sure = outcomes([1, 1, 0, 0], ["a", "a", "b", "b"])
    sure.rules["acc"] = Rule.WORST
    assert interval(sure, [["acc"]], 100) == (0.0, 0.0)
    coins = outcomes([0, 1] * 200, ["a", "b", "b", "a"] * 100)
    coins.rules["acc"] = Rule.WORST
    assert coins.score("acc") == 0.5
    low, high = interval(coins, [["acc"]], 2000)
    assert low < 0.5 - (high - 0.5), "it leans down"


def classes(right: Sequence[int], answers: Sequence[int]) -> Outcomes:
    judged = outcomes(answers, list(map(str, right)))
    judged.rules["acc"] = Rule.F1
    return judged


def test_macro_f1_drawn_again_is_that_of_the_draw() -> None:
    assert interval(classes([0, 0, 7], [0, 0, 7]), [["acc"]], 50) == (1.0, 1.0)
    assert interval(classes([0, 0, 7], [3, 3, 3]), [["acc"]], 50) == (0.0, 0.0)
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 400)
    judged = classes(right, np.where(rng.random(400) < 0.6, right, rng.integers(0, 5, 400)))
    low, high = interval(judged, [["acc"]], 500)
    assert low < judged.score("acc") < high < low + 0.15
    assert interval(judged, [["acc"]], 100, judged) == (0.0, 0.0)


def test_a_difference_of_worst_groups_shares_its_draws() -> None:
    before = outcomes(tossed(1, 0.5), ["a", "b"] * 200)
    after = outcomes(np.maximum(before.values["acc"], tossed(2, 0.2)), ["a", "b"] * 200)
    for judged in (before, after):
        judged.rules["acc"] = Rule.WORST
    low, high = interval(after, [["acc"]], 500, before)
    assert 0 < low < after.score("acc") - before.score("acc") < high


def test_what_are_no_outcomes_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write_outcomes(store, "o", outcomes([0, 1]))
    store.write("cut", store.read("o")[:-9])
    with pytest.raises(DataError, match="cut: not a whole Parquet file"):
        read_outcomes(store, "cut")
    store.write("other", to_parquet(pa.table({"uid": ["a"]}), {}))
    with pytest.raises(DataError, match="other has the columns uid; delete it and run `evaluate` again"):
        read_outcomes(store, "other")


def test_outcomes_are_never_overwritten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = write_outcomes(store, "a.outcomes.parquet", outcomes([0, 1]))
    assert write_outcomes(store, "a.outcomes.parquet", outcomes([0, 1])) == first
    other = write_outcomes(store, "a.outcomes.parquet", outcomes([1, 1]))
    assert other.key == f"a.{other.crc32c:08x}.outcomes.parquet" and first.key == "a.outcomes.parquet"
    assert write_outcomes(store, "a.outcomes.parquet", outcomes([1, 1])) == other
    assert [read_outcomes(store, one.key, one.crc32c).score("acc") for one in (first, other)] == [0.5, 1.0]
    with pytest.raises(NotFoundError):
        read_outcomes(store, "p")


def test_metrics_of_one_benchmark_count_together_as_much_as_one_of_another():
    judged = Outcomes(
        {"retrieval/a": np.ones(8), "retrieval/b": np.ones(8), "choice/a": np.zeros(8)},
        dict.fromkeys(("retrieval/a", "retrieval/b", "choice/a"), np.full(8, "all")),
    )
    benchmarks = [["retrieval/a", "retrieval/b"], ["choice/a"]]
    assert average(judged, benchmarks) == 0.5
    assert interval(judged, benchmarks, 100) == (0.5, 0.5)


def test_the_middle_of_the_interval_of_a_difference_is_the_difference():
    rng = np.random.default_rng(1)
    names = ("a/x", "a/y", "b/z")

    def judged(share: float) -> Outcomes:
        values = {name: (rng.random(400) < share * (1 + names.index(name)) / 3).astype(float) for name in names}
        return Outcomes(values, dict.fromkeys(names, np.full(400, "all")))

    worse, better = judged(0.3), judged(0.9)
    benchmarks = [["a/x", "a/y"], ["b/z"]]
    low, high = interval(better, benchmarks, 1000, worse)
    assert (low + high) / 2 == pytest.approx(average(better, benchmarks) - average(worse, benchmarks), abs=0.01)


def test_no_damaged_bit_of_outcomes_goes_unnoticed(tmp_path: Path):
    store = LocalStore(tmp_path)
    crc32c = write_outcomes(store, "o", outcomes([0, 1, 1, 0] * 50)).crc32c
    assert read_outcomes(store, "o", crc32c).values["acc"].sum() == 100
    data = store.read("o")
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        store.write("d", bytes(damaged), create_only=False)
        with pytest.raises(DataError, match="d is not what its evaluation names"):
            read_outcomes(store, "d", crc32c)
    read_outcomes(store, "o")  # an evaluation of version 0.1 names no checksum
