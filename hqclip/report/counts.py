"""Counts in, bars out: what became of the samples, which tags are common, how long the stages took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hqclip.records import Status
from hqclip.report import DataSummary
from hqclip.report.markup import Html, percent, share_of, tag, whole

TOP_TAGS = 20

REASONS = {
    Status.OK: "four usable texts",
    Status.NOT_JSON: "the answer is no JSON document",
    Status.WRONG_SHAPE: "the answer is JSON, but not four lists of texts",
    Status.EMPTY: "a list or a text is empty",
    Status.TRUNCATED: "the answer was cut at its token limit",
    Status.REPEATED: "the model said the same words over and over",
    Status.REFUSED: "the model declined to answer",
    Status.NEGATIVE_EQUALS_POSITIVE: "the false sentences are the true ones again",
    Status.UNREADABLE_IMAGE: "the image could not be decoded",
    Status.TIMED_OUT: "the engine gave no answer in time",
    Status.QUARANTINED: "the engine died on this image again and again",
    Status.ENGINE_ERROR: "the engine refused the request",
    Status.MISSING: "nothing was written for this sample",
}


def data_summary(data: DataSummary) -> Html:
    """The numbers of a data set version, and bars for statuses, flags and tags."""
    figures = [(whole(data.rows), "samples"), (whole(data.usable_rows), "usable")]
    figures += [(percent(data.usable_rows / data.rows), "of them usable")] if data.rows else []
    figures += [(whole(data.tag_vocabulary), "tags in the vocabulary")] if data.tag_vocabulary else []
    facts = (tag("div", tag("dt", name), tag("dd", value)) for value, name in figures)
    columns = (
        _panel("Status", "What became of each sample; all shares are of all samples.", data.statuses, data.rows)
        + _panel("Flags", "What curation noticed; a sample may have several flags or none.", data.flags, data.rows),
        _panel("Most frequent tags", "What the LVLM sees most often, in short tags.", data.tags, data.rows),
    )
    panels = (tag("div", *column) for column in columns if column)
    return tag("div", tag("dl", *facts, class_="figures"), tag("div", *panels, class_="panels"))


def _panel(name: str, caption: str, counts: Mapping[str, int], total: int) -> list[Html]:
    if not counts:
        return []
    top = ranked(counts)[:TOP_TAGS]
    rest = f" The first {len(top)} of {whole(len(counts))}." if len(top) < len(counts) else ""
    rows = [(reason_name(key), count) for key, count in top]
    bars = bar_table(rows, name, lambda count: f"{whole(int(count))} · {share_of(int(count), total)}")
    return [tag("div", tag("h3", name), tag("p", caption + rest, class_="caption"), bars, class_="panel")]


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Most frequent first, ties by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def bar_table(rows: Iterable[tuple[str, float]], caption: str, say: Callable[[float], str]) -> Html:
    """One bar a row, as wide as its share of the largest."""
    kept = list(rows)
    largest = max((value for _, value in kept), default=0.0)
    lines = [
        tag(
            "tr",
            tag("th", name, scope="row", dir="auto"),
            tag("td", single_bar(value / largest if largest > 0 else 0.0), class_="across"),
            tag("td", say(value), class_="value"),
        )
        for name, value in kept
    ]
    return tag("table", tag("caption", caption, class_="hidden"), *lines, class_="bars")


def single_bar(share: float) -> Html:
    """A bar over a share of the width, 0 to 1."""
    full = tag("i", class_="full", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%")
    return tag("div", full, class_="bar", aria_hidden="true")


def reason_name(reason: str) -> str:
    """`not_json` -> `not json`."""
    return reason.replace("_", " ")


def reason_meaning(reason: str) -> str:
    """What a fault means, or nothing for one that is not ours."""
    return REASONS.get(Status(reason), "") if reason in set(Status) else ""
