"""Text and numbers in, HTML out: the only place where markup is made, so that nothing enters a page unescaped."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable

Attribute = str | int | float | None
_VOID = frozenset({"img", "meta", "br"})
MAX_MARKS = 4  # no living script needs more
_JOINERS = "\u200c\u200d"  # emoji and Persian need them
_THIN = "\u202f"  # a narrow space that does not break: between thousands and before units


class Html(str):
    """Finished markup. Every other text is escaped where it enters `tag`, also what an f-string makes of `Html`."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: Attribute) -> Html:
    """An element. Children that are not `Html` are text; `class_` is `class`, `aria_label` is `aria-label`."""
    inside = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{inside}>")
    return Html(f"<{name}{inside}>{join(children)}</{name}>")


def wide_table(name: str, *parts: Html, kind: str = "") -> Html:
    """A table, in a region of its own where it is wider than the page; `name` is for those who do not see it."""
    table = tag("table", tag("caption", name, class_="hidden"), *parts)
    return tag("div", table, class_=f"scroll scores{kind}", role="region", aria_label=name, tabindex=0)


def join(children: Iterable[str], separator: str = "") -> Html:
    """Elements and texts one after another."""
    parts = (child if isinstance(child, Html) else _escaped(child) for child in children)
    return Html(separator.join(parts))


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def visible(text: str) -> str:
    """The text with what would hide or reorder its neighbours spelled out: NUL is `␀`, a bidi override `⟨U+202E⟩`.

    Of accents stacked on one letter the first `MAX_MARKS` stay, so that they do not cover the lines above.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= MAX_MARKS:
            shown.append(_visible(letter))
    return "".join(shown)


def _visible(letter: str) -> str:
    category = unicodedata.category(letter)
    if letter.isprintable() or letter in _JOINERS or category == "Zs":
        return letter
    if letter in "\t\r\n" or category in ("Zl", "Zp"):
        return " "
    return chr(0x2400 + ord(letter)) if ord(letter) < 32 else f"⟨U+{ord(letter):04X}⟩"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, then an ellipsis."""
    return text if len(text) <= limit else text[:limit].rstrip() + "…"


def whole(number: int) -> str:
    """20000 -> `20 000`."""
    return f"{number:,}".replace(",", _THIN)


def percent(share: float, decimals: int = 1) -> str:
    """0.712 -> `71.2 %`."""
    return f"{100 * share:.{decimals}f}{_THIN}%"


def rounded_percent(share: float) -> str:
    """0.5 -> `50 %`, 0.025 -> `2.5 %`."""
    return f"{100 * share:.3g}{_THIN}%"


def share_of(count: int, total: int) -> str:
    """`5.2 %` of the whole; small but not nothing is `< 0.1 %`."""
    share = count / total if total > 0 else 0.0
    return f"<{_THIN}0.1{_THIN}%" if 0 < share < 0.0005 else percent(share)


def points(difference: float) -> str:
    """0.031 -> `+3.1`, -0.012 -> `−1.2`: percentage points, with a second decimal where one would read as zero."""
    value = 100 * difference
    text = f"{value:+.1f}" if abs(value) >= 0.05 else f"{value:+.2f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def number(value: float) -> str:
    """Three significant digits, for loss values: 2.71, 0.0345, 118."""
    return f"{value:.3g}".replace("-", "−")


def duration(seconds: float) -> str:
    """As people say it: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 14 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f}{_THIN}s"
    total = round(seconds)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if days:
        return f"{days}{_THIN}d {hours % 24}{_THIN}h"
    if hours:
        return f"{hours}{_THIN}h {minutes % 60:02d}{_THIN}min"
    if minutes:
        return f"{minutes}{_THIN}min {total % 60:02d}{_THIN}s"
    return f"{total}{_THIN}s"
