"""Tags of an annotation and its sentences in, the tags that are kept out: written one way, each once, none denied."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from hqclip.curate.sentences import Sentence
from hqclip.curate.text_checks import words_of
from hqclip.data.sidecar import Flag
from hqclip.records import Annotation

MAX_WORDS = 4
MAX_LENGTH = 40


def clean_tags(annotation: Annotation, said: Sequence[Sentence]) -> tuple[tuple[str, ...], tuple[str, ...], Flag]:
    """Tags and negative tags written one way, each once; a negative that is a tag, or is said, is taken out."""
    flags = Flag(0)
    written = [_one_way(tag) for tag in annotation.tags]
    short = [tag for tag in written if not _too_long(tag)]
    false = [_one_way(tag) for tag in annotation.neg_tags]
    short_false = [tag for tag in false if not _too_long(tag)]
    if len(short) < len(written) or len(short_false) < len(false):
        flags |= Flag.TAG_TOO_LONG
    first: dict[str, str] = {}
    for tag in filter(None, short):
        first.setdefault(_singular(tag), tag)
    tags = tuple(first.values())
    if len(tags) < len(short):
        flags |= Flag.DUPLICATE_TAGS
    phrases = [_phrase(tag) for tag in tags] + [" ".join(sentence.words) for sentence in said]
    haystack = " | ".join(["", *phrases, ""])
    different = [tag for tag in dict.fromkeys(short_false) if tag]
    neg_tags = tuple(tag for tag in different if _singular(tag) not in first and not _is_said(_phrase(tag), haystack))
    if len(neg_tags) < len(different):
        flags |= Flag.NEGATIVE_TAG_TRUE
    return tags, neg_tags, flags


def _singular(tag: str) -> str:
    """A key under which `dog` and `dogs` are the same; never shown."""
    return tag[:-1] if len(tag) > 3 and tag.endswith("s") and tag[-2] not in "sui" else tag


def _phrase(tag: str) -> str:
    """A tag as its words alone, as sentences are compared."""
    return tag if tag.replace(" ", "").isalpha() else " ".join(words_of(tag))


def _is_said(phrase: str, haystack: str) -> bool:
    return bool(phrase) and (f" {phrase} " in haystack or f" {phrase}s " in haystack)


def _one_way(tag: str) -> str:
    """`" Red Ring. "` -> `red ring`."""
    text = tag if tag.isascii() else unicodedata.normalize("NFC", tag)
    text = " ".join(text.casefold().split()).strip(" .,;:!?\"'#")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _too_long(tag: str) -> bool:
    return len(tag) > MAX_LENGTH or len(tag.split()) > MAX_WORDS
