"""A `Report` in, one HTML file out: no script, nothing loaded from elsewhere, the same bytes for the same input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hqclip.records import FailedTrial
from hqclip.report import Comparison, DataSummary, Decision, Fault, Faults, LossChart, Report
from hqclip.report.answers import set_by_set, what_moved
from hqclip.report.charts import line_chart, swatch
from hqclip.report.comparison import differences, headline, table
from hqclip.report.counts import data_summary, reason_meaning, reason_name, single_bar
from hqclip.report.document import POLICY, document, navigation, section, what_was_run
from hqclip.report.gallery import fault_card, what_was_written
from hqclip.report.gate import what_decided
from hqclip.report.gpu_use import how_gpus_were_used
from hqclip.report.markup import Html, join, share_of, tag, whole, wide_table
from hqclip.report.spending import what_it_cost

BADGES = {Decision.PROMOTED: "yes", Decision.NOT_PROMOTED: "no", Decision.WAITS: "open"}

__all__ = ["POLICY", "render"]


def render(report: Report) -> str:
    """The whole page, to be written as UTF-8."""
    return document(report.title, _header(report), _sections(report), ("style.css", "answers.css"))


def _header(report: Report) -> Html:
    cycle = f"cycle {report.cycle}" if report.cycle is not None else "report"
    verdict: list[Html] = []
    if report.decision is not None:
        verdict.append(tag("strong", report.decision, class_=f"badge {BADGES[report.decision]}"))
    if report.verdict:
        verdict.append(tag("span", report.verdict))
    comparison = report.comparison
    return tag(
        "header",
        tag("p", tag("b", "hqclip"), f" · {cycle}", class_="eyebrow"),
        tag("h1", report.title),
        tag("p", *verdict, class_="verdict") if verdict else "",
        navigation(report.links),
        _averages(comparison) if comparison else "",
    )


def _averages(comparison: Comparison) -> Html:
    words = "Average over all benchmarks."
    if differences(comparison):
        against = comparison.baseline or "the baseline"
        words += f" Differences to {against} are in percentage points, with their 95\u202f% interval."
    return join([headline(comparison), tag("p", words, class_="caption")])


def _sections(report: Report) -> Iterable[Html | None]:
    styles = _styles(report)
    yield what_decided(report.gate) if report.gate else None
    yield _comparison(report.comparison) if report.comparison and report.comparison.groups else None
    yield what_moved(report.answers) if report.answers else None
    yield set_by_set(report.answers) if report.answers else None
    yield _failed(report.failed) if report.failed else None
    yield what_was_written(report.samples)
    yield _data(report.data) if report.data else None
    yield _faults(report.faults) if report.faults else None
    yield _losses(report.losses, styles) if report.losses else None
    yield what_it_cost(report.cost, report.run.elapsed if report.run else None) if report.cost else None
    yield how_gpus_were_used(report.gpus) if report.gpus else None
    yield what_was_run(report.run) if report.run else None


def _styles(report: Report) -> dict[str, int]:
    """A number for every model, the same in all charts and tables."""
    names = [model.name for model in report.comparison.models] if report.comparison else []
    names += [curve.model for chart in report.losses for curve in chart.curves]
    return {name: style for style, name in enumerate(dict.fromkeys(names))}


def _comparison(comparison: Comparison) -> Html:
    title = "How the models compare" if len(comparison.models) > 1 else "How the model scores"
    caption = "Scores are shares of right answers; higher is better."
    if differences(comparison):
        caption += (
            f" Beside each score: how many percentage points it lies from {comparison.baseline or 'the baseline'}. "
            "The dot is the difference, the line its 95\u202f% bootstrap interval: both models answered the same "
            "items, drawn again and again. A line that touches zero means no clear difference, wherever its dot lies."
        )
    return section(title, caption, table(comparison))


def _failed(failed: Sequence[FailedTrial]) -> Html:
    caption = "These trials have no scores, and nothing above knows of them."
    head = tag("tr", *(tag("th", name, scope="col") for name in ("trial", "failed in", "exit code", "why")))
    about = [(one.trial, (one.stage, str(one.exit_code), one.error)) for one in failed]
    rows = (tag("tr", tag("th", trial, scope="row"), *(tag("td", text) for text in said)) for trial, said in about)
    return section(
        "What failed", caption, wide_table("Failed trials", tag("thead", head), tag("tbody", *rows), kind=" failed")
    )


def _data(data: DataSummary) -> Html:
    return section("The data", f"{data.name}: from the pool to what training can use.", data_summary(data))


def _faults(faults: Faults) -> Html:
    total = sum(fault.count for fault in faults.reasons)
    if not total:
        return section("Faults", f"None: all {whole(faults.samples)} samples could be used.")
    caption = (
        f"{whole(total)} of {whole(faults.samples)} samples ({share_of(total, faults.samples)}) could not be used. "
        "They are counted by reason, never silently lost; bars are shares of all faults, numbers of all samples."
    )
    reasons = sorted(faults.reasons, key=lambda fault: (-fault.count, fault.reason))
    return section("Faults", caption, *(_fault(fault, faults.samples, total) for fault in reasons if fault.count))


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
    models = dict.fromkeys(curve.model for chart in kept for curve in chart.curves)
    legend = tag("ul", *(tag("li", swatch(styles[model]), model) for model in models), class_="legend")
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
        "within one part only: a model that is taught more signals adds more parts into its total."
    )
    return section("How training went", caption, legend, tag("div", *figures, class_="charts"))
