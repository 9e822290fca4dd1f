"""The pages about refined texts and about pilots show what they are given, whatever it is."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from hqclip.records import AnnotatedRow, Annotation, Sample, Status
from hqclip.report import Fault, FaultExample, Faults, Provenance, ShownSample
from hqclip.report.costs import decimal, dollars
from hqclip.report.dataset_report import render_dataset_report
from hqclip.report.histograms import bin_names, drift_in_words, histogram, in_words
from hqclip.report.pilots import render_pilots, wilson
from hqclip.report.refinement import Cost, DatasetReport, Estimate, Finding, Histogram, Pilot, RuleCount, Tags, Texts
from tests.test_report import HOSTILE, Page, check_harmless, png, sample


def said(page: Page) -> str:
    return page.words.replace("\u202f", " ")


def hostile_report(text: str) -> DatasetReport:
    """`text` in every place that holds text."""
    annotation = Annotation((text,), (text, text), (text, "a"), (text[::-1], ""))
    shown = ShownSample(Sample(text, png(), text), annotation, (text,))
    lost = ShownSample(Sample(text, b"", text), None, (text,), text)
    finding = Finding(Sample(text, png(), text), text, text[::-1], text)
    return DatasetReport(
        title=text,
        rows=10,
        usable_rows=5,
        parent=text,
        rules=(
            RuleCount(name=text, count=3, meaning=text, effect=text, limit=0.1, is_exceeded=True, examples=(finding,)),
            RuleCount(name=text, count=0, meaning=text),
        ),
        histograms=(
            Histogram(
                name=text,
                starts=(0, 5, 9),
                counts=(1, 2, 3),
                caption=text,
                outline=(1, 0, 0),
                outline_name=text,
                line=5,
                line_name=text,
                drift=0.3,
            ),
        ),
        drift={text: 0.2},
        drifted=(text,),
        shares={text: 0.1},
        openings={text: 4},
        samples=(shown, lost),
        worst=(shown,),
        looked_at=10,
        tags=Tags({text: 4, "b": 1}, 5, {text + "x": 1}),
        cost=Cost(images=10, output_tokens=5, device=text),
        run=Provenance({text: {text: [text]}}, {text: text}, {}, {text: 1}, text, text),
    )


def hostile_pilots(text: str) -> list[Pilot]:
    one = hostile_report(text)
    faults = Faults(10, (Fault(text, 2, (FaultExample(Sample(text, b"", text), text),)),))
    pilot = Pilot(
        name=text,
        model=text + "m",
        prompt=text,
        rows=10,
        statuses={text: 4, "ok": 6},
        faults=faults,
        cost=one.cost,
        samples=one.samples[:1],
        run=one.run,
    )
    return [pilot, dataclasses.replace(pilot, name="b", samples=one.samples[1:])]


@pytest.mark.parametrize("text", [*HOSTILE, "<b>" * 33_000 + "x"], ids=range(len(HOSTILE) + 1))
def test_hostile_text_is_shown_and_never_obeyed(text: str):
    pilots = hostile_pilots(text)
    for source in (render_dataset_report(hostile_report(text)), render_pilots(pilots), render_pilots(pilots[:1])):
        check_harmless(source)


def test_texts_of_a_hundred_thousand_characters_are_cut():
    shown = ShownSample(sample("x" * 100_000), None, (), "y" * 100_000)
    finding = Finding(sample("x" * 100_000), "z" * 100_000, "v" * 100_000, "y" * 100_000)
    rule = RuleCount(name="long", count=1, examples=(finding,))
    page = DatasetReport(title="t", rows=1, usable_rows=0, rules=(rule,), samples=(shown,))
    source = render_dataset_report(page)
    assert len(source) < len(render_dataset_report(DatasetReport(title="t", rows=1, usable_rows=0))) + 12_000
    assert source.count("100\u202f000 characters in all") == 4


def test_the_pages_can_be_read_without_eyes():
    pilots = hostile_pilots("plain")
    for source in (render_dataset_report(hostile_report("plain")), render_pilots(pilots), render_pilots(pilots[:1])):
        page = Page(source)
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
        assert all(attrs["alt"] for attrs in page.all("img"))
        assert all("scope" in attrs for attrs in page.all("th"))
        assert all("aria-hidden" in attrs or attrs["aria-label"] for attrs in page.all("svg"))


def test_an_empty_version_has_a_page():
    words = said(Page(render_dataset_report(DatasetReport(title="Nothing", rows=0, usable_rows=0))))
    assert "There are no samples." in words
    zero = RuleCount(name="refused", count=0, limit=0.02)
    empty = Histogram(name="Words", starts=(0, 5), counts=(0, 0))
    assert "Nothing to count." in render_dataset_report(
        DatasetReport(title="Nothing", rows=0, usable_rows=0, rules=(zero,), histograms=(empty,), tags=Tags({}, 0))
    )


def test_bins_are_named_by_what_they_hold():
    assert bin_names((0, 1, 2, 5, 10)) == ["0", "1", "2 to 4", "5 to 9", "10 or more"]
    assert bin_names((-0.05, 0.0, 0.05)) == ["−0.05 to 0.00", "0.00 to 0.05", "0.05 or more"]
    shown = Histogram(name="Words", starts=(0, 1, 2, 5, 10), counts=(0, 9, 2, 7, 3))
    assert in_words(shown) == "middle 2 to 4, most often 1"
    assert [drift_in_words(value) for value in (0.0, 0.1, 0.3)] == [
        "0.00: stable",
        "0.10: a change",
        "0.30: a large change",
    ]


@pytest.mark.parametrize("counts", [(0, 0, 5), (5, 0, 0), (1, 1, 1), (0, 10**9, 1)])
@pytest.mark.parametrize("outline", [(), (0, 0, 0), (3, 2, 1)])
@pytest.mark.parametrize("line", [None, 0, 5, 7])
def test_any_histogram_can_be_drawn(counts: tuple[int, ...], outline: tuple[int, ...], line: float | None):
    drawn = histogram(Histogram(name="n", starts=(0, 5, 9), counts=counts, outline=outline, line=line, line_name="at"))
    assert drawn.count("<rect") == sum(map(bool, counts))
    assert "nan" not in drawn
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([^"]+)"', drawn)]
    assert all(1 <= height <= 250 for height in heights)
    assert ('class="limit"' in drawn) == (line == 5)


def pilot(name: str, good: int, **more: Any) -> Pilot:
    rows = [
        AnnotatedRow("a", Status.OK, Annotation(("t",), ("n",), ("one two", "three"), ("one six", "three")), 5, 9, 2)
    ]
    statuses = {"ok": good, "refused": 200 - good}
    return Pilot(name=name, rows=200, statuses=statuses, texts=Texts.of(rows), **more)


def test_what_two_lvlms_wrote_stands_side_by_side():
    def shown(uid: str, word: str) -> ShownSample:
        texts = Annotation((word,), (), (f"{word} here",), (f"no {word} here",))
        return ShownSample(Sample(uid * 16, png(), "alt"), texts)

    first = pilot("seven", 195, samples=(shown("0a", "apple"), shown("0b", "bread")))
    second = pilot("three", 180, samples=(shown("0b", "brot"), shown("0c", "cake")))
    source = render_pilots([first, second])
    cards = source.split("<article")[1:]
    assert len(cards) == 3
    assert "apple" in cards[0]
    assert "Not shown for this LVLM." in cards[0]
    assert re.search("seven.*bread.*three.*brot", cards[1])
    assert "cake" in cards[2]
    words = said(Page(source))
    assert "97.5 % (94.3 to 98.9)" in words
    assert "90.0 % (85.1 to 93.4)" in words
    assert source.count("<img ") == 3


def test_a_pilot_says_what_the_pool_will_cost():
    cost = Cost(
        images=200,
        output_tokens=20_000,
        gpu_seconds=36.0,
        images_per_second=5.6,
        usd=0.03,
        usd_per_million_images=150.0,
        estimate=Estimate(2_000_000, 100.0, 300.0),
    )
    words = said(Page(render_pilots([pilot("seven", 195, cost=cost)])))
    assert "All 2 000 000 images at this pace: 100 GPU-hours, about $300." in words
    assert "$150" in words
    assert "Side by side" not in words
    unknown = said(Page(render_pilots([pilot("seven", 195)])))
    assert "GPU" not in unknown
    assert "not known" not in unknown


def test_means_are_of_the_rows_that_have_texts():
    texts = Annotation(("t", "u"), ("n",), ("one two", "three"), ("one six", "three"))
    rows = [AnnotatedRow("a", Status.OK, texts, attempts=1), AnnotatedRow("b", Status.REFUSED, None, attempts=3)]
    assert Texts.of(rows) == Texts(attempts=2.0, words=3.0, sentences=2.0, tags=2.0, negative_tags=1.0, pairs_kept=0.5)
    assert Texts.of([]) == Texts()


def test_small_numbers_read_well():
    assert [dollars(usd) for usd in (0.0421, 12.3, 1234.4)] == ["$0.0421", "$12.30", "$1\u202f234"]
    assert [decimal(value) for value in (0.0345, 2.714, 118.4, 1234.5)] == ["0.0345", "2.71", "118", "1\u202f234"]
    assert wilson(195, 200) == pytest.approx((0.9428, 0.9893), abs=1e-3)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
