"""What a server said in, what a person may be shown out: one line, nothing that a terminal obeys, no keys."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

HIDDEN = "***"
LONGEST = 100_000  # characters that are looked at
_OBEYED = ("Cc", "Cf", "Co", "Cs")  # control, bidirectional, private and lone surrogate characters
_SHORTEST_KEY = 8  # a shorter value of the environment would hide words
_ESCAPES = re.compile(  # ECMA-48: sequences with parameters, strings up to their end, all others
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?"
)
_KEYS = re.compile(  # of OpenAI and its like, Hugging Face, GitHub, Google, AWS; JSON web tokens
    r"\b(?:sk-[\w-]{8,}|hf_\w{8,}|gh[pousr]_\w{8,}|github_pat_\w{8,}|AIza[\w-]{8,}|ya29\.[\w.-]{8,}|AKIA[0-9A-Z]{12,}"
    r"|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)"
)
_BEARER = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{8,}", re.I)
_USER = re.compile(r"\b(https?://)[^/\s@]+@")  # name and password before the host of an address
_NAMES_OF_KEYS = re.compile(r"(API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD)$")


def harmless(text: str, keys: Iterable[str] = ()) -> str:
    """The text on one line without escape sequences, control and bidirectional characters, and without keys.

    Hidden are `keys`, what the environment calls a key, token, secret or password, and what looks like one.
    """
    text = inert(text[:LONGEST])
    for key in sorted({*keys, *_keys_of_environment()}, key=len, reverse=True):
        text = text.replace(key, HIDDEN) if key else text
    for pattern, instead in ((_BEARER, rf"\1\2{HIDDEN}"), (_KEYS, HIDDEN), (_USER, rf"\1{HIDDEN}@")):
        text = pattern.sub(instead, text)
    return " ".join(text.split())


def inert(text: str) -> str:
    """The text without what a terminal obeys: lines and tabs stay, everything else of the kind becomes blank."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub(" ", text)
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _OBEYED else " " for c in text)


def _keys_of_environment() -> set[str]:
    return {
        value.strip()
        for name, value in os.environ.items()
        if _NAMES_OF_KEYS.search(name) and len(value.strip()) >= _SHORTEST_KEY
    }


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: half a character, as an answer cut at its limit can end with, becomes `?`."""
    return text.encode(errors="replace").decode()
