"""A text in, whether it has one certain defect out: the tests behind the rules of `curate`, without any model.

Each prefers to miss a defect over finding one in a good text: signs in pictures say "sorry, we are closed", and
names are not English. Lists of words are short on purpose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from hqclip.records import Annotation

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
words_of: Callable[[str], list[str]] = _WORD.findall  # of a text in small letters

_REFUSAL = re.compile(
    r"""
    as\ an\ (?:ai|artificial\ intelligence)(?:\ language)?\ (?:model|assistant)\b
    | (?:^|[.!?]\s)\s*(?:(?:i'?m|i\ am)\ (?:sorry|unable|not\ able)|sorry,\ (?:but\ )?i\b
        | i\ (?:can(?:no|')t|can\ not)\ (?:see|view|access|process|identify|describe|assist|help|provide)\b
        | (?:unable|not\ able)\ to\ (?:see|view|access|process|describe)\ (?:the|this|any)\ (?:image|picture|photo)
        | (?:there\ is\ )?no\ (?:image|picture|photo)\ (?:(?:is|was|has\ been)\ )?(?:provided|attached|given|uploaded)
        | (?:the|this)\ (?:image|picture|photo)\ (?:is|was|has)\ not\ (?:been\ )?(?:provided|attached|loaded|uploaded)
        | please\ (?:provide|upload|attach)\ (?:the|an|your)\ (?:image|picture|photo))
    | <\s*(?:long|short|your|the|insert)?\s*(?:description|caption|sentence|tag)s?\s*(?:here)?\s*>
    | \[\s*insert\ [a-z ]+\]
    """,
    re.X | re.M,
)


def refuses(text: str) -> bool:
    """Whether it speaks of the model or of a missing image, or is a template left as it was."""
    return _REFUSAL.search(text.lower().replace("’", "'")) is not None


def repeats_itself(words: list[str], run: int = 3, share: float = 0.5, longest: int = 10) -> bool:
    """Whether over half of the runs of three words were said before, or ten words three times; short texts never."""
    triples = len(words) - run + 1
    if triples < 12:
        return False
    different = len(set(zip(words, words[1:], words[2:], strict=False)))
    if different < share * triples:
        return True
    if len(words) < 3 * longest or different > triples - 2 * (longest - run):
        return False
    runs = [tuple(words[n : n + longest]) for n in range(len(words) - longest + 1)]
    return max(Counter(runs).values()) >= 3


_LETTERS = re.compile(r"[^\W\d_]")
_OTHER_LETTERS = re.compile(r"[^\W\d_\u0041-\u024f\u1e00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff]")


def in_other_script(text: str, least: int = 20) -> bool:
    """Whether most of at least `least` letters are not Latin. One sign of a script without spaces counts as two."""
    if text.isascii():
        return False
    letters = len(_LETTERS.findall(text))
    other: list[str] = _OTHER_LETTERS.findall(text)
    dense = sum(letter >= "\u2e80" for letter in other)
    return letters + dense >= least and 2 * (len(other) + dense) > letters + dense


_ENGLISH = frozenset(
    words_of(
        "a an and are as at by for from has have her his in is it its near next no of off on one or out over she he "
        "that the their there they this to two under up was were which while who with below above left right"
    )
)


def in_other_language(words: list[str], least: int = 12, share: float = 0.08) -> bool:
    """Whether fewer than one in twelve of at least `least` words are common English ones."""
    return len(words) >= least and sum(map(_ENGLISH.__contains__, words)) < share * len(words)


_OPEN_END = re.compile(r"(?:\b(?:a|an|the|of|and|or|with)|[,:;(–—-])\s*$", re.I)


def is_cut_off(sentence: str) -> bool:
    """Whether it ends with a word or sign that something must follow; short phrases never."""
    return sentence.count(" ") >= 3 and _OPEN_END.search(sentence, max(len(sentence) - 8, 0)) is not None


_MAIL = re.compile(r"[\w.+-]@[\w-]+\.[a-z]{2,}")
_DIGITS = re.compile(r"\d{3}|\+\d")
_PHONE = re.compile(r"(?<![\w.])(?:\+\d|\(?\d{3})[\d ().-]{7,14}\d(?![\w.]*\d)")


def has_personal_data(text: str) -> bool:
    """Whether there is a web or e-mail address, or what looks like a phone number."""
    text = text.lower()
    return (
        "http://" in text
        or "https://" in text
        or "www." in text
        or ("@" in text and _MAIL.search(text) is not None)
        or (_DIGITS.search(text) is not None and _PHONE.search(text) is not None)
    )


_JOINERS = "\u200c\u200d"  # spelling in Persian and Indian scripts, and emoji


def visible(text: str) -> str:
    """Without characters that are not shown: control, direction, private-use, unassigned."""
    if text.isprintable():
        return text
    return " ".join(
        "".join(c if c.isprintable() or c in _JOINERS else " " if c.isspace() else "" for c in text).split()
    )


_ORDER = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override)\ (?:(?:all|any|the|your|my|of)\ )*
        (?:previous|prior|above|earlier|preceding|other|system)?\ ?(?:instructions?|prompts?|rules)\b
    | \b(?:answer|reply|respond)\ (?:only\ )?(?:with|exactly|as)\b
    | \b(?:output|print|write|say)\ (?:only|exactly|the\ words?|the\ tags?)\b
    | \byou\ are\ (?:now|an\ ai|a\ language\ model|chatgpt|no\ longer)\b
    | \bdo\ not\ describe\ (?:the|this)\b | \bsystem\ prompt\b
    | <\|?(?:im_start|im_end|endoftext|system)\|?> | \[/?inst\]
    """,
    re.X | re.I,
)
_CANARY = re.compile(r"(?=[\w-]*\d)(?=[\w-]*[^\W\d_])[\w-]{6,}|[^\W\d_]{14,}")


def instructs(alt_text: str) -> bool:
    """Whether an alt-text gives orders to a model."""
    return bool(alt_text) and _ORDER.search(alt_text) is not None


def injected(alt_text: str, annotation: Annotation) -> bool:
    """Whether texts obey an alt-text that gives orders.

    They do if they give such orders themselves, if a sentence is made of nothing but words after the order, or if a
    rare word after it (letters with digits, or very long) is found in them.
    """
    order = _ORDER.search(alt_text)
    if order is None:
        return False
    demanded = alt_text[order.end() :].casefold()
    texts = [text.casefold() for text in (*annotation.desc, *annotation.tags)]
    if any(_ORDER.search(text) for text in texts):
        return True
    words = set(words_of(demanded))
    if any(words.issuperset(spoken) for text in annotation.desc if (spoken := words_of(text.casefold()))):
        return True
    rare = set(_CANARY.findall(demanded))
    return any(not rare.isdisjoint(_CANARY.findall(text)) for text in texts)
