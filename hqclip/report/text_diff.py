"""A true sentence and its contradiction in, the contradiction in pieces out: which words make it false."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import Enum

# A word, or one letter of the scripts that are written without spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])\w)+(?:['’-]\w+)*")


class Part(Enum):
    """Words that agree with the true sentence, words that do not, and words of it that were left out."""

    SAME = "same"
    CHANGED = "changed"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Piece:
    """A stretch of the contradiction; the pieces that are not `LEFT_OUT` join to the whole of it."""

    text: str
    part: Part


def contradiction(true: str, false: str) -> tuple[Piece, ...]:
    """The pieces of `false`; neighbouring changed words are one piece. Case, punctuation and a/an do not count."""
    ours, theirs = list(_WORD.finditer(true)), list(_WORD.finditer(false))
    matcher = difflib.SequenceMatcher(None, [_key(w) for w in ours], [_key(w) for w in theirs], autojunk=False)
    pieces, done = [], 0
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        if what == "equal":
            continue
        if what == "delete":
            start = end = theirs[j - 1].end() if j else 0
            text, part = _with_space(true, ours, i, i_end), Part.LEFT_OUT
        else:
            start, end = theirs[j].start(), theirs[j_end - 1].end()
            text, part = false[start:end], Part.CHANGED
        pieces += [Piece(false[done:start], Part.SAME), Piece(text, part)]
        done = end
    pieces.append(Piece(false[done:], Part.SAME))
    return tuple(piece for piece in pieces if piece.text)


def _with_space(text: str, words: list[re.Match[str]], start: int, end: int) -> str:
    """Some of the words, with what joins them to the word before or, for the first, to the word after."""
    if start:
        return text[words[start - 1].end() : words[end - 1].end()]
    return text[: words[end].start()] if end < len(words) else text


def _key(word: re.Match[str]) -> str:
    key = word[0].casefold()
    return "a" if key == "an" else key
