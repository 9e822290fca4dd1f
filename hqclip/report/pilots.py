"""One or more `Pilot`s in, the page that shows what each LVLM wrote about the same samples, and what it takes, out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from hqclip.records import Status
from hqclip.report import Fault, Faults, ShownSample
from hqclip.report.charts import swatch
from hqclip.report.costs import decimal, dollars, estimate_in_words, figure_list, key_figures
from hqclip.report.counts import bar_table, ranked, reason_meaning, reason_name
from hqclip.report.dataset_report import STYLES, cost_section
from hqclip.report.document import document, section, what_was_run
from hqclip.report.gallery import LARGE, alt_text, fault_card, flags, picture, short_uid, what_was_written, written
from hqclip.report.markup import Html, join, percent, share_of, tag, whole, wide_table
from hqclip.report.refinement import Cost, Pilot, Texts

Value = Callable[[Pilot], str]


def render_pilots(pilots: Sequence[Pilot], title: str = "") -> str:
    """The whole page, to be written as UTF-8. Raises `ValueError` without a pilot."""
    if not pilots:
        raise ValueError("no pilots to show")
    title = title or ("Pilot: " if len(pilots) == 1 else "Pilots: ") + " and ".join(pilot.name for pilot in pilots)
    return document(title, _header(pilots, title), _sections(pilots), STYLES)


def _header(pilots: Sequence[Pilot], title: str) -> Html:
    kind = "pilot" if len(pilots) == 1 else "comparison of LVLMs"
    parts = [tag("p", tag("b", "hqclip"), f" · {kind}", class_="eyebrow"), tag("h1", title)]
    if len(pilots) == 1:
        only = pilots[0]
        told = f"{_valid(only)} of {whole(only.rows)} answers are valid. "
        told += estimate_in_words(only.cost) if only.cost else ""
        figures = [("images", whole(only.rows)), *(key_figures(only.cost) if only.cost else [])]
        parts += [tag("p", told, class_="verdict"), figure_list(figures)]
    else:
        lines = (tag("li", swatch(n), tag("span", tag("b", p.name), _about(p))) for n, p in enumerate(pilots))
        told = f"{len(pilots)} LVLMs or prompts on the same {whole(pilots[0].rows)} images."
        parts += [tag("p", told, class_="verdict"), tag("ul", *lines, class_="legend")]
    return tag("header", *parts, class_="refinement")


def _about(pilot: Pilot) -> Html:
    words = [f"prompt {pilot.prompt}"] if pilot.prompt else []
    words = ([pilot.model] if pilot.model and pilot.model != pilot.name else []) + words
    return tag("small", " · ".join(words), class_="about") if words else Html()


def _sections(pilots: Sequence[Pilot]) -> Iterable[Html | None]:
    yield _figures(pilots)
    if len(pilots) == 1:
        only = pilots[0]
        yield what_was_written(only.samples)
        yield _faults(pilots) if only.faults else None
        yield cost_section(only.cost) if only.cost else None
    else:
        yield _side_by_side(pilots)
        yield _faults(pilots) if any(pilot.faults for pilot in pilots) else None
    for pilot in pilots:
        yield what_was_run(pilot.run) if pilot.run else None


def _figures(pilots: Sequence[Pilot]) -> Html:
    said = [(name, about, [say(pilot) for pilot in pilots]) for name, about, say in FIGURES]
    rows = [(name, about, values) for name, about, values in said if set(values) != {UNKNOWN}]
    heads = (tag("th", *_mark(pilots, n), pilot.name, _about(pilot), scope="col") for n, pilot in enumerate(pilots))
    lines = (
        tag(
            "tr",
            tag("th", name, tag("small", about), scope="row"),
            *(tag("td", value, class_="value" if value != UNKNOWN else "value quiet") for value in values),
        )
        for name, about, values in rows
    )
    head = tag("thead", tag("tr", tag("th", "Figure", scope="col", class_="corner"), *heads))
    figures = wide_table("Figures", head, tag("tbody", *lines), kind=" plain" if len(pilots) > 1 else " plain alone")
    caption = (
        "Texts are counted over the answers that are valid. Longer is not better: read the samples. "
        "What a small sample says about shares is as wide as the interval beside them."
    )
    return section("In figures", caption, figures)


def _mark(pilots: Sequence[Pilot], number: int) -> tuple[Html, ...]:
    """The dash and colour of an LVLM where there are others."""
    return (swatch(number),) if len(pilots) > 1 else ()


UNKNOWN = "not known"


def _valid(pilot: Pilot) -> str:
    good = pilot.statuses.get(Status.OK, 0)
    if not pilot.rows:
        return UNKNOWN
    low, high = wilson(good, pilot.rows)
    return f"{percent(good / pilot.rows)} ({100 * low:.1f} to {100 * high:.1f})"


def wilson(good: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share by its score test (Wilson 1927); 195 of 200 is 0.943 to 0.989."""
    z = 1.96
    share = good / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _text(say: Callable[[Texts], float | None], form: Callable[[float], str]) -> Value:
    def value(pilot: Pilot) -> str:
        found = say(pilot.texts)
        return UNKNOWN if found is None else form(found)

    return value


