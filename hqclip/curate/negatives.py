"""Negative sentences of an annotation in, those that contradict it out; the others emptied in place."""

from __future__ import annotations

from collections.abc import Sequence

from hqclip.curate.sentences import Sentence
from hqclip.curate.text_checks import words_of
from hqclip.data.sidecar import Flag

EASY_SHARE = 0.2
DENIALS = frozenset(words_of("no not without never none nobody nothing neither nor cannot isn't aren't doesn't don't"))


def clean_negatives(
    texts: Sequence[str], denied: Sequence[Sentence], said: Sequence[Sentence], alt_text: str
) -> tuple[tuple[str, ...], Flag]:
    """The texts of the `denied` sentences, those that contradict nothing `said` emptied, and what was found."""
    flags = Flag(0)
    kept = []
    alt = " ".join(["", *Sentence.of(alt_text).content, ""])
    spoken = {" ".join(sentence.words) for sentence in said}
    for number, (text, sentence) in enumerate(zip(texts, denied, strict=True)):
        found = Flag(0)
        if " ".join(sentence.words) in spoken:
            found = Flag.NEGATIVE_REPEATS
        elif any(_says_no_more(sentence, positive) for positive in said):
            found = Flag.NEGATIVE_NEARLY_EQUAL
        elif len(sentence.content) >= 3 and f" {' '.join(sentence.content)} " in alt:
            found = Flag.NEGATIVE_IN_ALT_TEXT
        elif number < len(said) and _is_easy(sentence, said[number]):
            flags |= Flag.EASY_NEGATIVE
        flags |= found
        kept.append("" if found else text)
    return tuple(kept), flags


def _says_no_more(negative: Sentence, positive: Sentence) -> bool:
    """Whether the words that matter are those of the positive in the same order, all or some: then it is true as well.

    Exchanged words are another order and contradict; what denies something is never taken for the same.
    """
    if not negative.content or not negative.kinds <= positive.kinds or (DENIALS & (positive.kinds - negative.kinds)):
        return False
    rest = iter(positive.content)
    return all(word in rest for word in negative.content)


def _is_easy(negative: Sentence, positive: Sentence) -> bool:
    both, either = negative.kinds & positive.kinds, negative.kinds | positive.kinds
    return min(len(negative.kinds), len(positive.kinds)) >= 3 and len(both) < EASY_SHARE * len(either)
