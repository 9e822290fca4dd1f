"""What came under the name of a shard in; a tar out, unpacked where it is compressed; anything else by its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from hqclip.data.tar import Damage
from hqclip.store.local import faults_at

HEAD = 4096  # bytes that tell what a file is
MAX_LAYERS = 3  # `gsutil cp -z` compresses what is compressed already
MAX_RATIO = 100  # pictures hardly shrink: what grows more than that is a bomb
PIECE = 1 << 20
MAX_SHOWN = 100  # characters of what a service said


def _zstd(path: Path) -> Any:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


PACKED: dict[bytes, tuple[str, Callable[[Path], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\0": ("xz", lzma.open),
}
OTHERS = {
    b"PK\x03\x04": "a zip archive: pack the files into a tar",
    b"PAR1": "a Parquet file: give the tars that lie beside it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: pack the files into a tar",
}


def is_packed(file: BinaryIO) -> bool:
    """Whether it begins as a compressed file does; afterwards it stands at its beginning."""
    head = file.read(max(map(len, PACKED)))
    file.seek(0)
    return head.startswith(tuple(PACKED))


def unpack(path: Path) -> bool:
    """Unpack a compressed tar where it lies; whether it was one. Raises `Damage` for what cannot be a tar."""
    for layer in range(MAX_LAYERS):
        with path.open("rb") as file:
            head = file.read(HEAD)
        packed = next((PACKED[magic] for magic in PACKED if head.startswith(magic)), None)
        if packed is None:
            if head[257:262] != b"ustar" and (what := _what(head)):
                raise Damage(what)
            return layer > 0
        _unpack(path, *packed)
    raise Damage(f"compressed more than {MAX_LAYERS} times over")


def _unpack(path: Path, kind: str, opened: Callable[[Path], Any]) -> None:
    unpacked = path.with_name("unpacked")
    limit = MAX_RATIO * max(path.stat().st_size, PIECE)
    with faults_at(path), opened(path) as source, unpacked.open("wb") as target:
        while piece := _read(source, kind):
            if target.tell() + len(piece) > limit:
                raise Damage(f"{kind} that unpacks to more than {MAX_RATIO} times its size")
            target.write(piece)
        unpacked.replace(path)


def _read(source: BinaryIO, kind: str) -> bytes:
    try:
        return source.read(PIECE)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise Damage(f"{kind} that is cut or damaged ({_shown(str(error))})") from error


def _what(head: bytes) -> str:
    """What a file that is no tar is, as far as its beginning tells; "" if it does not."""
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            return what
    if b"\0" in head:
        return ""
    text = head.decode(errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("version https://git-lfs.github.com/"):
        return "a Git LFS pointer, not the shard that it stands for: run `git lfs pull` where it comes from"
    if re.match(r"<(!doctype\s+html|html|head)\b", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)<", text, re.IGNORECASE | re.DOTALL)
        return f"a web page{_quoted(title)}: its address asks for a login, or the shard has moved"
    if re.match(r"<(\?xml|Error)\b", text):
        code = re.search(r"<Code>(.*?)</Code>", text, re.DOTALL)
        return f"an XML document{_quoted(code)}: what a bucket answers where it has no such object or may not give it"
    if text.startswith(("{", "[")):
        return f"a JSON document ({_shown(text)}), not the shard: look at what was asked for it"
    return ""


def _quoted(match: re.Match[str] | None) -> str:
    return f" ({_shown(match[1])})" if match else ""


def _shown(text: str) -> str:
    """One line of it, without what a terminal would obey."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:MAX_SHOWN]
