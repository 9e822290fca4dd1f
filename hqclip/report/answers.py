"""What a model answered in, the sections out that show it set by set: classes, pictures it found, captions it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hqclip.report import Answers, ClassScore, Failure, Moved, Query, SetExamples
from hqclip.report.counts import single_bar
from hqclip.report.document import section
from hqclip.report.gallery import line, picture, piece
from hqclip.report.markup import Html, cut, join, percent, points, share_of, tag, whole, wide_table
from hqclip.report.text_diff import contradiction

ENDS = 8  # classes shown at either end, and of those that moved
MAX_CLASSES = 400  # in the lists of all
MAX_CAPTION = 300  # characters
OPEN = 4  # sets, for a start
SIDE = 112  # pixels


def what_moved(answers: Answers) -> Html | None:
    """How many answers changed against the baseline, metric by metric; nothing without one."""
    if not answers.moved:
        return None
    caption = (
        f"Of the items that {answers.model} and {answers.baseline} both answered: how many became right, and how many "
        "that were right became wrong. A small difference may hide many of both."
    )
    columns = ("benchmark", "became right", "became wrong", "balance")
    head = tag("tr", *(tag("th", name, scope="col") for name in columns))
    rows = (_moved(one) for one in sorted(answers.moved, key=lambda one: one.lost - one.gained))
    return section(
        "What moved", caption, wide_table("What moved", tag("thead", head), tag("tbody", *rows), kind=" gate moved")
    )


def _moved(one: Moved) -> Html:
    balance = one.gained - one.lost
    kind = "passed" if balance > 0 else "broken" if balance < 0 else None
    return tag(
        "tr",
        tag("th", one.benchmark, tag("small", f"{one.metric}, {whole(one.items)} items"), scope="row"),
        tag("td", f"▲ {whole(one.gained)}"),
        tag("td", f"▼ {whole(one.lost)}"),
        tag("td", f"{balance:+d}".replace("-", "−") if balance else "0", class_=kind),
    )


def set_by_set(answers: Answers) -> Html | None:
    """A fold for each set, with links to them all; nothing if no set has something to show."""
    sets = [one for one in answers.sets if one.classes or one.queries or one.failures]
    if not sets:
        return None
    caption = (
        f"What {answers.model} answered. Wrong answers are drawn at random from all wrong ones, the same for every "
        "model; they show what kind of faults there are, not how many."
    )
    links = tag("ul", *(tag("li", tag("a", one.name, href=f"#{_anchor(n)}")) for n, one in enumerate(sets)))
    folds = (_fold(one, number, answers.baseline) for number, one in enumerate(sets))
    return section("Set by set", caption, tag("nav", links, class_="sets", aria_label="Sets"), *folds)


def _anchor(number: int) -> str:
    return f"set-{number}"


def _fold(one: SetExamples, number: int, baseline: str) -> Html:
    count = ""
    if one.items and one.wrong is not None:
        what = "images not found first by all of their captions" if one.kind == "retrieval" else "wrong"
        count = f" {whole(one.wrong)} of {whole(one.items)} {what} ({share_of(one.wrong, one.items)})"
    elif one.classes:
        count = f" {whole(len(one.classes))} classes"
    parts = [
        *(_classes(one.classes, baseline) if one.classes else ()),
        *([tag("ol", *map(_query, one.queries), class_="queries")] if one.queries else ()),
        *_failures(one.failures),
    ]
    head = tag("summary", one.name, tag("small", count))
    return tag("details", head, *parts, id=_anchor(number), class_="set", open="open" if number < OPEN else None)


def _classes(classes: Sequence[ClassScore], baseline: str) -> Iterable[Html]:
    """The ends, what moved most, and all of them in two orders, in folds."""
    by_score = sorted(classes, key=lambda one: (_recall(one), one.name))
    shown = min(ENDS, max(1, len(classes) // 2))
    lists = [("Worst", by_score[:shown]), ("Best", by_score[-shown:][::-1])]
    moved = sorted((one for one in classes if _change(one)), key=lambda one: (_change(one), one.name))
    lists += [
        (f"Fell most against {baseline}", [one for one in moved if _change(one) < 0][:shown]),
        (f"Rose most against {baseline}", [one for one in moved[::-1] if _change(one) > 0][:shown]),
    ]
    yield tag("div", *(_list(name, kept) for name, kept in lists if kept), class_="panels classes")
    if len(classes) > 2 * shown:
        yield _all_classes("All classes, worst first", by_score)
        yield _all_classes("All classes, by name", sorted(classes, key=lambda one: one.name.casefold()))


def _all_classes(name: str, classes: Sequence[ClassScore]) -> Html:
    left_out = f" the first {whole(MAX_CLASSES)} of {whole(len(classes))}" if len(classes) > MAX_CLASSES else ""
    return tag("details", tag("summary", name, tag("small", left_out)), _table(name, classes[:MAX_CLASSES]))


def _list(name: str, classes: Iterable[ClassScore]) -> Html:
    return tag("div", tag("h3", name), _table(name, classes))


def _table(name: str, classes: Iterable[ClassScore]) -> Html:
    rows = (
        tag(
            "tr",
            tag("th", cut(one.name, 80), scope="row"),
            tag("td", single_bar(_recall(one)), class_="across"),
            tag("td", percent(_recall(one), 0), _change_words(one), class_="value"),
        )
        for one in classes
    )
    return tag("table", tag("caption", name, class_="hidden"), tag("tbody", *rows), class_="bars")


def _recall(one: ClassScore) -> float:
    return one.found / one.images if one.images else 0.0


def _change(one: ClassScore) -> float:
    return 0.0 if one.before is None or not one.images else (one.found - one.before) / one.images


def _change_words(one: ClassScore) -> Html:
    change = _change(one)
    said = f" {'▲' if change > 0 else '▼'}\u202f{points(change)}" if change else ""
    count = tag("small", f"{whole(one.found)} of {whole(one.images)}")
    return join([tag("b", said, class_="up" if change > 0 else "down") if said else "", count])


def _query(query: Query) -> Html:
    """The caption, what it found first, and the image it belongs to."""
    found = [
        tag(
            "li",
            picture(image, f"Found at place {place + 1}", SIDE),
            tag("small", f"{place + 1}", " ✓ own" if place == query.own_place else ""),
            class_="own" if place == query.own_place else None,
        )
        for place, image in enumerate(query.top)
    ]
    if query.own_place is None:
        own = [picture(query.own, "The image of the caption", SIDE), tag("small", f"own, place {whole(query.rank)}")]
        found.append(tag("li", *own, class_="own"))
    text = tag("q", cut(query.text, MAX_CAPTION), dir="auto")
    return tag("li", tag("p", text), tag("ol", *found, class_="pictures"), class_="card query")


def _failures(failures: Sequence[Failure]) -> Iterable[Html]:
    """Those of each group under its name, in a fold where there are several."""
    groups: dict[str, list[Failure]] = {}
    for one in failures:
        groups.setdefault(one.group, []).append(one)
    for group, members in groups.items():
        cards = tag("ul", *(_failure(one) for one in members), class_="failures")
        if len(groups) == 1:
            yield cards
        else:
            head = tag("summary", group, tag("small", f" {len(members)} shown"))
            yield tag("details", head, cards, open="open")


def _failure(one: Failure) -> Html:
    if len(one.images) == 1:
        true, false = (cut(text, MAX_CAPTION) for text in one.captions)
        texts = [line("true", true), line("false", *map(piece, contradiction(true, false)))]
        return tag("li", picture(one.images[0], "The image of the item", SIDE), tag("div", *texts), class_="card")
    pairs = [
        tag("div", picture(image, "An image of the pair", SIDE), tag("p", tag("bdi", cut(text, MAX_CAPTION))))
        for image, text in zip(one.images, one.captions, strict=True)
    ]
    return tag("li", *pairs, class_="card pair")
