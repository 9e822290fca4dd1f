"""What is kept of an answer: a pure function from one annotation, its alt-text and the instruction to texts and flags.

`rules.py` lists the rules. Other filters make another data set, so their version enters its digest; raise `VERSION`
with every change of what is kept or found: here, in `tags.py`, `negatives.py`, `sentences.py`, `text_checks.py` or
`clip_length.py`. Texts are judged as they are read in training; none is rephrased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hqclip.curate.clip_length import too_long
from hqclip.curate.negatives import clean_negatives
from hqclip.curate.sentences import Sentence
from hqclip.curate.tags import clean_tags
from hqclip.curate.text_checks import (
    has_personal_data,
    in_other_language,
    in_other_script,
    injected,
    instructs,
    is_cut_off,
    refuses,
    repeats_itself,
    visible,
    words_of,
)
from hqclip.data.sidecar import Flag
from hqclip.records import Annotation

VERSION = 3
ECHO_WORDS = 8
TEXTS_DROPPED = Flag.REFUSAL_TEXT | Flag.REPEATS_ITSELF | Flag.PROMPT_ECHO | Flag.OTHER_SCRIPT


@dataclass(frozen=True)
class Reading:
    """What a row is judged against: the language its texts should be in, and every eight words of the instruction."""

    language: str = "any"
    instruction: frozenset[tuple[str, ...]] = frozenset()

    @classmethod
    def of(cls, language: str, instruction: str) -> Reading:
        """From the text of the instruction; "" if it is not known."""
        return cls(language, frozenset(_runs(words_of(instruction.casefold()))))


def clean(annotation: Annotation, alt_text: str = "", reading: Reading | None = None) -> tuple[Annotation | None, Flag]:
    """The texts that are kept, or None, and what was found.

    Tags are written one way and each once; a negative that is no negative is emptied in place, so pairs stay aligned.
    Cleaning what is clean changes nothing.
    """
    annotation, flags = _mended(annotation)
    said, denied = (list(map(Sentence.of, texts)) for texts in (annotation.desc, annotation.neg_desc))
    flags |= _description_flags(annotation, said, denied, reading or Reading())
    if instructs(alt_text):
        flags |= Flag.ALT_TEXT_INSTRUCTS
        if injected(alt_text, annotation):
            flags |= Flag.INJECTION
    tags, neg_tags, found = clean_tags(annotation, said)
    neg_desc, more = clean_negatives(annotation.neg_desc, denied, said, alt_text)
    flags |= found | more
    if flags & TEXTS_DROPPED:
        return None, flags
    return Annotation(tags, neg_tags, annotation.desc, neg_desc), flags


def _mended(annotation: Annotation) -> tuple[Annotation, Flag]:
    """Without hidden characters, and with every sentence once; a sentence goes together with its negative."""
    flags = Flag(0)
    fields = {name: tuple(map(visible, texts)) for name, texts in vars(annotation).items()}
    if fields != vars(annotation):
        flags |= Flag.HIDDEN_CHARACTERS
    desc, neg_desc = fields["desc"], fields["neg_desc"]
    keys = [text.casefold() for text in desc]
    if len(set(keys)) < len(keys):
        flags |= Flag.DUPLICATE_SENTENCES
        kept = [n for n, key in enumerate(keys) if key not in keys[:n]]
        neg_desc = (*(neg_desc[n] for n in kept if n < len(neg_desc)), *neg_desc[len(desc) :])
        desc = tuple(desc[n] for n in kept)
    return Annotation(fields["tags"], fields["neg_tags"], desc, neg_desc), flags


def _description_flags(
    annotation: Annotation, said: Sequence[Sentence], denied: Sequence[Sentence], reading: Reading
) -> Flag:
    """What is wrong with the sentences themselves."""
    whole = "\n".join(annotation.desc)
    words = [word for sentence in said for word in sentence.words]
    tests = {
        Flag.REFUSAL_TEXT: refuses(whole),
        Flag.REPEATS_ITSELF: repeats_itself(words),
        Flag.PROMPT_ECHO: _echoes([*said, *denied], reading.instruction),
        Flag.OTHER_SCRIPT: reading.language == "en" and in_other_script(whole),
        Flag.OTHER_LANGUAGE: reading.language == "en" and in_other_language(words),
        Flag.LONG_TEXT: any(map(too_long, annotation.desc)),
        Flag.CUT_OFF_TEXT: any(map(is_cut_off, annotation.desc)),
        Flag.UNEVEN_PAIRS: len(said) != len(denied),
        Flag.PERSONAL_DATA: has_personal_data("\n".join((whole, *annotation.neg_desc, *annotation.tags))),
    }
    flags = Flag(0)
    for flag, found in tests.items():
        if found:
            flags |= flag
    return flags


def _echoes(sentences: Sequence[Sentence], instruction: frozenset[tuple[str, ...]]) -> bool:
    return bool(instruction) and any(not instruction.isdisjoint(_runs(sentence.words)) for sentence in sentences)


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[n : n + ECHO_WORDS]) for n in range(len(words) - ECHO_WORDS + 1)]
