"""What is kept of an answer: a pure function from one annotation to its cleaned form and flags.

Another policy is another data set, so its version enters the digest; raise `POLICY` with every change here.
"""

from __future__ import annotations

import re
import unicodedata

from hqclip.data.sidecar import Flag
from hqclip.records import Annotation

POLICY = 1
MAX_TAG_WORDS = 4


def clean(annotation: Annotation) -> tuple[Annotation, Flag]:
    """Tags normalised and each once; a negative that is no negative emptied in place, so pairs stay aligned."""
    flags = Flag(0)
    tags = tuple(dict.fromkeys(t for t in map(normal_tag, annotation.tags) if t))
    if len(tags) < len(annotation.tags):
        flags |= Flag.DUPLICATE_TAGS
    neg_tags = tuple(dict.fromkeys(t for t in map(normal_tag, annotation.neg_tags) if t))
    true = {tag for tag in neg_tags if tag in tags}
    if true:
        flags |= Flag.NEGATIVE_TAG_TRUE
    said = {_key(sentence) for sentence in annotation.desc}
    neg_desc = tuple("" if _key(sentence) in said else sentence for sentence in annotation.neg_desc)
    if "" in neg_desc:
        flags |= Flag.NEGATIVE_REPEATS
    cleaned = Annotation(tags, tuple(tag for tag in neg_tags if tag not in true), annotation.desc, neg_desc)
    return cleaned, flags


def normal_tag(tag: str) -> str:
    """`" Red Ring. "` -> `red ring`; empty for what is too long to be a tag."""
    text = " ".join(unicodedata.normalize("NFC", tag).casefold().split()).strip(" .,;:!?\"'#")
    return text if len(text.split()) <= MAX_TAG_WORDS else ""


def _key(sentence: str) -> str:
    return re.sub(r"\W+", " ", sentence.casefold()).strip()
