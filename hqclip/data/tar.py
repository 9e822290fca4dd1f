"""A webdataset shard as a tar: members by offset in, damage never passed over in silence.

`tarfile` and webdataset take a bad header for the end of the archive and lose the rest without a word. This reader
checks every header, wants the two zero blocks at the end and nothing behind them, and follows nothing but plain files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
MAX_NAME = 1024
MAX_EXTENDED = 64 << 10  # bytes of a long name or of PAX records, which a Mac fills with attributes
MAX_PADDING = 1 << 20  # zeros behind the end; more of them are a file of which the tail was never written
MAX_MEMBERS = 4_000_000
PLAIN, FOLDERS = (b"0", b"\0", b"7"), (b"5", b"D")
LONG_NAME, LONG_LINK, PAX = b"L", b"K", (b"x", b"g")
LABEL = b"V"  # the name that `tar -V` gives to an archive
USTAR = b"ustar\x00"  # GNU's own format says `ustar` and a blank, and has times where this one has a prefix


@dataclass(frozen=True)
class Member:
    """One plain file of the archive; or a link or a device, which holds nothing that could be read."""

    name: str
    offset: int
    size: int
    is_file: bool = True


class Damage(Exception):
    """The archive cannot be read on; the text says where and why."""


def members(file: BinaryIO, size: int) -> Iterator[Member]:
    """What is in a tar of `size` bytes, in order, folders left out. Raises `Damage` where it is cut or altered.

    Links are not followed. Names are as they were given: see `is_safe`.
    """
    at, long_name = 0, ""
    for number in range(MAX_MEMBERS):
        header = _read(file, at, BLOCK, size, f"the header of member {number}")
        if not header.strip(b"\0"):
            return _check_end(file, at, size, number)
        kind, name, length = _header(header, at, number)
        data = at + BLOCK
        if data + length > size:
            raise Damage(f"cut at byte {size}: member {number} ({name}) should go on to byte {data + length}")
        at = data + -(-length // BLOCK) * BLOCK
        if kind in (LONG_NAME, LONG_LINK, *PAX):
            if length > MAX_EXTENDED:
                raise Damage(f"member {number} at byte {data} has an extended header of {length} bytes")
            long_name = _long_name(_read(file, data, length, size, "an extended header"), kind) or long_name
            continue
        name, long_name = long_name or name, ""
        if kind not in (*FOLDERS, LABEL) and not name.endswith("/"):  # as the oldest format writes folders
            yield Member(name.removeprefix("./"), data, length, kind in PLAIN)
    raise Damage(f"more than {MAX_MEMBERS} members")


def is_safe(name: str) -> bool:
    """Whether a name stays where it is put, and can be shown."""
    inside = not name.startswith("/") and ".." not in name.split("/") and "\\" not in name
    return inside and name.isprintable() and len(name) <= MAX_NAME


def _header(header: bytes, at: int, number: int) -> tuple[bytes, str, int]:
    """Kind, name and length out of a header. Raises `Damage` if its checksum does not fit."""
    stated = _octal(header[148:156])
    if stated is None or stated != sum(header) - sum(header[148:156]) + 8 * 32:
        raise Damage(f"the header of member {number} at byte {at} is damaged")
    kind = header[156:157]
    length = 0 if kind == LABEL else _octal(header[124:136])
    if length is None:
        raise Damage(f"member {number} at byte {at} has no plain size")
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == USTAR else b""
    name = header[:100].split(b"\0")[0]
    full = prefix + b"/" + name if prefix else name
    return kind, _decoded(full), length


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else None


def _long_name(data: bytes, kind: bytes) -> str:
    if kind == LONG_NAME:
        return _decoded(data.rstrip(b"\0"))
    match = re.search(rb"\d+ path=([^\n]*)\n", data) if kind in PAX else None
    return _decoded(match[1]) if match else ""


def _decoded(name: bytes) -> str:
    """Other encodings are read as Latin-1, so that different names stay different."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _check_end(file: BinaryIO, at: int, size: int, number: int) -> None:
    """Two zero blocks, and nothing but some zeros behind them."""
    if size - at < 2 * BLOCK:
        raise Damage(f"cut at byte {size}: the end of the archive is missing after {number} members")
    file.seek(at)
    while rest := file.read(MAX_PADDING):
        if rest.strip(b"\0"):
            raise Damage(f"the header of member {number} at byte {at} is zeroed, but data follows")
    if size - at > MAX_PADDING:
        raise Damage(f"zeroed from byte {at} on: {size - at} bytes after member {number} were never written")


def _read(file: BinaryIO, at: int, length: int, size: int, what: str) -> bytes:
    file.seek(at)
    data = file.read(length)
    if len(data) < length:
        raise Damage(f"cut at byte {size}: {what} at byte {at} is missing")
    return data


def write_tar(file: BinaryIO, contents: Iterable[tuple[str, bytes]]) -> None:
    """A USTAR archive of plain files; the same contents give the same bytes (no times, no owners)."""
    for name, data in contents:
        file.write(_plain_header(name, len(data)))
        file.write(data + bytes(-len(data) % BLOCK))
    file.write(bytes(2 * BLOCK))


def _plain_header(name: str, length: int) -> bytes:
    encoded = name.encode()
    if len(encoded) > 100:
        raise ValueError(f"{name!r} is too long for a USTAR header")
    header = bytearray(BLOCK)
    header[0 : len(encoded)] = encoded
    for start, width, value in ((100, 8, 0o644), (108, 8, 0), (116, 8, 0), (124, 12, length), (136, 12, 0)):
        header[start : start + width] = b"%0*o\0" % (width - 1, value)
    header[148:156] = b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
