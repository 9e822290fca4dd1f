"""Samples in, what a person reads of them out: on a terminal nothing that the data says is obeyed."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

import numpy as np

from hqclip import log
from hqclip.data.images import ImageFault, Pixels, check_header, decode_picture, extension
from hqclip.data.sidecar import CuratedRow
from hqclip.foreign_text import inert
from hqclip.peek.config import PeekConfig
from hqclip.peek.samples import Peeked, peek
from hqclip.records import FIELDS, Status

NAMES = {"desc": "true", "neg_desc": "false", "tags": "true tags", "neg_tags": "false tags"}
INDENT = " " * 14
PICTURE = 40  # columns; a cell is two pixels, one above the other


def run(config: PeekConfig) -> dict[str, Any] | str:
    """The samples as text, or as plain values."""
    found = list(peek(config))
    if config.format == "json":
        return {"samples": [plain(one) for one in found]}
    pictures = config.pictures and _has_colours()
    if config.pictures and not pictures:
        log.warning("peek", "pictures are left out: stdout is no terminal with colours")
    return "\n\n".join(shown(one, pictures) for one in found) or "no samples"


def plain(one: Peeked) -> dict[str, Any]:
    """One sample as JSON has it, without its picture."""
    width, height, kind = _picture(one.image)
    values: dict[str, Any] = {"shard": one.shard, "row": one.row, "uid": one.name}
    if one.fault:
        return {**values, "fault": one.fault}
    values |= {"width": width, "height": height, "kind": kind, "size_bytes": len(one.image), "text": one.text}
    if one.written is not None:
        texts = one.written.annotation
        values |= {name: list(getattr(texts, name)) if texts else None for name in FIELDS}
        values |= {"status": str(one.written.status), "answer": one.written.answer, "flags": _flags(one)}
    return values


def shown(one: Peeked, picture: bool = False) -> str:
    """One sample as lines of text; with `picture` its image, in colours."""
    shard = _line(one.shard.rpartition("/")[2])
    if one.fault:
        return f"{_line(one.name)}  {shard}, row {one.row}\n{_field('unusable', one.fault)}"
    width, height, kind = _picture(one.image)
    lines = [f"{one.name}  {shard}, row {one.row}, {width} x {height} {kind}, {len(one.image):,} bytes"]
    lines += [_drawn(one.image)] if picture else []
    lines.append(_field("alt-text", one.text))
    if one.written is not None:
        texts = one.written.annotation
        for name, title in NAMES.items() if texts else ():
            separator = ", " if "tags" in name else " "
            lines.append(_field(title, separator.join(getattr(texts, name))))
        if one.written.status != Status.OK:
            lines += [_field("status", str(one.written.status)), _field("answer", one.written.answer)]
        lines += [_field("flags", ", ".join(_flags(one)))] if _flags(one) else []
    return "\n".join(lines)


def _field(title: str, text: str) -> str:
    columns = max(40, shutil.get_terminal_size((100, 24)).columns)
    said = _line(text) or "(none)"
    return textwrap.fill(
        said, columns, initial_indent=f"  {title:<{len(INDENT) - 2}}", subsequent_indent=INDENT, break_on_hyphens=False
    )


def _line(text: str) -> str:
    return " ".join(inert(text).split())


def _flags(one: Peeked) -> list[str]:
    return [str(flag.name).lower() for flag in one.written.flags] if isinstance(one.written, CuratedRow) else []


def _picture(image: bytes) -> tuple[int, int, str]:
    """Width, height and kind; zeros where it is none any more."""
    try:
        return *check_header(image), extension(image)
    except ImageFault as fault:
        return 0, 0, fault.reason


def _drawn(image: bytes) -> str:
    """A picture of at most `PICTURE` columns: a half block for two pixels, in 24-bit colours."""
    try:
        picture = decode_picture(image)
    except ImageFault as fault:
        return _field("picture", str(fault))
    picture.thumbnail((PICTURE, PICTURE))
    pixels = np.asarray(picture)
    rows = ("".join(map(_cell, upper, lower)) for upper, lower in zip(pixels[::2], pixels[1::2], strict=False))
    return "\n".join(f"  {row}\x1b[0m" for row in rows)


def _cell(upper: Pixels, lower: Pixels) -> str:
    return "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*upper, *lower)


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
