"""How long is waited between two tries."""

from __future__ import annotations

import pytest

from hqclip.backoff import pause_s, pauses


@pytest.mark.parametrize(("tried", "full_s"), [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (10_000, 60.0)])
def test_twice_as_long_each_time_up_to_a_limit_and_never_less_than_half(tried: int, full_s: float):
    drawn = [pause_s(tried) for _ in range(200)]
    assert full_s / 2 <= min(drawn) < max(drawn) <= full_s
    assert len(set(drawn)) > 100, "all would come back at the same moment"


def test_the_last_try_is_followed_by_no_other():
    first, second, last = pauses(3, first_s=10.0, longest_s=15.0)
    assert last is None
    assert first is not None and 5.0 <= first <= 10.0
    assert second is not None and 7.5 <= second <= 15.0