def _cost(say: Callable[[Cost], float | None], form: Callable[[float], str]) -> Value:
    def value(pilot: Pilot) -> str:
        found = say(pilot.cost) if pilot.cost and pilot.cost.images else None
        return UNKNOWN if found is None else form(found)

    return value


FIGURES: tuple[tuple[str, str, Value], ...] = (
    ("valid answers", "with their 95\u202f% interval", _valid),
    ("attempts an image", "", _text(lambda t: t.attempts, "{:.2f}".format)),
    ("words a description", "mean", _text(lambda t: t.words, decimal)),
    ("sentences a description", "mean", _text(lambda t: t.sentences, decimal)),
    ("tags an image", "mean", _text(lambda t: t.tags, decimal)),
    ("negative tags an image", "mean", _text(lambda t: t.negative_tags, decimal)),
    ("pairs kept", "sentences with a contradiction that differs", _text(lambda t: t.pairs_kept, percent)),
    ("prompt tokens an image", "", _cost(lambda c: c.prompt_tokens / c.images, decimal)),
    ("output tokens an image", "", _cost(lambda c: c.output_tokens / c.images, decimal)),
    ("images a second", "one process", _cost(lambda c: c.images_per_second, decimal)),
    (
        "GPU-seconds",
        "for 1000 images",
        _cost(lambda c: 1000 * c.gpu_seconds / c.images if c.gpu_seconds else None, decimal),
    ),
    ("a million images", "dollars", _cost(lambda c: c.usd_per_million_images, dollars)),
    ("the whole pool", "GPU-hours", _cost(lambda c: c.estimate.gpu_hours if c.estimate else None, decimal)),
    ("the whole pool", "dollars", _cost(lambda c: c.estimate.usd if c.estimate else None, dollars)),
)


def _side_by_side(pilots: Sequence[Pilot]) -> Html | None:
    by_uid = [{shown.sample.uid: shown for shown in pilot.samples} for pilot in pilots]
    uids = dict.fromkeys(shown.sample.uid for pilot in pilots for shown in pilot.samples)
    if not uids:
        return None
    cards = (_compared(pilots, [shown.get(uid) for shown in by_uid]) for uid in uids)
    caption = (
        "The same picture as each LVLM saw it: texts that are true of it (✓), each with one that is false (✕). "
        "Marked words are what makes it false; struck words were left out."
    )
    return section("Side by side", caption, *cards)


def _compared(pilots: Sequence[Pilot], shown: Sequence[ShownSample | None]) -> Html:
    """One image, and a column for every LVLM."""
    known = [one for one in shown if one]
    pictured = next((one for one in known if one.sample.image), known[0]).sample
    columns = (
        tag("div", tag("h4", swatch(n), pilot.name), *_column(one), class_="column")
        for n, (pilot, one) in enumerate(zip(pilots, shown, strict=True))
    )
    return tag(
        "article",
        tag(
            "div",
            picture(pictured.image, f"Sample {short_uid(pictured)}", LARGE),
            tag("div", tag("h3", short_uid(pictured)), alt_text(pictured)),
            class_="pictured",
        ),
        tag("div", *columns, class_="columns"),
        class_="card sample compared",
    )


def _column(shown: ShownSample | None) -> tuple[Html, ...]:
    if shown is None:
        return (tag("p", "Not shown for this LVLM.", class_="quiet"),)
    tags, sentences = written(shown)
    return tags, sentences, flags(shown)


def _faults(pilots: Sequence[Pilot]) -> Html:
    named = [(pilot, pilot.faults) for pilot in pilots if pilot.faults]
    caption = "Answers that could not be used, by reason, as shares of all images; and what was said instead."
    return section("Faults", caption, *(_pilot_faults(pilot, faults, len(pilots) > 1) for pilot, faults in named))


def _pilot_faults(pilot: Pilot, faults: Faults, is_named: bool) -> Html:
    head = tag("h3", pilot.name) if is_named else Html()
    counts = {fault.reason: fault.count for fault in faults.reasons if fault.count}
    if not counts:
        return tag("div", head, tag("p", f"None of {whole(faults.samples)}.", class_="quiet"), class_="reason")
    rows = [(reason_name(reason), count) for reason, count in ranked(counts)]
    bars = bar_table(rows, "Faults", lambda count: f"{whole(int(count))} · {share_of(int(count), faults.samples)}")
    return tag("div", head, bars, join(map(_examples, faults.reasons)), class_="reason")


def _examples(fault: Fault) -> Html:
    if not fault.examples:
        return Html()
    about = " · ".join(filter(None, [reason_name(fault.reason), reason_meaning(fault.reason)]))
    return join([tag("p", about, class_="caption"), tag("ul", *map(fault_card, fault.examples), class_="examples")])
