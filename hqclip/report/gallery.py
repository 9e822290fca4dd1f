"""Images with what was written about them in, cards out: samples with their four texts, faults with their answers."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from itertools import zip_longest

from hqclip.records import Sample
from hqclip.report import FaultExample, ShownSample
from hqclip.report.document import section
from hqclip.report.markup import Html, cut, join, tag, whole
from hqclip.report.refinement import Finding
from hqclip.report.text_diff import Part, Piece, contradiction

MAX_ALT_TEXT, MAX_SENTENCE, MAX_TAG, MAX_ANSWER = 160, 400, 60, 200  # characters shown
MAX_FOUND = 160
LARGE, SMALL, THUMBNAIL = 192, 112, 72  # pixels a side on the page, at most
_MARKS = {Part.CHANGED: "mark", Part.LEFT_OUT: "del"}
_JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_JPEG_ALONE = frozenset(range(0xD0, 0xDA)) | {0x01}  # markers without a length


def what_was_written(samples: Iterable[ShownSample]) -> Html | None:
    """The section that shows samples; nothing without any."""
    cards = [sample_card(shown) for shown in samples]
    caption = (
        "What the web says about a picture, and what the LVLM wrote: texts that are true of it (✓), each with one "
        "that is false (✕). Marked words are what makes it false; struck words were left out."
    )
    return section("What the LVLM wrote", caption, tag("div", *cards, class_="cards")) if cards else None


def sample_card(shown: ShownSample) -> Html:
    """One image: what the web says, and what the LVLM says is true and false of it."""
    annotation = shown.annotation
    described = f"The LVLM sees: {cut(annotation.desc[0], MAX_SENTENCE)}" if annotation and annotation.desc else ""
    tags, sentences = written(shown)
    return tag(
        "article",
        tag(
            "div",
            picture(shown.sample.image, described or f"Sample {short_uid(shown.sample)}", LARGE),
            tag("div", tag("h3", short_uid(shown.sample)), alt_text(shown.sample), tags, flags(shown)),
            class_="pictured",
        ),
        sentences,
        class_="card sample",
    )


def written(shown: ShownSample) -> tuple[Html, Html]:
    """The tags and the sentences, each true one above its contradiction; where there are none, the raw answer."""
    annotation = shown.annotation
    if annotation is None:
        return Html(), join([tag("p", "No usable texts.", class_="quiet"), raw_answer(shown.answer)])
    return (
        _paired("tags", annotation.tags, annotation.neg_tags, MAX_TAG),
        _paired("sentences", annotation.desc, annotation.neg_desc, MAX_SENTENCE),
    )


def flags(shown: ShownSample) -> Html:
    """What was found in a sample, in words."""
    if not shown.flags:
        return Html()
    return tag("p", *(tag("span", flag.replace("_", " ")) for flag in shown.flags), class_="flags")


def _paired(kind: str, true: Iterable[str], false: Iterable[str], limit: int) -> Html:
    """Each text above its contradiction, in which the words that make it false are marked."""
    items = []
    for yes, no in zip_longest(true, false):
        lines = [line("true", cut(yes, limit))] if yes is not None else []
        if no == "":
            lines.append(tag("span", "no contradiction is kept", class_="emptied"))
        elif no is not None:
            shown = cut(no, limit)
            pieces = contradiction(cut(yes, limit) if yes is not None else shown, shown)
            lines.append(line("false", *map(piece, pieces)))
        items.append(tag("li", *lines))
    return tag("ul", *items, class_=kind)


def line(kind: str, *text: str) -> Html:
    """A text that is true or false of a picture, marked as such."""
    return tag("span", tag("span", f"{kind}: ", class_="hidden"), tag("bdi", *text), class_=kind)


def piece(piece: Piece) -> str:
    """A stretch of a contradiction, marked if it is what makes it false."""
    if piece.part not in _MARKS:
        return piece.text
    words = piece.text.strip()
    before, after = piece.text.split(words, 1) if words else (piece.text, "")
    return join([before, tag(_MARKS[piece.part], words), after])


def fault_card(example: FaultExample) -> Html:
    """One refused answer beside its image."""
    image = picture(example.sample.image, f"Sample {short_uid(example.sample)}", SMALL)
    return tag("li", image, tag("div", alt_text(example.sample), raw_answer(example.answer)))


def finding_card(finding: Finding) -> Html:
    """One sample that breaks a rule beside its image: the texts in question."""
    image = picture(finding.sample.image, f"Sample {short_uid(finding.sample)}", THUMBNAIL)
    true = (cut(finding.true, MAX_FOUND),) if finding.true else ()
    false = (cut(finding.false, MAX_FOUND),) if finding.false else ()
    if false:
        texts = _paired("sentences", true, false, MAX_FOUND)
    else:
        texts = tag("p", _label("LVLM"), _quoted("q", finding.true, MAX_FOUND), class_="answer") if true else Html()
    return tag("li", image, tag("div", alt_text(finding.sample), texts, raw_answer(finding.answer)))


def raw_answer(answer: str) -> Html:
    """What the LVLM said, as it said it; nothing if it said nothing."""
    if not answer:
        return Html()
    return tag("p", _label("LVLM"), _quoted("code", answer, MAX_ANSWER), class_="answer")


def _label(who: str) -> Html:
    return tag("span", who, class_="label")


def alt_text(sample: Sample) -> Html:
    """What the web says."""
    return tag("p", _label("Alt-text"), _quoted("q", sample.text, MAX_ALT_TEXT), class_="alt")


def _quoted(kind: str, text: str, limit: int) -> Html:
    """Untrusted text as the element `kind`, cut, and how long it is in full."""
    if not text.strip():
        return tag("span", "none", class_="quiet")
    length = tag("small", f" {whole(len(text))} characters in all", class_="quiet") if len(text) > limit else ""
    return join([tag(kind, cut(text, limit), dir="auto"), length])


def short_uid(sample: Sample) -> str:
    """`0040a1…63aa`: enough to tell samples apart on one page."""
    return sample.uid if len(sample.uid) <= 12 else f"{sample.uid[:6]}…{sample.uid[-4:]}"


def picture(image: bytes, alt: str, side: int) -> Html:
    """The picture inside the page, at most `side` pixels; tiny ones are enlarged two or three times, pixels crisp."""
    size = pixels(image)
    if size is None:
        return tag("div", "neither JPEG nor PNG" if image else "no picture", class_="picture missing")
    times = min(3, side // max(size)) or side / max(size)
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return tag(
        "img",
        src=f"data:image/{kind};base64,{base64.b64encode(image).decode()}",
        width=round(size[0] * times),
        height=round(size[1] * times),
        alt=alt,
        class_="picture crisp" if times > 1 else "picture",
    )


def pixels(image: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a PNG or JPEG; None for anything else."""
    try:
        if image.startswith(b"\x89PNG\r\n\x1a\n") and image[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", image, 16)
        elif image.startswith(b"\xff\xd8"):
            height, width = struct.unpack_from(">HH", image, _jpeg_frame(image) + 5)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def _jpeg_frame(image: bytes) -> int:
    """Where the start-of-frame marker stands. Raises `IndexError` or `struct.error` if there is none."""
    at = 2
    while image[at + 1] not in _JPEG_SIZE:
        if image[at + 1] == 0xFF:
            at += 1
        elif image[at + 1] in _JPEG_ALONE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", image, at + 2)[0]
    return at
