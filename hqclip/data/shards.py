"""A shard as people find it in, one row a usable sample out, with every lost sample counted by name.

A sample is an image, its alt-text and a JSON document under one key: `{key}.jpg`, `{key}.txt`, `{key}.json`; the
alt-text may also be the caption in the JSON. The uid comes from the JSON, else from key and image; what is not 32
hexadecimal digits is hashed into that form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hqclip.data.captions import MAX_TEXT, Garbled, one_line, read_caption
from hqclip.data.images import ImageFault, check_header, extension
from hqclip.data.keys import IMAGES, KINDS, TEXTS, Found, samples
from hqclip.data.tar import Damage, Member, is_safe, members, write_tar
from hqclip.records import Sample, canonical_json

MAX_IMAGE, MAX_JSON = 32 << 20, 1 << 20  # bytes of a member
MAX_NAME_SHOWN = 80
MEMBERS_AT_ONCE = 64  # whose headers are read before it is looked whether they are enough
# Counted like faults, but the sample is kept.
REPAIRS = ("text_not_utf8", "text_too_long", "dotted_key", "repeated_key", "second_image")
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

    def refuse(self, fault: str, example: str) -> None:
        """Count a fault and remember where it was met first."""
        self.faults[fault] += 1
        self.examples.setdefault(fault, example)


class _Fault(Exception):
    """Why one sample is refused; `example` is what to look at, if it is not the key."""

    def __init__(self, reason: str, example: str = "") -> None:
        super().__init__(reason)
        self.example = example


def scan_shard(path: Path, *, referred: bool = False) -> ShardScan:
    """Read a shard from start to end. A bad sample is counted and costs no other one; damage ends the reading.

    `referred`: somebody refers to samples by the uids of their keys, as the benchmarks of a suite do.
    """
    scan = ShardScan()
    whole: list[Member] = []
    seen: set[str] = set()
    with path.open("rb") as file:
        try:
            for member in members(file, path.stat().st_size):
                whole.append(member)  # not `extend`: what stands before the damage is kept
        except Damage as damage:
            scan.damage = str(damage)
        found = samples(whole)
        for sample in _without_cut_off(found, scan) if scan.damage else found:
            repairs: list[str] = []
            try:
                row = _row(file, sample, repairs, referred=referred)
                if row.uid in seen:
                    raise _Fault("duplicate_uid")
            except _Fault as fault:
                scan.refuse(str(fault), fault.example or sample.key)
                continue
            for repair in repairs:
                scan.refuse(repair, sample.key)
            seen.add(row.uid)
            scan.rows.append(row)
    return scan


class FirstSamples(NamedTuple):
    """Keys with their rows, or with why they cannot be used; `damage` is what ended the reading, if something did."""

    samples: list[tuple[str, Row | str]]
    damage: str


def first_samples(file: BinaryIO, num: int) -> FirstSamples:
    """The first `num` samples of a shard; no more of it is read than they and the headers before their end need."""
    size = file.seek(0, SEEK_END)
    whole: list[Member] = []
    damage = ""
    try:
        for member in members(file, size):
            whole.append(member)
            if len(whole) % MEMBERS_AT_ONCE == 0 and _are_whole(samples(whole), num):
                break
    except Damage as error:
        damage = str(error)
    first: list[tuple[str, Row | str]] = []
    for sample in samples(whole)[:num]:
        try:
            first.append((sample.key, _row(file, sample, [])))
        except _Fault as fault:
            first.append((sample.key, str(fault)))
    return FirstSamples(first, damage if len(first) < num else "")


def _are_whole(found: Sequence[Found], num: int) -> bool:
    """Whether members of the first `num` samples are not to be expected any more."""
    return len(found) > num and all(len(sample.kinds) > 1 for sample in found[:num])


def _without_cut_off(found: Sequence[Found], scan: ShardScan) -> list[Found]:
    """Without the samples that lack a member which others have: it may have come behind the damage.

    Where samples stand one behind the other, that can be the last one only.
    """
    usual = set[str]().union(*(sample.kinds for sample in found if sample.pictures))
    last = max(found, key=lambda sample: sample.span[1], default=None)
    in_turn = all(one.span[1] < two.span[0] for one, two in pairwise(sorted(found, key=lambda sample: sample.span)))
    whole: list[Found] = []
    for sample in found:
        if usual <= sample.kinds or (in_turn and sample is not last):
            whole.append(sample)
        else:
            scan.refuse(CUT_OFF, sample.key)
    return whole


def _row(file: BinaryIO, sample: Found, repairs: list[str], *, referred: bool = False) -> Row:
    _check_names(sample)
    picture = sample.member(IMAGES)
    written, document = sample.member(TEXTS), sample.parts.get("json")
    if picture is None:
        raise _Fault("duplicate_member" if sample.again else "no_image")
    if written is None and document is None:
        raise _Fault("no_text")
    image = _content(file, picture, MAX_IMAGE, "image_too_large")
    try:
        width, height = check_header(image)
    except ImageFault as fault:
        raise _Fault(fault.reason) from fault
    about = _document(_content(file, document, MAX_JSON, "bad_json")) if document else {}
    text = _alt_text(file, written, about.get("caption"), repairs)
    marks = {"dotted_key": sample.dotted, "repeated_key": sample.again, "second_image": len(sample.pictures) > 1}
    repairs += [mark for mark, is_so in marks.items() if is_so]
    uid = _uid(about.get("uid"), sample.key, b"" if referred and not _is_number(sample.key) else image)
    return Row(uid, picture.offset, picture.size, text, width, height, hashlib.sha256(image).digest())


def _check_names(sample: Found) -> None:
    """Refuse what leads elsewhere, what is no file, and what nobody can tell apart."""
    for kind, member in sample.parts.items():
        if not is_safe(member.name):
            raise _Fault("unsafe_name", ascii(member.name[:MAX_NAME_SHOWN]))
        if kind in KINDS and not member.is_file:
            raise _Fault("not_a_file", member.name)
    if sample.mixed:
        raise _Fault("duplicate_member")


def _content(file: BinaryIO, member: Member, limit: int, fault: str) -> bytes:
    if member.size > limit:
        raise _Fault(fault)
    file.seek(member.offset)
    return file.read(member.size)


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Fault("bad_json") from error
    if not isinstance(document, dict):
        raise _Fault("bad_json")
    return document


def _alt_text(file: BinaryIO, member: Member | None, caption: object, repairs: list[str]) -> str:
    """What the text member says, else the caption of the JSON; "" if there is one, but nothing in it."""
    try:
        said = _written(file, member, repairs) if member else ""
        if isinstance(caption, str) and not said:  # which can hold half a letter
            return one_line(caption[:MAX_TEXT].encode(errors="replace").decode())
    except Garbled as error:
        raise _Fault("text_garbled") from error
    if member is None and not isinstance(caption, str):
        raise _Fault("no_text")
    return said


def _written(file: BinaryIO, member: Member, repairs: list[str]) -> str:
    file.seek(member.offset)
    data = file.read(min(member.size, MAX_TEXT))
    text, is_utf8 = read_caption(data, whole=len(data) == member.size)
    if len(data) < member.size:
        repairs.append("text_too_long")
    if not is_utf8:
        repairs.append("text_not_utf8")
    return text


def _uid(stated: object, key: str, image: bytes) -> str:
    """The uid of the JSON, else the key, together with the image: keys begin anew in every run of a tool, or shard."""
    name = stated if isinstance(stated, str) else key
    if match := re.fullmatch(r"(?:.*/)?([0-9a-fA-F]{32})", name):
        return match[1].lower()
    named = (image if name is key else b"") + name.encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).hexdigest()[:32]


def _is_number(key: str) -> bool:
    return re.fullmatch(r"(?:.*/)?[0-9]+", key) is not None


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
