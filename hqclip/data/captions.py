"""The bytes of a caption in, alt-text out: UTF-8, NFC, one line. What cannot be read as text is said to be garbled.

A fallback that always succeeds hides what went wrong, so what was decoded has to look like text.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

MAX_TEXT = 64 << 10  # bytes of a text that are read
MAX_ALT_TEXT = 4096  # characters of it that are kept
MAX_BROKEN = 0.25  # share of characters that stand for none
MARKS = {  # the longer first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_BROKEN = re.compile("[\0-\x08\x0e-\x1f\ufffd]")  # letters that no text is made of: control characters, U+FFFD
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")  # category Cc
_INVISIBLE = {"Cc", "Cf", "Co", "Me", "Mn", "Zs", "Zl", "Zp"}
_BLANK = {"\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"}  # Hangul fillers, Braille without dots: letters, yet empty
_SHIFTED = re.compile(r"\x1b[$(]")  # of ISO 2022, whose letters are those of ASCII otherwise
# Of Windows-1252, at the edges of words: signs of money, quotes, dots, dashes, marks, fractions.
_SIGNS = bytes.fromhex(
    "80 82 84 85 8b 91 92 93 94 95 96 97 99 9b a1 a2 a3 a5 a7 a9 ab ae b0 b1 b2 b3 b4 b7 b9 bb bc bd be bf d7 f7"
)


class Garbled(Exception):
    """These bytes are no text in any encoding that is known here."""


def read_caption(data: bytes, *, whole: bool = True) -> tuple[str, bool]:
    """The alt-text, "" if it is empty, and whether it was plain UTF-8. Raises `Garbled`.

    Where the text is not `whole`, its last letter may be half a letter.
    """
    mark = next(filter(data.startswith, MARKS), b"")
    encoding = MARKS.get(mark, "utf-8")
    try:
        return one_line(_decoded(data[len(mark) :], encoding, "strict", whole)), encoding == "utf-8"
    except UnicodeDecodeError:
        return one_line(_decoded(data[len(mark) :], encoding, "replace", whole) if mark else _guessed(data)), False


def one_line(text: str) -> str:
    """Without control characters, in NFC, cut to its limit; "" if nothing of it can be seen. Raises `Garbled`."""
    text = text.rstrip("\0") or text  # padding, as of fields of so many bytes
    if _SHIFTED.search(text) or len(_BROKEN.findall(text)) > MAX_BROKEN * len(text):
        raise Garbled
    text = " ".join(_CONTROL.sub(" ", text).split())
    text = text[: 4 * MAX_ALT_TEXT]  # NFC: one letter of four at most, slow if hostile
    text = unicodedata.normalize("NFC", text)[:MAX_ALT_TEXT]
    return text if is_text(text) else ""


def is_text(text: str) -> bool:
    """Whether anything of it can be seen: an empty text is none, and is neither trained on nor scored."""
    return any(letter not in _BLANK and unicodedata.category(letter) not in _INVISIBLE for letter in text)


def _decoded(data: bytes, encoding: str, errors: str, whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)(errors).decode(data, final=whole)


def _guessed(data: bytes) -> str:
    """Text that has no mark and is not UTF-8: with some letters damaged, or else as Windows-1252.

    In the languages that are written in Windows-1252, most letters are of ASCII, and others come alone or in pairs
    (`ação`, `þýðing`); text of Cyrillic, Greek, Chinese or Japanese encodings has words of bytes above it, also among
    words of ASCII. Raises `Garbled`.
    """
    text = data.decode(errors="replace")
    if text.count("\ufffd") < sum(letter > "\x7f" for letter in text if letter != "\ufffd"):
        return text
    words = [word.strip(_SIGNS) for word in data.replace(b"\xa0", b" ").split()]
    high = _high(words)
    in_pairs = _high(run for word in words for run in re.findall(rb"[\x80-\xff]{2,}", word))
    mostly_high = high > sum(map(len, words)) / 2 and in_pairs > high / 2
    has_nul = b"\0" in data.rstrip(b"\0")  # UTF-16 without a mark, in which blanks have one
    if has_nul or mostly_high or _high(filter(_is_foreign, words)) > high / 2:
        raise Garbled
    return data.decode("cp1252", "replace")


def _is_foreign(word: bytes) -> bool:
    run = max(map(len, re.findall(rb"[\x80-\xff]{3,}", word)), default=0)
    return run > 3 or (run == 3 and _high([word]) > len(word) / 2)


def _high(words: Iterable[bytes]) -> int:
    """How many bytes are no ASCII."""
    return sum(byte > 0x7F for word in words for byte in word)
