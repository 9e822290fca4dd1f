"""A curated row and its alt-text in, what stands for the image in one step out, with what contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from hqclip.data.captions import is_text
from hqclip.data.sidecar import CuratedRow, Flag
from hqclip.records import Annotation


@dataclass(frozen=True)
class TextPolicy:
    """Which text stands for an image: the generated one with probability `generated_share`, else the alt-text.

    A generated text has at most `max_sentences` neighbouring sentences of the description.
    """

    generated_share: float
    max_sentences: int
    seed: int


def describes(annotation: Annotation | None) -> TypeGuard[Annotation]:
    """Whether there is a description with any words."""
    return annotation is not None and any(map(is_text, annotation.desc))


def choose_texts(row: CuratedRow, alt_text: str, policy: TextPolicy, draws: Any) -> tuple[str, str]:
    """The text of an image for one step, and its contradiction or "" where there is none to be trusted.

    A generated text begins at a sentence drawn in proportion to its words, since longer ones say more, and is never
    cut in the middle; its contradiction is the same run of sentences, each contradicted. Alt-text has none: the
    annotator's style would give the true text away. An empty alt-text is none: the description stands in for it
    whatever the policy. `draws` are three uniform numbers.
    """
    annotation = row.annotation
    wanted = draws[0] < policy.generated_share or bool(row.flags & Flag.WEAK_ALT_TEXT and policy.generated_share)
    if not describes(annotation) or not (wanted or not is_text(alt_text)):
        return alt_text, ""
    words = np.cumsum([len(sentence.split()) for sentence in annotation.desc])
    start = int(np.searchsorted(words, draws[1] * words[-1], side="right"))
    end = start + 1 + int(draws[2] * min(policy.max_sentences, len(annotation.desc) - start))
    false = annotation.neg_desc[start:end]
    trusted = len(false) == end - start and all(false) and not row.flags & Flag.NEGATIVE_LOOKS_TRUE
    return ". ".join(annotation.desc[start:end]), ". ".join(false) if trusted else ""
