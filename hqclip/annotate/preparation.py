"""Bytes of an image and its alt-text in, what the LVLM is shown out: pixels within the budget, text cleaned and cut."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.control_tokens import control_tokens
from hqclip.annotate.lvlm import Family
from hqclip.annotate.prompt import USUAL_TOKENS, clean_alt_text
from hqclip.data.images import Pixels, decode_picture


@dataclass(frozen=True)
class Preparation:
    """How samples are made ready for one LVLM: `cut` shortens a text, cleaned of `tokens`, to what it may have."""

    family: Family
    image_tokens: int
    cut: Callable[[str], str]
    tokens: re.Pattern[str] = USUAL_TOKENS

    @classmethod
    def of(cls, annotator: Annotator, max_alt_tokens: int) -> Preparation:
        """As this annotator sees them."""
        cut, tokens = token_cutter(annotator.folder, max_alt_tokens), control_tokens(annotator.folder)
        return cls(annotator.family, annotator.image_tokens, cut, tokens)

    def pixels(self, data: bytes) -> Pixels:
        """(height, width, 3) within the budget. Raises `ImageFault`."""
        return np.array(self.family.fit(decode_picture(data), self.image_tokens))

    def alt_text(self, text: str) -> str:
        """Alt-text as data, no longer than allowed."""
        return self.cut(clean_alt_text(text, self.tokens))


def token_cutter(model: Path | None, max_tokens: int) -> Callable[[str], str]:
    """Cuts a text after so many tokens of the model's tokenizer; leaves it alone if the model brings none."""
    if model is None or not (model / "tokenizer.json").is_file():
        return lambda text: text
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))

    def cut(text: str) -> str:
        ends = tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(ends) <= max_tokens else text[: ends[max_tokens - 1][1]].rstrip()

    return cut
