"""What statistics count, and in which units."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hqclip.curate.counting import Count, entropy
from hqclip.data.sidecar import CuratedRow, Flag
from hqclip.records import Status
from tests.test_curate import GOOD


def test_unusable_rows_and_those_without_texts_do_not_enter_the_statistics():
    count = Count()
    count.add([CuratedRow("0" * 32, Status.OK, GOOD, flags=Flag.INJECTION), CuratedRow("1" * 32, Status.REFUSED, None)])
    found = count.statistics({})
    assert (found.rows, found.usable_rows, found.described, found.openings) == (2, 1, 0, ())


@pytest.mark.parametrize("desc", [(), ("",), (" ", "")])
def test_a_description_without_words_is_none(desc: tuple[str, ...]):
    count = Count()
    count.add([CuratedRow("0" * 32, Status.OK, replace(GOOD, desc=desc)), CuratedRow("1" * 32, Status.OK, GOOD)])
    found = count.statistics({})
    assert (found.usable_rows, found.described, found.sentences, len(found.openings)) == (2, 1, 2, 1)


@pytest.mark.parametrize(
    ("counts", "bits"), [([], 0.0), ([7], 0.0), ([1, 1], 1.0), ([2, 2, 2, 2], 2.0), ([0, 3, 3], 1.0)]
)
def test_entropy_is_in_bits(counts: list[int], bits: float):
    assert entropy(counts) == bits
