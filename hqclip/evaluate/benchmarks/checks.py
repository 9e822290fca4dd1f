"""What kinds of benchmarks check about their fields: a field in, what is wrong with it out, a sentence each.

A sentence names the field and its first offender and says what to do; a field without fault gives none. Fields come
from JSON that a person or another program wrote, so anything may be in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SHOWN = 60  # characters of a value


def columns(benchmark: Any, *names: str, fewest: int = 1) -> Iterator[str]:
    """`uids`, at least so many, and lists of texts that have one item for each of them."""
    wrong = list(text_list(benchmark, "uids", fewest))
    yield from wrong
    for name in names:
        yield from text_list(benchmark, name)
        if not wrong:
            yield from one_an_image(benchmark, name)


def one_an_image(benchmark: Any, name: str) -> Iterator[str]:
    """A list as long as `uids`."""
    items = getattr(benchmark, name)
    if is_list(items) and items and len(items) != len(benchmark.uids):
        yield f"{len(items)} {name} for {len(benchmark.uids)} images (uids); give one an image"


def text_list(benchmark: Any, name: str, fewest: int = 1) -> Iterator[str]:
    """A list of at least so many texts, none of which is blank."""
    items = getattr(benchmark, name)
    yield from _texts(items, name, fewest)


def lists_of_texts(benchmark: Any, name: str, fewest: int = 1, bare: bool = True) -> Iterator[str]:
    """A list with a list of at least so many texts for each item; a single text may stand `bare`."""
    items = getattr(benchmark, name)
    if not is_list(items):
        yield f"{name} is {shown(items)}; give a list"
        return
    for place, item in enumerate(items):
        few = is_list(item) and len(item) < fewest
        if few or not (is_list(item) or (bare and isinstance(item, str))):
            one = "one text, in quotes, or a list of them" if bare else f"a list of {fewest} texts or more"
            yield f"{name}[{place}] is {shown(item)}; give {one}"
            return
        wrong = list(_texts(item, f"{name}[{place}]") if is_list(item) else _texts(items[place : place + 1], name))
        if wrong:
            yield wrong[0] if is_list(item) else wrong[0].replace(f"{name}[0]", f"{name}[{place}]", 1)
            return
    if not items:
        yield f"{name} has 0 items; give 1 or more"


def main_known(benchmark: Any) -> Iterator[str]:
    """`main` is empty, which stands for that of the kind, or one metric of the kind."""
    if benchmark.main != "" and (not isinstance(benchmark.main, str) or benchmark.main not in benchmark.METRICS):
        yield f"main is {shown(benchmark.main)}; give one of {', '.join(benchmark.METRICS)}, or leave it out"


def as_list(item: str | Sequence[str]) -> Sequence[str]:
    """The texts of an item, one of which may stand bare."""
    return [item] if isinstance(item, str) else item


def _texts(items: Any, name: str, fewest: int = 1) -> Iterator[str]:
    if not is_list(items):
        yield f"{name} is {shown(items)}; give a list of texts"
        return
    for place, item in enumerate(items):
        if not isinstance(item, str):
            yield f"{name}[{place}] is {shown(item)}; give one text, in quotes"
            return
        if not item.strip() or any("\ud800" <= letter <= "\udfff" for letter in item):
            yield f"{name}[{place}] is {shown(item)}, which says nothing; write the text or leave the item out"
            return
    if len(items) < fewest:
        yield f"{name} has {len(items)} items; give {fewest} or more"


def different(benchmark: Any, name: str, reason: str) -> Iterator[str]:
    """A list in which nothing comes twice; `reason` says why, and what to do."""
    seen: dict[Any, int] = {}
    for place, item in enumerate(getattr(benchmark, name)):
        if seen.setdefault(item, place) != place:
            yield f"{name}[{place}] is {shown(item)}, as {name}[{seen[item]}] is: {reason}"
            return


def alike(benchmark: Any) -> Iterator[str]:
    """More than a few of what is asked are about texts that differ in capitals or blanks alone.

    CLIP's own tokenizer sees neither, nor do most others. The benchmark has no other fault.
    """
    equal, read = benchmark.one_text(list), benchmark.one_text(_as_read)
    found = [text for same, text in zip(equal, read, strict=True) if text and not same]
    if len(found) > benchmark.ALIKE * len(read):
        yield (
            f"{len(found)} of {len(read)} {benchmark.ASKED} differ from what they are to be told from in capitals and "
            f"blanks alone (first: {shown(found[0])}), which most models do not see: they cannot answer; say it "
            "otherwise or leave it out"
        )


def _as_read(texts: Sequence[str]) -> list[str]:
    return [" ".join(text.lower().split()) for text in texts]


def is_list(value: Any) -> bool:
    """Whether it is what becomes of a JSON list."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def shown(value: Any) -> str:
    """A value for a person: short, in one line."""
    if value is None:
        return "missing (null)"
    text = ascii(value) if isinstance(value, str) else str(value)
    kind = f" (a list of {len(value)})" if is_list(value) else ""
    return (text if len(text) <= SHOWN else f"{text[:SHOWN]}...") + kind
