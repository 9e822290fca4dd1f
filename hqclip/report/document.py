"""The frame of every page in, one HTML file out: no script, nothing loaded from elsewhere; and what was run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from hqclip.report import Link, Provenance
from hqclip.report.counts import bar_table, ranked, reason_name
from hqclip.report.markup import Html, duration, join, tag, whole

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, header: Html, sections: Iterable[Html | None], styles: Iterable[str] = ("style.css",)) -> str:
    """The whole page, to be written as UTF-8; the same bytes for the same input."""
    folder = resources.files("hqclip.report")
    style = Html("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in styles))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    parts = (part for part in sections if part)
    footer = tag("footer", tag("p", "One file: no scripts, nothing loaded from elsewhere."))
    body = tag("body", header, tag("main", join(parts, "\n")), footer)
    return "<!DOCTYPE html>\n" + tag("html", head, "\n", body, lang="en") + "\n"


def section(title: str, caption: str, *content: Html) -> Html:
    """A heading, what it is about, and what is under it."""
    return tag("section", tag("h2", title), tag("p", caption, class_="caption") if caption else "", *content)


def what_was_run(run: Provenance) -> Html:
    """The section that names settings, digests, times and the command."""
    parts: list[Html] = []
    if run.command:
        again = tag("p", "This repeats the run; what is already done is not done again.", class_="caption")
        lines = join(run.command.splitlines(), "\n")
        parts += [tag("h3", "Command"), again, tag("pre", tag("code", lines), tabindex=0)]
    panels: list[Html] = []
    if run.seconds:
        whole_time = time_in_words(sum(run.seconds.values()), run.elapsed)
        bars = bar_table(run.seconds.items(), "Time by stage", duration)
        panels.append(panel("Time by stage", tag("p", whole_time, class_="caption"), bars))
    if run.spent:
        panels.append(panel("All runs and tries together", facts(run.spent.items())))
    if run.counts:
        panels.append(panel("Counts", facts((reason_name(k), whole(v)) for k, v in ranked(run.counts))))
    identity = {"code version": run.code_version} if run.code_version else {}
    if identity or run.digests:
        panels.append(panel("Identity", facts({**identity, **run.digests}.items(), code=True)))
    parts += [tag("div", *panels, class_="panels")] if panels else []
    if run.settings:
        parts += [tag("h3", "Settings"), *(_settings(stage, values) for stage, values in run.settings.items())]
    caption = "Everything that decides the result. The same inputs, settings and code give the same digests."
    return section("What was run", caption, *parts)


def time_in_words(worked: float, elapsed: float | None) -> str:
    """The sum of all stages, beside the time from the first to the last, so that waiting is seen."""
    if elapsed is None:
        return f"{duration(worked)} in all."
    waited = f", {duration(elapsed - worked)} of it waiting" if elapsed > worked else ""
    return f"{duration(worked)} in all stages together; {duration(elapsed)} from the plan to the verdict{waited}."


def navigation(links: Iterable[Link]) -> Html:
    """Where a reader goes on; nothing without links."""
    parts = [tag("a", link.name, href=link.href) for link in links]
    return tag("nav", *parts, aria_label="Related pages", class_="links") if parts else Html("")


def panel(name: str, *content: Html) -> Html:
    """A part of a section that stands beside others."""
    return tag("div", tag("h3", name), *content, class_="panel")


def facts(pairs: Iterable[tuple[str, str]], code: bool = False) -> Html:
    """Names with their values."""
    kind = "code" if code else "span"
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", tag(kind, v))) for k, v in pairs), class_="facts")


def _settings(stage: str, values: Any) -> Html:
    flat = dict(_flat(values, ""))
    return tag(
        "details",
        tag("summary", stage, tag("small", f" {len(flat)} setting{'s' if len(flat) != 1 else ''}")),
        facts(flat.items(), code=True),
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
