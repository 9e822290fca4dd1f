"""A sentence in, its words out: all of them, and those that carry its meaning."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.curate.text_checks import words_of

STOP_WORDS = frozenset(
    words_of(
        "a an the is are was were be been being there here this that these those it its image picture photo photograph "
        "shows showing depicts"
    )
)


@dataclass(frozen=True)
class Sentence:
    """A sentence by its words in small letters, and by those of them that carry its meaning, in order."""

    words: list[str]
    content: list[str]
    kinds: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Sentence:
        """Of the text as it is written."""
        words = words_of(text.casefold())
        content = [word for word in words if word not in STOP_WORDS]
        return cls(words, content, frozenset(content))
