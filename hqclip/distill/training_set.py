"""What a pupil learns from, or is judged on: images with the responses that it is to give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hqclip.annotate.annotator import Annotator
from hqclip.distill.pool_images import ImageRef, PoolImages
from hqclip.distill.response_log import Response
from hqclip.records import FIELDS, Annotation


@dataclass(frozen=True)
class Example:
    """One image with the teacher's response to it, which is usable."""

    image: ImageRef
    response: Response


@dataclass(frozen=True)
class TrainingSet:
    """Which model is shown which examples."""

    pupil: Annotator
    images: PoolImages
    examples: Sequence[Example]


def completion(annotation: Annotation) -> str:
    """The four texts as the model is to say them: compact JSON, fields in the published order."""
    texts = {name: getattr(annotation, name) for name in FIELDS}
    return json.dumps(texts, separators=(",", ":"), ensure_ascii=False)
