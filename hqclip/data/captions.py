"""The bytes of a caption in, alt-text out: UTF-8, NFC, one line. What cannot be read as text is said to be garbled.

A fallback that always succeeds hides what went wrong, so what was decoded has to look like text.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

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
_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}


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
    if len(_BROKEN.findall(text)) > MAX_BROKEN * len(text):
        raise Garbled
    text = " ".join(_CONTROL.sub(" ", text).split())
    text = text[: 4 * MAX_ALT_TEXT]  # NFC: one letter of four at most, slow if hostile
    text = unicodedata.normalize("NFC", text)[:MAX_ALT_TEXT]
    return "" if all(unicodedata.category(letter) in _INVISIBLE for letter in text) else text


def _decoded(data: bytes, encoding: str, errors: str, whole: bool) -> str:
    return codecs.getincrementaldecoder(encoding)(errors).decode(data, final=whole)


def _guessed(data: bytes) -> str:
    """Text that has no mark and is not UTF-8: with some letters damaged, or else as Windows-1252.

    In the languages that are written in Windows-1252, most letters are of ASCII; text of Cyrillic, Chinese or Japanese
    encodings mostly has bytes above it. Raises `Garbled`.
    """
    text = data.decode(errors="replace")
    if text.count("\ufffd") < sum(letter > "\x7f" for letter in text if letter != "\ufffd"):
        return text
    if sum(byte > 0x7F for byte in data) > len(b"".join(data.split())) / 2:
        raise Garbled
    return data.decode("cp1252", "replace")
