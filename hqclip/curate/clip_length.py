"""A text in, about how many CLIP tokens it has out, without CLIP's vocabulary.

`curate` runs without open_clip, and what it decides must not depend on what is installed. CLIP's tokenizer splits a
text into runs of letters, single digits and runs of other signs, then each run by frequency. How many pieces a run
of letters becomes is taken from its length alone: frequent words are short and whole, long words are rare and split.
Over a description in English the estimate is a few percent off; a test compares it with the real tokenizer.
"""

from __future__ import annotations

import re
from functools import lru_cache

CONTEXT = 77  # tokens that CLIP reads, its start and end marks among them
MARKS = 2
_RUN = re.compile(r"'(?:s|t|re|ve|m|ll|d)(?![a-z])|[^\W\d_]+|\d|[^\w\s]+|_+")
# mean number of pieces of an English word by its letters, of which CLIP's vocabulary knows nearly all up to 8
_PIECES = (0.0, 1.0, 1.0, 1.0, 1.01, 1.03, 1.06, 1.08, 1.12, 1.2, 1.3, 1.4, 1.5)


def clip_tokens(text: str) -> int:
    """Estimated tokens of `text`, start and end marks included."""
    return round(sum(map(_pieces, _RUN.findall(text.lower())))) + MARKS


def too_long(text: str) -> bool:
    """Whether CLIP would cut the text."""
    return (len(text) > CONTEXT - MARKS or not text.isascii()) and clip_tokens(text) > CONTEXT


@lru_cache(1 << 16)
def _pieces(run: str) -> float:
    if not run.isascii():
        return len(run.encode()) * 0.5  # other scripts are read byte by byte, and some of the bytes together
    if run[0].isalpha():
        return _PIECES[len(run)] if len(run) < len(_PIECES) else 0.13 * len(run)
    return 1.0
