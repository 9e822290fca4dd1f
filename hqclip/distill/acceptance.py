"""Responses of teacher and pupil to the same images in, how far the pupil agrees and whether that is enough out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hqclip.distill.response_log import Response
from hqclip.records import Annotation


@dataclass(frozen=True)
class Agreement:
    """Shares from 0 to 1 over the held-out images. An answer that is not valid agrees in nothing."""

    valid: float
    tag_f1: float
    neg_tag_f1: float
    desc_f1: float
    neg_desc_f1: float
    negatives_equal_positives: float

    @property
    def mean(self) -> float:
        """The mean over the four fields."""
        return (self.tag_f1 + self.neg_tag_f1 + self.desc_f1 + self.neg_desc_f1) / 4

    def to_mapping(self) -> dict[str, float]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "agreement": self.mean}


def compare(teacher: Sequence[Response], pupil: Sequence[Response]) -> Agreement:
    """How a pupil's responses compare with the teacher's, image by image; the teacher's are all usable.

    Tags agree by the F1 of their sets, sentences by the F1 of ROUGE-L (the longest common subsequence of words,
    Lin 2004) over all sentences of the field in order.
    """
    pairs = [(a.annotation, b.annotation) for a, b in zip(teacher, pupil, strict=True) if a.annotation]
    said = [b for _, b in pairs if b is not None]
    negatives = sum(len(b.neg_tags) + len(b.neg_desc) for b in said)

    def mean(field: str) -> float:
        measure = set_f1 if "tags" in field else rouge_l
        return sum(measure(getattr(a, field), getattr(b, field)) for a, b in pairs if b is not None) / len(pairs)

    return Agreement(
        valid=len(said) / len(pairs),
        tag_f1=mean("tags"),
        neg_tag_f1=mean("neg_tags"),
        desc_f1=mean("desc"),
        neg_desc_f1=mean("neg_desc"),
        negatives_equal_positives=sum(map(_negatives_equal_positives, said)) / max(1, negatives),
    )


def decide(base: Agreement, taught: Agreement, min_valid: float, margin: float) -> tuple[bool, str]:
    """Whether the taught model may replace the untaught one, and why."""
    measured = (
        f"{taught.valid:.1%} of its answers are valid without grammar, and it agrees with the teacher by "
        f"{taught.mean:.1%}, before {base.mean:.1%}"
    )
    if taught.valid < min_valid:
        return False, f"{measured}: {min_valid:.1%} must be valid"
    if taught.mean < base.mean - margin:
        return False, f"{measured}: less than before by more than {margin:.1%}"
    return True, measured


def set_f1(wanted: Sequence[str], found: Sequence[str]) -> float:
    """2 |A ∩ B| / (|A| + |B|) of what the texts say, whatever their order, case and punctuation: ab, bc -> 0.5."""
    a, b = set(map(_key, wanted)), set(map(_key, found))
    return 2 * len(a & b) / (len(a) + len(b))


def rouge_l(wanted: Sequence[str], found: Sequence[str]) -> float:
    """2 LCS / (words + words): `a red ring` and `a blue ring` -> 4 / 6."""
    a, b = _key(" ".join(wanted)).split(), _key(" ".join(found)).split()
    row = [0] * (len(b) + 1)
    for word in a:
        above = row
        row = [0]
        for at, other in enumerate(b):
            row.append(above[at] + 1 if word == other else max(above[at + 1], row[at]))
    return 2 * row[-1] / (len(a) + len(b)) if a or b else 1.0


def _negatives_equal_positives(said: Annotation) -> int:
    """How many negatives are one of the positives."""
    tags, sentences = set(map(_key, said.tags)), set(map(_key, said.desc))
    return sum(_key(tag) in tags for tag in said.neg_tags) + sum(_key(line) in sentences for line in said.neg_desc)


def _key(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()
