"""Rules and their limits: each flag has one, and a limit is over only where enough rows break it."""

from __future__ import annotations

import pytest

from hqclip.config import CurateConfig
from hqclip.curate.rules import FEWEST, RULES, Effect, exceeded, limits
from hqclip.data.sidecar import UNUSABLE, Flag
from hqclip.errors import ConfigError
from hqclip.records import Status


def test_every_flag_has_one_rule_and_those_that_take_the_sample_are_the_unusable_ones() -> None:
    assert sorted(rule.flag for rule in RULES) == sorted(Flag)
    taken = [rule.flag for rule in RULES if rule.effect is Effect.SAMPLE]
    assert sum(taken) == UNUSABLE


def test_a_limit_is_over_when_enough_rows_break_it() -> None:
    allowed = limits(["easy_negative=0.1", "refused=0"])
    assert exceeded({"easy_negative": FEWEST - 1, "refused": FEWEST - 1}, 100, allowed) == {}
    assert exceeded({"easy_negative": FEWEST, "refused": 3}, 100, allowed) == {"easy_negative": 0.2}
    assert exceeded({"easy_negative": 100, "refused": 20}, 1000, allowed) == {"refused": 0.02}
    assert exceeded({"duplicate_tags": 1000, Status.NOT_JSON: 21}, 1000, allowed) == {"not_json": 0.021}


def test_a_limit_for_nothing_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rule or status 'easy_negativ'; did you mean 'easy_negative'?"):
        limits(["easy_negativ=0.1"])
    with pytest.raises(ConfigError, match="'refused=2' is not like easy_negative=0.3"):
        CurateConfig(store="s", pool="p", annotations="a", limits=("refused=2",))
