"""The length of a text in CLIP tokens is estimated well enough without CLIP's vocabulary."""

from __future__ import annotations

import open_clip
import pytest

from hqclip.curate.clip_length import clip_tokens, too_long
from tests.test_filters import CAPTIONS


def test_clip_tokens_are_estimated_within_a_few_percent() -> None:
    real = open_clip.tokenizer.SimpleTokenizer()
    counts = [(clip_tokens(caption), len(real.encode(caption)) + 2) for caption in CAPTIONS]
    assert max(abs(ours - theirs) for ours, theirs in counts) <= 2
    assert sum(ours for ours, _ in counts) == pytest.approx(sum(theirs for _, theirs in counts), rel=0.03)


def test_a_text_is_too_long_from_76_words_on() -> None:
    assert not too_long("dog " * 75)
    assert too_long("dog " * 76)
    assert not too_long("")
