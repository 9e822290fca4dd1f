"""What a server said in, what a person may be shown out: one line, nothing that a terminal obeys, no keys.

Keys are hidden at the way out, too: in the words of our errors and in what is logged, whoever wrote them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

from hqclip.known_secrets import HIDDEN, is_named_secret, without_secrets

LONGEST = 100_000  # characters that are looked at
_OBEYED = ("Cc", "Cf", "Co", "Cs")  # control, bidirectional, private and lone surrogate characters
_SHORTEST_KEY = 8  # a shorter value of the environment would hide words
_hidden: set[str] = set()
_ESCAPES = re.compile(  # ECMA-48: sequences with parameters, strings up to their end, all others
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?"
)


def harmless(text: str, keys: Iterable[str] = ()) -> str:
    """The text on one line without escape sequences, control and bidirectional characters, and without keys."""
    return " ".join(without_keys(inert(text[:LONGEST]), keys).split())


def without_keys(text: str, keys: Iterable[str] = ()) -> str:
    """The text with `***` for `keys`, for what this process was given as such, and for what looks like one.

    Given are what the environment calls a key, token, cookie, secret or password, and what was told to `hide`.
    """
    for key in sorted({*keys, *_hidden, *_keys_of_environment()}, key=len, reverse=True):
        text = text.replace(key, HIDDEN) if key else text
    return without_secrets(text)


def hide(key: str) -> None:
    """Never show this from here on: a cookie out of a file, of which the environment does not know."""
    _hidden.update(_parts(key))


def inert(text: str) -> str:
    """The text without what a terminal obeys: lines and tabs stay, everything else of the kind becomes blank."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub(" ", text)
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _OBEYED else " " for c in text)


def _keys_of_environment() -> set[str]:
    given = {value.strip() for name, value in os.environ.items() if is_named_secret(name, value.strip())}
    return {part for value in given for part in _parts(value)}


def _parts(key: str) -> set[str]:
    """The key, and of a cookie its values: `session=...; path=/`."""
    values = (part.partition("=")[2].strip() for part in key.split(";"))
    return {part for part in (key, *values) if len(part) >= _SHORTEST_KEY}


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: half a character, as an answer cut at its limit can end with, becomes `?`."""
    return text.encode(errors="replace").decode()
