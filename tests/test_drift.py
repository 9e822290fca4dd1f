"""How far two versions lie apart: nothing for the same shares, more for a larger difference."""

from __future__ import annotations

import pytest

from hqclip.curate.drift import psi, tag_drift


def test_psi_is_nothing_for_equal_shares_and_grows_with_the_difference():
    assert psi([10, 20], [10, 20]) == 0.0
    assert psi([], []) == psi([0, 0], [5, 5]) == 0.0
    # (0.75 - 0.25) ln 3, twice; half a count in each bin brings it down a little
    assert psi([25_000, 75_000], [75_000, 25_000]) == pytest.approx(1.0986, abs=1e-3)
    assert psi([50, 50], [60, 40]) < psi([50, 50], [80, 20])
    with pytest.raises(ValueError, match="2 and 1 bins"):
        psi([1, 2], [1])


def test_tags_that_the_parent_did_not_have_count_together():
    assert tag_drift({"a": 50, "b": 50}, {"b": 50, "a": 50}) == 0.0
    assert tag_drift({"a": 50, "b": 50}, {"a": 50, "c": 30, "d": 20}) > 0.25
