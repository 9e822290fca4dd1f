"""What the LVLM said in, four texts or a named fault out. Pure: every engine's answers are read here."""

from __future__ import annotations

import json
import re
from typing import Any

from hqclip.annotate.engines.protocol import Answer, Finish
from hqclip.records import FIELDS, Annotation, Status

MAX_TEXTS = 32  # in one list; more is a runaway answer
MAX_STARTS = 256  # places where an object may begin that are tried, from the end of an answer
_REFUSAL = re.compile(r"\s*(i(['’]?m| am) (sorry|unable)|sorry,|i can(?:no|['’])t |as an ai\b)", re.I)
_CLOSING = re.compile(r"</\w+>")  # of the reasoning that some models write first
_BEGUN = re.compile(r'\{\s*"[^\s,:\]}]')  # an object with a field, which never looks so inside of a JSON string
_JSON = json.JSONDecoder(strict=False)
_BETWEEN_WORDS = re.compile(r"\W+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # can be written in JSON but not in UTF-8


def read(answer: Answer) -> tuple[Annotation | None, Status]:
    """The four texts of an answer, or None and the fault: what `read_answer` finds, and what the engine noticed."""
    if answer.finish is Finish.REPETITION:
        return None, Status.REPEATED
    annotation, status = read_answer(answer.text, answer.finish is not Finish.LENGTH)
    if annotation is None and answer.finish is Finish.REFUSED:
        return None, Status.REFUSED
    return annotation, status


def read_answer(text: str, finished: bool = True) -> tuple[Annotation | None, Status]:
    """The four texts of one answer, cleaned of nothing but blanks; or None and the name of the fault.

    `finished` is False when the answer was cut at its token limit.
    """
    text, document = _unwrapped(text)
    fits = _fits(document)
    if not fits:
        document, fits = _found(text, document)
    if not fits and _REFUSAL.match(text, max((mark.end() for mark in _CLOSING.finditer(text)), default=0)):
        return None, Status.REFUSED
    if document is None:
        if _repeats(text):
            return None, Status.REPEATED
        return None, Status.NOT_JSON if finished else Status.TRUNCATED
    if not fits:
        return None, Status.WRONG_SHAPE
    texts = {name: tuple(" ".join(part.split()) for part in document[name]) for name in FIELDS}
    if not all(texts[name] and all(texts[name]) for name in FIELDS):
        return None, Status.EMPTY
    if any(_REFUSAL.match(part) for part in texts["desc"]):
        return None, Status.REFUSED
    if any(_repeats(part) for part in (*texts["desc"], *texts["neg_desc"])):
        return None, Status.REPEATED
    if {_key(part) for part in texts["desc"]} == {_key(part) for part in texts["neg_desc"]}:
        return None, Status.NEGATIVE_EQUALS_POSITIVE
    return Annotation(**texts), Status.OK


def _found(text: str, whole: Any) -> tuple[Any, bool]:
    """The last answer of the schema among words or code fences, and True; else whatever JSON is there, and False.

    `whole` is the JSON of the whole text, None if it is none.
    """
    last = _last_that_fits(text)
    if last is not None:
        return last, True
    if whole is None:
        whole = _json(text[text.find("{") : text.rfind("}") + 1])
    return None if _fits(whole) else whole, False  # a draft of what then cannot be read is no answer


def _unwrapped(text: str) -> tuple[str, Any]:
    """The text and what it is as JSON, None if it is none; of JSON within JSON, the inner."""
    document = _json(text)
    if isinstance(document, str) and "{" in document:
        return document, _json(document)
    return text, document


def _json(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        return None


def _last_that_fits(text: str) -> Any:
    """The last object of the schema inside a text; None if a further one was begun behind it and cannot be read."""
    end = len(text)
    for _ in range(MAX_STARTS):
        end = text.rfind("{", 0, end)
        if end < 0:
            return None
        try:
            document, _ = _JSON.raw_decode(text, end)
        except (ValueError, RecursionError):
            if _BEGUN.match(text, end):
                return None
            continue
        if _fits(document):
            return document
    return None


def _fits(document: Any) -> bool:
    """Whether it is an object with four lists of texts."""
    return isinstance(document, dict) and all(_is_texts(document.get(name)) for name in FIELDS)


def _is_texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_TEXTS
        and all(isinstance(part, str) and (part.isascii() or not _LONE_SURROGATE.search(part)) for part in value)
    )


def _repeats(text: str, words: int = 3, share: float = 0.5) -> bool:
    """Whether more than `share` of the word triples of a longer text were said before."""
    spoken = text.casefold().split()
    grams = [tuple(spoken[i : i + words]) for i in range(len(spoken) - words + 1)]
    return len(grams) >= 12 and len(set(grams)) < share * len(grams)


def _key(text: str) -> str:
    return _BETWEEN_WORDS.sub(" ", text.casefold()).strip()
