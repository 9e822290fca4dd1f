"""A `History` in, one HTML file out: how all cycles of a store went, and what their nights cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from hqclip.report import history_charts as charts
from hqclip.report.costs import Figure, figure_list
from hqclip.report.document import document, navigation, section
from hqclip.report.history import History, PastCycle
from hqclip.report.markup import Html, duration, percent, tag, whole
from hqclip.report.nights import idle_figures, night_list
from hqclip.report.spending import dollar_range, total
from hqclip.report.trends import Trend, figure

STYLES = ("style.css", "history.css")
RECENT = 30  # cycles whose cost is a night's
MOST_PROBLEMS = 50


def render_history(history: History) -> str:
    """The whole page, to be written as UTF-8."""
    return document("History of all cycles", _header(history), _sections(history), STYLES)


def _header(history: History) -> Html:
    return tag(
        "header",
        tag("p", tag("b", "hqclip"), f" · {history.store}", class_="eyebrow"),
        tag("h1", "History of all cycles"),
        tag("p", _verdict(history), class_="verdict"),
        figure_list(_figures(history)) if history.cycles else "",
        class_="history",
    )


def _verdict(history: History) -> str:
    if not history.cycles:
        return "No cycle was planned yet."
    last = history.cycles[-1]
    said = f"Cycle {last.cycle} is the newest: {last.verdict}." if last.verdict != "open" else _open(last)
    champion = next((past for past in history.cycles if past.cycle == history.champion), None)
    if champion is None:
        return f"{said} No model is in force." if not history.champion else said
    score = f", with an average of {percent(champion.average)}" if champion.average is not None else ""
    return f"{said} In force is {champion.candidate or 'the model'} of cycle {champion.cycle}{score}."


def _open(last: PastCycle) -> str:
    return f"Cycle {last.cycle} is the newest, and not done."


def _figures(history: History) -> Iterator[Figure]:
    cycles = history.cycles
    yield "cycles", whole(len(cycles))
    yield "promoted", whole(sum(past.verdict == "promoted" for past in cycles))
    if (usable := next((past.usable for past in reversed(cycles) if past.usable is not None), None)) is not None:
        yield "usable samples, newest", whole(usable)
    recent = [total(past.stages) for past in cycles[-RECENT:] if past.stages]
    gpu_seconds = [seconds for seconds, _ in recent if seconds]
    usd = [found for _, found in recent if found]
    if gpu_seconds:
        yield "GPU time of a night", duration(statistics.median(gpu_seconds))
    if usd:
        low, high = zip(*usd, strict=True)
        yield "cost of a night", dollar_range((statistics.median(low), statistics.median(high)))
    yield from idle_figures(history)


def _sections(history: History) -> Iterable[Html | None]:
    cycles = history.cycles
    yield _problems(history) if history.problems else None
    yield _scores(cycles) if len(cycles) > 1 else None
    yield _nights(history) if cycles or history.runs else None
    if len(cycles) > 1:
        yield _charts("Data", "What each cycle was trained on.", charts.data(cycles))
        about = "Whether a model that teaches its successor writes longer, poorer or more alike."
        yield _charts("Texts", about, charts.texts(cycles))
        about = f"{_recent_in_words(cycles)} Tries that failed and waiting machines are in the time by the clock alone."
        yield _charts("Cost", about, charts.cost(history))
    elif cycles:
        yield section("Curves", "They begin with the second cycle.")
    yield _sweeps(history) if history.sweeps else None


def _scores(cycles: Sequence[PastCycle]) -> Html | None:
    caption = (
        "What each cycle's candidate scored, against the model in force; scores of different suites are not joined. "
        "The band of a benchmark is its own 95\u202f% interval."
    )
    return _charts("Scores", caption, charts.by_benchmark(cycles), charts.average(cycles))


def _recent_in_words(cycles: Iterable[PastCycle]) -> str:
    count = min(RECENT, len(list(cycles)))
    return f"What cycles took; the figures above are medians of the last {count}."


def _charts(title: str, caption: str, trends: Iterable[Trend], first: Trend | None = None) -> Html | None:
    shown = [trend for trend in trends if charts.has_values(trend)]
    wide = [figure(first, is_wide=True)] if first and charts.has_values(first) else []
    if not shown and not wide:
        return None
    grid = tag("div", *map(figure, shown), class_="charts trends") if shown else Html("")
    return section(title, caption, *wide, grid)


def _nights(history: History) -> Html:
    older = [f"{whole(number)} {what}" for what, number in history.left_out.items() if number]
    before = f" Older ones are left out: {' and '.join(older)}." if older else ""
    curves = [tag("p", "All training curves: ", tag("code", history.curves), class_="caption")]
    caption = f"The newest first, with runs that came to no cycle; times are UTC.{before}"
    return section("Night by night", caption, night_list(history), *(curves if history.curves else []))


def _sweeps(history: History) -> Html:
    rows = (
        tag(
            "li",
            tag("h3", "Sweep", tag("small", sweep.digest)),
            tag("div", tag("p", sweep.reason), navigation(history.links.get(sweep.digest, ()))),
        )
        for sweep in history.sweeps
    )
    return section("Sweeps", "Trials that were compared; none of them puts a model in force.", _nights_of(rows))


def _nights_of(rows: Iterable[Html]) -> Html:
    return tag("ol", *rows, class_="nights")


def _problems(history: History) -> Html:
    count = len(history.problems)
    records = f"{whole(count)} records" if count != 1 else "1 record"
    more = f" The first {MOST_PROBLEMS}." if count > MOST_PROBLEMS else ""
    caption = f"{records} could not be read, and nothing below knows of them.{more}"
    rows = (tag("li", text) for text in history.problems[:MOST_PROBLEMS])
    return section("What is missing", caption, tag("ul", *rows, class_="tries"))
