"""A `DatasetReport` in, the page about the texts of a data set version out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hqclip.report import ShownSample
from hqclip.report.costs import all_figures, figure_list, key_figures
from hqclip.report.counts import bar_table, ranked, reason_meaning, reason_name
from hqclip.report.document import document, facts, navigation, panel, section, what_was_run
from hqclip.report.gallery import finding_card, sample_card
from hqclip.report.histograms import drift_in_words, histogram, in_words
from hqclip.report.markup import Html, cut, join, percent, rounded_percent, share_of, tag, whole
from hqclip.report.refinement import Cost, DatasetReport, Histogram, RuleCount, Tags

STYLES = ("style.css", "refinement.css")
TOP_TAGS, TOP_CHANGES, TOP_OPENINGS, MAX_OPENING = 20, 12, 8, 80
SHARES = {
    "duplicate_descriptions": "descriptions that were met before",
    "top_opening": "descriptions with the most frequent first words",
    "long_sentences": "sentences longer than CLIP reads",
}


def render_dataset_report(report: DatasetReport) -> str:
    """The whole page, to be written as UTF-8."""
    return document(report.title, _header(report), _sections(report), STYLES)


def _header(report: DatasetReport) -> Html:
    over = [rule for rule in report.rules if rule.is_exceeded]
    fine = not over and not report.drifted
    sign, kind = ("✓ Within limits", "yes") if fine else ("✕ Over its limits", "no")
    figures = [("images", whole(report.rows)), ("usable", whole(report.usable_rows))]
    return tag(
        "header",
        tag("p", tag("b", "hqclip"), " · refined texts", class_="eyebrow"),
        tag("h1", report.title),
        tag("p", tag("strong", sign, class_=f"badge {kind}"), _verdict(report, over), class_="verdict"),
        navigation(report.links),
        figure_list([*figures, *(key_figures(report.cost) if report.cost else [])]),
        class_="refinement",
    )


def _verdict(report: DatasetReport, over: list[RuleCount]) -> str:
    if not report.rows:
        return "There are no samples."
    words = [f"{percent(report.usable_rows / report.rows)} of {whole(report.rows)} samples can be trained on."]
    words += [f"{_over(rule, report.rows)}." for rule in over]
    words += [
        f"{_readable(name)} moved by {report.drift.get(name, 0.0):.2f} from the parent." for name in report.drifted
    ]
    return " ".join(words)


def _over(rule: RuleCount, rows: int) -> str:
    limit = f", more than its limit of {rounded_percent(rule.limit)}" if rule.limit is not None else ""
    return f"{_readable(rule.name)}: {share_of(rule.count, rows)}{limit}"


def _readable(name: str) -> str:
    words = reason_name(name)
    return words[:1].upper() + words[1:]


def _sections(report: DatasetReport) -> Iterable[Html | None]:
    yield _rules(report) if report.rules else None
    yield _histograms(report) if report.histograms else None
    yield _shown("Random samples", _about_random(report), report.samples)
    yield _shown("The worst samples", _about_worst(report), report.worst)
    yield _words(report) if report.tags or report.openings else None
    yield cost_section(report.cost) if report.cost else None
    yield what_was_run(report.run) if report.run else None


def _rules(report: DatasetReport) -> Html:
    met = sorted((rule for rule in report.rules if rule.count), key=lambda r: (not r.is_exceeded, -r.count, r.name))
    others = [rule for rule in report.rules if not rule.count]
    caption = (
        "Every rule and every reason for refusal that was met, as a share of all samples; a sample may be counted in "
        "several. All bars have the same scale; the notch on a bar is the limit at which curation fails."
    )
    largest = max((rule.count for rule in met), default=0) / max(report.rows, 1)
    scale = min(1.0, max(0.05, 1.15 * largest))
    found = tag("ol", *(_rule(rule, report, scale) for rule in met), class_="rules")
    rest: list[Html] = []
    if others:
        names = (tag("li", tag("b", reason_name(rule.name)), f" {_meaning(rule)}") for rule in others)
        label = f"{len(others)} more found nothing"
        rest = [tag("details", tag("summary", label), tag("ul", *names, class_="unmet"))]
    return section("What was found", caption, found if met else tag("p", "Nothing.", class_="quiet"), *rest)


def _meaning(rule: RuleCount) -> str:
    return rule.meaning or reason_meaning(rule.name)


def _rule(rule: RuleCount, report: DatasetReport, scale: float) -> Html:
    share = rule.count / report.rows if report.rows else 0.0
    notch = ""
    if rule.limit is not None and rule.limit <= scale:
        notch = tag("i", class_="notch", style=f"left:{100 * rule.limit / scale:.1f}%")
    full = tag("i", class_="full", style=f"width:{100 * min(share / scale, 1):.1f}%")
    about = tag("small", _meaning(rule)) if _meaning(rule) else ""
    count = tag("span", tag("b", share_of(rule.count, report.rows)), tag("small", _numbers(rule)), class_="value")
    head = tag(
        "div",
        tag("div", tag("h3", reason_name(rule.name)), about),
        tag("div", full, notch, class_=f"bar {'over' if rule.is_exceeded else ''}", aria_hidden="true"),
        count,
        tag("div", _limit(rule), tag("small", rule.effect) if rule.effect else "", class_="judged"),
        class_="rule",
    )
    examples = tag("ul", *map(finding_card, rule.examples), class_="found") if rule.examples else ""
    return tag("li", head, examples)


def _numbers(rule: RuleCount) -> str:
    before = f", parent {percent(rule.before)}" if rule.before is not None else ""
    return f"{whole(rule.count)}{before}"


def _limit(rule: RuleCount) -> Html:
    if rule.limit is None:
        return tag("span", "no limit", class_="quiet")
    limit = rounded_percent(rule.limit)
    if rule.is_exceeded:
        return tag("strong", f"✕ over its limit of {limit}", class_="over")
    return tag("span", f"✓ limit {limit}", class_="within")


def _histograms(report: DatasetReport) -> Html:
    caption = "Shares of what is counted, by bins; the last bin is open."
    if any(shown.outline_name == "parent" for shown in report.histograms):
        caption += (
            " Outlines are the parent version. Drift is the population stability index: "
            "under 0.1 is commonly called stable, over 0.25 a large change."
        )
    named = {name: value for name, value in report.drift.items() if value is not None}
    moved: list[Html] = []
    if named:
        pairs = sorted(named.items(), key=lambda item: (item[0] not in report.drifted, -item[1], item[0]))
        lines = (
            (reason_name(k) + (" (over its limit)" if k in report.drifted else ""), drift_in_words(v)) for k, v in pairs
        )
        moved = [tag("details", tag("summary", f"Drift from {report.parent or 'the parent'}"), facts(lines))]
    figures = tag("div", *map(figure, report.histograms), class_="charts")
    return section("Distributions", caption, figures, *moved)


def figure(shown: Histogram) -> Html:
    """A histogram with its name, what it says in words, and how far it moved."""
    words = in_words(shown)
    said = words[:1].upper() + words[1:] + "."
    if shown.drift is not None:
        said += f" Drift {drift_in_words(shown.drift)}."
    if shown.outline and shown.outline_name and shown.outline_name != "parent":
        said += f" Outline: {shown.outline_name}."
    return tag(
        "figure",
        tag("h3", shown.name),
        histogram(shown),
        tag("figcaption", f"{said} {shown.caption}".strip()),
    )


def _about_random(report: DatasetReport) -> str:
    among = f", out of {whole(report.looked_at)}" if report.looked_at else ""
    return (
        f"Drawn by chance{among}; the same for the same data. Texts that are true of the picture (✓), each with one "
        "that is false (✕). Marked words are what makes it false; struck words were left out."
    )


def _about_worst(report: DatasetReport) -> str:
    among = f" of {whole(report.looked_at)} looked at" if report.looked_at else ""
    return f"Those with most flags, most attempts or least similarity to their texts{among}: read these first."


def _shown(title: str, caption: str, samples: Iterable[ShownSample]) -> Html | None:
    cards = [sample_card(shown) for shown in samples]
    return section(title, caption, tag("div", *cards, class_="cards")) if cards else None


def _words(report: DatasetReport) -> Html:
    common, changed = _tag_panels(report.tags) if report.tags else ([], [])
    if report.openings:
        top = [(cut(text, MAX_OPENING), count) for text, count in ranked(report.openings)[:TOP_OPENINGS]]
        bars = tag("div", bar_table(top, "Openings", lambda count: whole(int(count))), class_="openings")
        changed.append(panel("How descriptions begin", tag("p", "Their first five words.", class_="caption"), bars))
    if report.shares:
        lines = ((SHARES.get(name, reason_name(name)), percent(share)) for name, share in report.shares.items())
        changed.append(panel("Sameness", facts(lines)))
    columns = (tag("div", *column) for column in (common, changed) if column)
    against = ", what came and went against the parent" if report.tags and report.tags.before else ""
    caption = f"Which tags are common{against}, and how alike the descriptions are."
    return section("Tags and words", caption, tag("div", *columns, class_="panels"))


def _tag_panels(tags: Tags) -> tuple[list[Html], list[Html]]:
    """The common ones, and what is new and what vanished."""
    top = ranked(tags.counts)[:TOP_TAGS]
    bars = bar_table(
        top, "Most frequent tags", lambda count: f"{whole(int(count))} · {share_of(int(count), tags.total)}"
    )
    about = f"The first {len(top)} of {whole(len(tags.counts))}."
    common = panel("Most frequent tags", tag("p", about, class_="caption"), bars)
    changes = (("New tags", tags.counts, tags.before), ("Vanished tags", tags.before, tags.counts))
    return [common], [panel(name, _change(here, there)) for name, here, there in changes if tags.before]


def _change(here: Mapping[str, int], there: Mapping[str, int]) -> Html:
    """The most frequent tags of one vocabulary that the other lacks."""
    only = {name: count for name, count in here.items() if name not in there}
    if not only:
        return tag("p", "None.", class_="caption")
    top = ranked(only)[:TOP_CHANGES]
    chips = (tag("li", tag("bdi", cut(name, 60)), tag("small", f" {whole(count)}")) for name, count in top)
    about = f"{whole(len(only))} in all, most frequent first."
    return join([tag("p", about, class_="caption"), tag("ul", *chips, class_="tags")])


def cost_section(cost: Cost) -> Html:
    """The section that says what annotation took."""
    caption = "What annotation took, work that was lost and done again included."
    return section("Cost", caption, facts(all_figures(cost)))
