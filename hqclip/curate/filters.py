"""What is kept of an answer: a pure function from one annotation, its alt-text and the instruction to texts and flags.

`rules.py` lists the rules. Another policy is another data set, so its version enters the digest; raise `POLICY` with
every change here or in `wording.py`. Texts are judged as they are read in training; none is rephrased.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from hqclip.curate.clip_length import too_long
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

POLICY = 2
MAX_TAG_WORDS = 4
MAX_TAG_LENGTH = 40
ECHO_WORDS = 8
EASY_SHARE = 0.2
STOP_WORDS = frozenset(
    words_of(
        "a an the is are was were be been being there here this that these those it its image picture photo photograph "
        "shows showing depicts"
    )
)
DENIALS = frozenset(words_of("no not without never none nobody nothing neither nor cannot isn't aren't doesn't don't"))
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


@dataclass(frozen=True)
class _Sentence:
    """A sentence by its words in small letters, and by those of them that carry its meaning, in order."""

    words: list[str]
    content: list[str]
    kinds: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Sentence:
        words = words_of(text.casefold())
        content = [word for word in words if word not in STOP_WORDS]
        return cls(words, content, frozenset(content))


def clean(annotation: Annotation, alt_text: str = "", reading: Reading | None = None) -> tuple[Annotation | None, Flag]:
    """The texts that are kept, or None, and what was found.

    Tags are written one way and each once; a negative that is no negative is emptied in place, so pairs stay aligned.
    Cleaning what is clean changes nothing.
    """
    annotation, flags = _mended(annotation)
    said, denied = (
        [_Sentence.of(text) for text in annotation.desc],
        [_Sentence.of(text) for text in annotation.neg_desc],
    )
    flags |= _description_flags(annotation, said, denied, reading or Reading())
    if instructs(alt_text):
        flags |= Flag.ALT_TEXT_INSTRUCTS
        if injected(alt_text, annotation):
            flags |= Flag.INJECTION
    tags, neg_tags, found = _tags(annotation, said)
    neg_desc, more = _negatives(annotation, said, denied, alt_text)
    flags |= found | more
    if flags & TEXTS_DROPPED:
        return None, flags
    return Annotation(tags, neg_tags, annotation.desc, neg_desc), flags


def normal_tag(tag: str) -> str:
    """`" Red Ring. "` -> `red ring`; empty for what is too long to be a tag."""
    text = _one_way(tag)
    return "" if _too_long(text) else text


def _one_way(tag: str) -> str:
    text = tag if tag.isascii() else unicodedata.normalize("NFC", tag)
    text = " ".join(text.casefold().split()).strip(" .,;:!?\"'#")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _too_long(tag: str) -> bool:
    return len(tag) > MAX_TAG_LENGTH or len(tag.split()) > MAX_TAG_WORDS


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
    annotation: Annotation, said: list[_Sentence], denied: list[_Sentence], reading: Reading
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


def _tags(annotation: Annotation, said: list[_Sentence]) -> tuple[tuple[str, ...], tuple[str, ...], Flag]:
    """Tags and negative tags written one way, each once; a negative that is a tag, or is said, is taken out."""
    flags = Flag(0)
    written = [_one_way(tag) for tag in annotation.tags]
    short = [tag for tag in written if not _too_long(tag)]
    false = [_one_way(tag) for tag in annotation.neg_tags]
    short_false = [tag for tag in false if not _too_long(tag)]
    if len(short) < len(written) or len(short_false) < len(false):
        flags |= Flag.TAG_TOO_LONG
    first: dict[str, str] = {}
    for tag in filter(None, short):
        first.setdefault(_singular(tag), tag)
    tags = tuple(first.values())
    if len(tags) < len(short):
        flags |= Flag.DUPLICATE_TAGS
    phrases = [_phrase(tag) for tag in tags] + [" ".join(sentence.words) for sentence in said]
    haystack = " | ".join(["", *phrases, ""])
    different = [tag for tag in dict.fromkeys(short_false) if tag]
    neg_tags = tuple(tag for tag in different if _singular(tag) not in first and not _is_said(_phrase(tag), haystack))
    if len(neg_tags) < len(different):
        flags |= Flag.NEGATIVE_TAG_TRUE
    return tags, neg_tags, flags


def _singular(tag: str) -> str:
    """A key under which `dog` and `dogs` are the same; never shown."""
    return tag[:-1] if len(tag) > 3 and tag.endswith("s") and tag[-2] not in "sui" else tag


def _phrase(tag: str) -> str:
    """A tag as its words alone, as sentences are compared."""
    return tag if tag.replace(" ", "").isalpha() else " ".join(words_of(tag))


def _is_said(phrase: str, haystack: str) -> bool:
    return bool(phrase) and (f" {phrase} " in haystack or f" {phrase}s " in haystack)


def _negatives(
    annotation: Annotation, said: list[_Sentence], denied: list[_Sentence], alt_text: str
) -> tuple[tuple[str, ...], Flag]:
    """The negative sentences, those that contradict nothing emptied."""
    flags = Flag(0)
    kept = []
    alt = ""
    if alt_text:
        alt = " ".join(["", *(word for word in words_of(alt_text.casefold()) if word not in STOP_WORDS), ""])
    spoken = {" ".join(sentence.words) for sentence in said}
    for number, (text, sentence) in enumerate(zip(annotation.neg_desc, denied, strict=True)):
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


def _says_no_more(negative: _Sentence, positive: _Sentence) -> bool:
    """Whether the words that matter are those of the positive in the same order, all or some: then it is true as well.

    Exchanged words are another order and contradict; what denies something is never taken for the same.
    """
    if not negative.content or not negative.kinds <= positive.kinds or (DENIALS & (positive.kinds - negative.kinds)):
        return False
    rest = iter(positive.content)
    return all(word in rest for word in negative.content)


def _is_easy(negative: _Sentence, positive: _Sentence) -> bool:
    both, either = negative.kinds & positive.kinds, negative.kinds | positive.kinds
    return min(len(negative.kinds), len(positive.kinds)) >= 3 and len(both) < EASY_SHARE * len(either)


def _echoes(sentences: list[_Sentence], instruction: frozenset[tuple[str, ...]]) -> bool:
    return bool(instruction) and any(not instruction.isdisjoint(_runs(sentence.words)) for sentence in sentences)


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[n : n + ECHO_WORDS]) for n in range(len(words) - ECHO_WORDS + 1)]
