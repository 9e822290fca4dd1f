"""A `Report` in, one HTML file out: no script, nothing loaded from elsewhere, the same bytes for the same input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from hqclip.report import Comparison, DataSummary, Fault, Faults, LossChart, Provenance, Report, ShownSample
from hqclip.report.charts import line_chart, swatch
from hqclip.report.comparison import differences, headline, table
from hqclip.report.counts import bar_table, data_summary, ranked, reason_meaning, reason_name, single_bar
from hqclip.report.gallery import fault_card, sample_card
from hqclip.report.markup import Html, duration, join, share_of, tag, whole

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NOTCH = "The notch on a bar is what guessing scores."


def render(report: Report) -> str:
    """The whole page, to be written as UTF-8."""
    style = Html(resources.files("hqclip.report").joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", report.title),
        tag("style", style),
    )
    parts = (part for part in _sections(report) if part)
    footer = tag("footer", tag("p", "One file: no scripts, nothing loaded from elsewhere."))
    body = tag("body", _header(report), tag("main", join(parts, "\n")), footer)
    return "<!DOCTYPE html>\n" + tag("html", head, "\n", body, lang="en") + "\n"


def _header(report: Report) -> Html:
    cycle = f"cycle {report.cycle}" if report.cycle is not None else "report"
    verdict: list[Html] = []
    if report.promoted is not None:
        sign, kind = ("✓ Promoted", "yes") if report.promoted else ("✕ Not promoted", "no")
        verdict.append(tag("strong", sign, class_=f"badge {kind}"))
    if report.verdict:
        verdict.append(tag("span", report.verdict))
    comparison = report.comparison
    return tag(
        "header",
        tag("p", tag("b", "hqclip"), f" · {cycle}", class_="eyebrow"),
        tag("h1", report.title),
        tag("p", *verdict, class_="verdict") if verdict else "",
        _averages(comparison) if comparison else "",
    )


def _averages(comparison: Comparison) -> Html:
    words = "Average over all benchmarks."
    if differences(comparison):
        against = comparison.baseline or "the baseline"
        words += f" Differences to {against} are in percentage points, with their 95\u202f% interval."
    if comparison.average.guessing is not None:
        words += f" {NOTCH}"
    return join([headline(comparison), tag("p", words, class_="caption")])


def _sections(report: Report) -> Iterable[Html | None]:
    styles = _styles(report)
    yield _comparison(report.comparison) if report.comparison and report.comparison.groups else None
    yield _samples(report.samples) if report.samples else None
    yield _data(report.data) if report.data else None
    yield _faults(report.faults) if report.faults else None
    yield _losses(report.losses, styles) if report.losses else None
    yield _run(report.run) if report.run else None


def _styles(report: Report) -> dict[str, int]:
    """A number for every arm, the same in all charts and tables."""
    names = [arm.name for arm in report.comparison.arms] if report.comparison else []
    names += [curve.arm for chart in report.losses for curve in chart.curves]
    return {name: style for style, name in enumerate(dict.fromkeys(names))}


def _section(title: str, caption: str, *content: Html) -> Html:
    return tag("section", tag("h2", title), tag("p", caption, class_="caption") if caption else "", *content)


def _comparison(comparison: Comparison) -> Html:
    title = "How the models compare" if len(comparison.arms) > 1 else "How the model scores"
    caption = "Scores are shares of right answers; higher is better."
    if differences(comparison):
        caption += (
            f" Beside each score: how many percentage points it lies from {comparison.baseline or 'the baseline'}. "
            "The dot is the difference, the line its 95\u202f% bootstrap interval: both models answered the same "
            "items, drawn again and again. A line that touches zero means no clear difference, wherever its dot lies."
        )
    if any(row.guessing is not None for group in comparison.groups for row in group.rows):
        caption += f" {NOTCH}"
    return _section(title, caption, table(comparison))


def _samples(samples: Iterable[ShownSample]) -> Html:
    caption = (
        "What the web says about a picture, and what the LVLM wrote: texts that are true of it (✓), each with one "
        "that is false (✕). Marked words are what makes it false; struck words were left out."
    )
    return _section("What the LVLM wrote", caption, tag("div", *map(sample_card, samples), class_="cards"))


def _data(data: DataSummary) -> Html:
    return _section("The data", f"{data.name}: from the pool to what training can use.", data_summary(data))


def _faults(faults: Faults) -> Html:
    total = sum(fault.count for fault in faults.reasons)
    if not total:
        return _section("Faults", f"None: all {whole(faults.samples)} samples could be used.")
    caption = (
        f"{whole(total)} of {whole(faults.samples)} samples ({share_of(total, faults.samples)}) could not be used. "
        "They are counted by reason, never silently lost; bars are shares of all faults, numbers of all samples."
    )
    reasons = sorted(faults.reasons, key=lambda fault: (-fault.count, fault.reason))
    return _section("Faults", caption, *(_fault(fault, faults.samples, total) for fault in reasons if fault.count))


def _fault(fault: Fault, samples: int, total: int) -> Html:
    head = tag(
        "div",
        tag("h3", reason_name(fault.reason)),
        single_bar(fault.count / total),
        tag("span", f"{whole(fault.count)} · {share_of(fault.count, samples)}", class_="value"),
        class_="fault",
    )
    examples = tag("ul", *map(fault_card, fault.examples), class_="examples") if fault.examples else ""
    meaning = reason_meaning(fault.reason)
    return tag("div", head, tag("p", meaning, class_="caption") if meaning else "", examples, class_="reason")


def _losses(charts: Iterable[LossChart], styles: Mapping[str, int]) -> Html:
    kept = list(charts)
    arms = dict.fromkeys(curve.arm for chart in kept for curve in chart.curves)
    legend = tag("ul", *(tag("li", swatch(styles[arm]), arm) for arm in arms), class_="legend")
    figures = [
        tag(
            "figure",
            tag("h3", chart.name),
            line_chart(chart, styles),
            tag("figcaption", chart.caption) if chart.caption else "",
        )
        for chart in kept
    ]
    caption = (
        "Loss by training step; lower is better, long curves are averaged over neighbouring steps. Compare heights "
        "within one part only: an arm that is taught more signals adds more parts into its total."
    )
    return _section("How training went", caption, legend, tag("div", *figures, class_="charts"))


def _run(run: Provenance) -> Html:
    parts: list[Html] = []
    if run.command:
        again = tag("p", "This repeats the run; what is already done is not done again.", class_="caption")
        lines = join(run.command.splitlines(), "\n")
        parts += [tag("h3", "Command"), again, tag("pre", tag("code", lines), tabindex=0)]
    panels: list[Html] = []
    if run.seconds:
        whole_time = f"{duration(sum(run.seconds.values()))} in all."
        bars = bar_table(run.seconds.items(), "Time by stage", duration)
        panels.append(_panel("Time by stage", tag("p", whole_time, class_="caption"), bars))
    if run.counts:
        panels.append(_panel("Counts", _facts((reason_name(k), whole(v)) for k, v in ranked(run.counts))))
    identity = {"code version": run.code_version} if run.code_version else {}
    if identity or run.digests:
        panels.append(_panel("Identity", _facts({**identity, **run.digests}.items(), code=True)))
    parts += [tag("div", *panels, class_="panels")] if panels else []
    if run.settings:
        parts += [tag("h3", "Settings"), *(_settings(stage, values) for stage, values in run.settings.items())]
    caption = "Everything that decides the result. The same inputs, settings and code give the same digests."
    return _section("What was run", caption, *parts)


def _panel(name: str, *content: Html) -> Html:
    return tag("div", tag("h3", name), *content, class_="panel")


def _facts(pairs: Iterable[tuple[str, str]], code: bool = False) -> Html:
    kind = "code" if code else "span"
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", tag(kind, v))) for k, v in pairs), class_="facts")


def _settings(stage: str, values: Any) -> Html:
    flat = dict(_flat(values, ""))
    return tag(
        "details",
        tag("summary", stage, tag("small", f" {len(flat)} setting{'s' if len(flat) != 1 else ''}")),
        _facts(flat.items(), code=True),
    )


def _flat(value: Any, name: str) -> Iterable[tuple[str, str]]:
    """Nested settings as dotted names."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name or "value", _plain(value)


def _plain(value: Any) -> str:
    return value or "(empty)" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
