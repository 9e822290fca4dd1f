"""A shard as people find it in, one row a usable sample out, with every fault counted by name.

A sample is an image, its alt-text and a JSON document under one key: `{key}.jpg`, `{key}.txt`, `{key}.json`. The uid
comes from the JSON, else from the key; what is not 32 hexadecimal digits is hashed into that form.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from hqclip.data.images import ImageFault, check_header, extension
from hqclip.data.tar import Damage, Member, is_safe, members, write_tar
from hqclip.records import Sample, canonical_json

IMAGES = ("jpg", "jpeg", "png", "webp")
MAX_IMAGE, MAX_JSON = 32 << 20, 1 << 20  # bytes of a member
MAX_TEXT = 64 << 10  # bytes of a text that are read
MAX_ALT_TEXT = 4096  # characters of it that are kept
MAX_NAME_SHOWN = 80
REPAIRS = ("text_not_utf8", "text_too_long", "duplicate_member")  # counted like faults, but the sample is kept
CUT_OFF = "cut_off"  # a sample that lost members to the damage of its shard


@dataclass(frozen=True)
class Row:
    """One usable sample: where its image is in the tar, and what is known of it. `sha256` is of the image."""

    uid: str
    image_offset: int
    image_size: int
    text: str
    width: int
    height: int
    sha256: bytes


@dataclass
class ShardScan:
    """The usable samples in tar order; `faults` counts the others and repairs; `damage` says what and where."""

    rows: list[Row] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    damage: str = ""

    def refuse(self, fault: str, key: str) -> None:
        """Count a fault and remember where it was met first."""
        self.faults[fault] += 1
        self.examples.setdefault(fault, key)


class _Fault(Exception):
    """Why one sample is refused."""


def scan_shard(path: Path) -> ShardScan:
    """Read a shard from start to end. A bad sample is counted and costs no other one; damage ends the reading."""
    scan = ShardScan()
    samples: dict[str, dict[str, Member]] = {}
    seen: set[str] = set()
    with path.open("rb") as file:
        try:
            for member in members(file, path.stat().st_size):
                _sort_in(samples, member, scan)
        except Damage as damage:
            scan.damage = str(damage)
            _refuse_cut_off(samples, scan)
        for key, parts in sorted(samples.items(), key=lambda sample: _place(sample[1])):
            try:
                row = _row(file, key, parts, scan)
            except _Fault as fault:
                scan.refuse(str(fault), key)
                continue
            if row.uid in seen:
                scan.refuse("duplicate_uid", key)
                continue
            seen.add(row.uid)
            scan.rows.append(row)
    return scan


def _sort_in(samples: dict[str, dict[str, Member]], member: Member, scan: ShardScan) -> None:
    """The key ends at the first dot of the file name, as in webdataset; hidden files belong to no sample."""
    if not is_safe(member.name):
        scan.refuse("unsafe_name", ascii(member.name[:MAX_NAME_SHOWN]))
        return
    if not member.is_file:
        scan.refuse("not_a_file", member.name)
        return
    folder, slash, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    if stem and samples.setdefault(folder + slash + stem, {}).setdefault(extension.lower(), member) is not member:
        scan.refuse("duplicate_member", member.name)


def _refuse_cut_off(samples: dict[str, dict[str, Member]], scan: ShardScan) -> None:
    """Leave out the samples that lack a member which others have: it may have come behind the damage."""
    kinds = {key: {"image" if part in IMAGES else part for part in parts} for key, parts in samples.items()}
    usual = {"image", "txt", "json"} & set().union(*kinds.values())
    for key in [key for key, found in kinds.items() if usual - found]:
        del samples[key]
        scan.refuse(CUT_OFF, key)


def _picture(parts: dict[str, Member]) -> Member | None:
    return next((parts[extension] for extension in IMAGES if extension in parts), None)


def _place(parts: dict[str, Member]) -> int:
    """Where a sample stands among the others: at its image, wherever its other members lie."""
    return (_picture(parts) or next(iter(parts.values()))).offset


def _row(file: BinaryIO, key: str, parts: dict[str, Member], scan: ShardScan) -> Row:
    picture = _picture(parts)
    if picture is None:
        raise _Fault("no_image")
    if "txt" not in parts:
        raise _Fault("no_text")
    image = _content(file, picture, MAX_IMAGE, "image_too_large")
    try:
        width, height = check_header(image)
    except ImageFault as fault:
        raise _Fault(fault.reason) from fault
    uid = _uid(_content(file, parts["json"], MAX_JSON, "bad_json") if "json" in parts else b"{}", key, image)
    text = _text(file, parts["txt"], key, scan)
    return Row(uid, picture.offset, picture.size, text, width, height, hashlib.sha256(image).digest())


def _content(file: BinaryIO, member: Member, limit: int, fault: str) -> bytes:
    if member.size > limit:
        raise _Fault(fault)
    file.seek(member.offset)
    return file.read(member.size)


def _text(file: BinaryIO, member: Member, key: str, scan: ShardScan) -> str:
    """Alt-text as UTF-8, NFC, without control characters. Other encodings are read as Windows-1252 and counted."""
    file.seek(member.offset)
    data = file.read(min(member.size, MAX_TEXT))
    if len(data) < member.size:
        scan.refuse("text_too_long", key)
    try:  # where the text was cut, its last letter may be half a letter
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) == member.size)
    except UnicodeDecodeError:
        scan.refuse("text_not_utf8", key)
        text = data.decode("cp1252", "replace")
    text = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    text = " ".join(text.split())[: 4 * MAX_ALT_TEXT]  # NFC: one letter of four at most, slow if hostile
    return unicodedata.normalize("NFC", text)[:MAX_ALT_TEXT]


def _uid(document: bytes, key: str, image: bytes) -> str:
    """The uid of the JSON, else the key. Running numbers begin anew in every run of img2dataset: see the image too."""
    try:
        stated = json.loads(document).get("uid")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _Fault("bad_json") from error
    name = stated if isinstance(stated, str) else key
    if match := re.fullmatch(r"(?:.*/)?([0-9a-fA-F]{32})", name):
        return match[1].lower()
    numbered = name is key and re.fullmatch(r"(?:.*/)?[0-9]+", key)
    named = (image if numbered else b"") + name.encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).hexdigest()[:32]


def write_shard(samples: Iterable[Sample], path: Path) -> None:
    """A new shard, sorted by uid; the same samples give the same bytes. Raises `ValueError` for a uid given twice."""
    ordered = sorted(samples, key=lambda sample: sample.uid)
    for one, two in pairwise(ordered):
        if one.uid == two.uid:
            raise ValueError(f"{path}: two samples have the uid {one.uid}")
    with path.open("wb") as file:
        write_tar(file, (part for sample in ordered for part in _members_of(sample)))


def _members_of(sample: Sample) -> Iterable[tuple[str, bytes]]:
    width, height = check_header(sample.image)
    text = sample.text.encode(errors="replace")  # JSON can hold half a letter, UTF-8 cannot
    about = {
        "uid": sample.uid,
        "caption": text.decode(),
        "sha256": hashlib.sha256(sample.image).hexdigest(),
        "width": width,
        "height": height,
        "original_width": width,
        "original_height": height,
    }
    yield f"{sample.uid}.{extension(sample.image)}", sample.image
    yield f"{sample.uid}.txt", text
    yield f"{sample.uid}.json", canonical_json(about)
