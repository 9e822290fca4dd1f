"""What a server said in, what a person may be shown out: one line, nothing that a terminal obeys, no keys.

Keys are hidden at the way out, too: in the words of our errors and in what is logged, whoever wrote them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from hqclip.known_secrets import HIDDEN, is_named_secret, without_secrets, without_sure_secrets

LONGEST = 100_000  # characters that are looked at
_OBEYED = ("Cc", "Cf", "Co", "Cs")  # control, bidirectional, private and lone surrogate characters
_SHORTEST_KEY = 8  # a shorter value of the environment would hide words
_WORD = re.compile(r"[a-z_.-]+").fullmatch
_hidden: set[str] = set()
_ESCAPES = re.compile(  # ECMA-48: sequences with parameters, strings up to their end, all others
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?"
)


def harmless(text: str, keys: Iterable[str] = ()) -> str:
    """The text on one line without escape sequences, control and bidirectional characters, and without keys.

    Hidden are `keys`, what this process was given as such, and what looks like one: rather too much than too little.
    """
    given = {*keys, *_hidden, *_keys_of_environment()}
    return " ".join(without_secrets(_without(given, inert(text[:LONGEST]))).split())


def without_keys(text: str) -> str:
    """Words of our own without keys that came into them: those that this process was given, and what surely is one.

    A given key that is a plain word stays: where `PASSWORD=postgres`, a path may well say so.
    """
    given = {key for key in _keys_of_environment() if not _WORD(key)}
    return without_sure_secrets(_without({*given, *_hidden}, text))


def _without(keys: Iterable[str], text: str) -> str:
    for key in sorted(keys, key=len, reverse=True):
        text = text.replace(key, HIDDEN) if key else text
    return text


def hide(key: str) -> None:
    """Never show this from here on: a cookie out of a file, of which the environment does not know."""
    _hidden.update(_parts(key))


def inert(text: str) -> str:
    """The text without what a terminal obeys: lines and tabs stay, everything else of the kind becomes blank."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub(" ", text)
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _OBEYED else " " for c in text)


def _keys_of_environment() -> frozenset[str]:
    return _keys_among(tuple(os.environ.items()))


@lru_cache(maxsize=1)  # every line of the log asks
def _keys_among(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    given = {value.strip() for name, value in variables if is_named_secret(name, value.strip())}
    return frozenset(part for value in given for part in _parts(value))


def _parts(key: str) -> set[str]:
    """The key, and of a cookie its values: `session=...; path=/`."""
    values = (part.partition("=")[2].strip() for part in key.split(";"))
    return {part for part in (key, *values) if len(part) >= _SHORTEST_KEY}


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: half a character, as an answer cut at its limit can end with, becomes `?`."""
    return text.encode(errors="replace").decode()
