"""What the LVLM said in, four texts or a named fault out. Pure: every engine's answers are read here."""

from __future__ import annotations

import json
import re

from hqclip.records import FIELDS, Annotation, Status

MAX_TEXTS = 32  # in one list; more is a runaway answer
_REFUSAL = re.compile(r"\s*(i(['’]?m| am) (sorry|unable)|sorry,|i can(?:no|['’])t |as an ai\b)", re.I)

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # can be written in JSON but not in UTF-8


def read_answer(text: str, finished: bool = True) -> tuple[Annotation | None, Status]:
    """The four texts of one answer, cleaned of nothing but blanks; or None and the name of the fault.

    `finished` is False when the answer was cut at its token limit.
    """
    if _REFUSAL.match(text):
        return None, Status.REFUSED
    document = _document(text)
    if document is None:
        if _repeats(text):
            return None, Status.REPEATED
        return None, Status.NOT_JSON if finished else Status.TRUNCATED
    if not isinstance(document, dict) or not all(_is_texts(document.get(name)) for name in FIELDS):
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


def _document(text: str) -> object | None:
    """The JSON of an answer, also when the model wrote words or a code fence around it."""
    candidates = [text, text[text.find("{") : text.rfind("}") + 1]]
    for candidate in candidates:
        try:
            document: object = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        return document
    return None


def _is_texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_TEXTS
        and all(isinstance(part, str) and not _LONE_SURROGATE.search(part) for part in value)
    )


def _repeats(text: str, words: int = 3, share: float = 0.5) -> bool:
    """Whether more than `share` of the word triples of a longer text were said before."""
    spoken = text.casefold().split()
    grams = [tuple(spoken[i : i + words]) for i in range(len(spoken) - words + 1)]
    return len(grams) >= 12 and len(set(grams)) < share * len(grams)


def _key(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()
