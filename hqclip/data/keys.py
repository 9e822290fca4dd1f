"""The members of a tar in, the samples that they make up out.

The key of a member ends at the first dot of its file name, as in webdataset. Two things are told apart that
webdataset mixes up: keys that share what stands before the first dot (`cam1.00000.jpg`, `cam1.00001.jpg`) end at the
known extension; and a name that comes twice is of another sample, so members pair with their neighbours only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from hqclip.data.tar import Member

# In the order in which they are looked for; pictures are known by their content, whatever they are called.
IMAGES = ("jpg", "jpeg", "png", "webp", "jpe", "jfif", "img", "image")
TEXTS = ("txt", "text", "caption", "cap")
# Not read here, but meant as pictures: by themselves they are a sample that is lost.
OTHER_PICTURES = ("avif", "bmp", "gif", "heic", "heif", "jp2", "jxl", "tif", "tiff")
KINDS = {**dict.fromkeys(IMAGES, "image"), **dict.fromkeys(TEXTS, "text"), "json": "json"}

Parts = dict[str, Member]  # by extension, in small letters


@dataclass(slots=True)
class Found:
    """What stands under one key. `again`: the key stood for an earlier sample as well.

    `mixed`: members of one name stand together, and nothing tells which of them belongs to which sample.
    """

    key: str
    parts: Parts
    again: bool = False
    mixed: bool = False

    @property
    def dotted(self) -> bool:
        """Whether the key goes on behind the first dot of the file name."""
        return "." in self.key and "." in self.key.rpartition("/")[2]

    def member(self, extensions: Iterable[str]) -> Member | None:
        """The first of these that is there."""
        for extension in extensions:
            if extension in self.parts:
                return self.parts[extension]
        return None

    @property
    def pictures(self) -> set[str]:
        """The extensions of its images."""
        return {extension for extension in self.parts if KINDS.get(extension) == "image"}

    @property
    def kinds(self) -> set[str]:
        """Which of image, text and json are there."""
        return {KINDS[extension] for extension in self.parts if extension in KINDS}

    @property
    def span(self) -> tuple[int, int]:
        """Where its first member lies, and its last one."""
        offsets = [member.offset for member in self.parts.values()]
        return min(offsets), max(offsets)

    @property
    def place(self) -> int:
        """Where it stands among the others: at its image, wherever its other members lie."""
        return (self.member(IMAGES) or next(iter(self.parts.values()))).offset


class _Named(NamedTuple):
    key: str
    extension: str
    member: Member


def samples(members: Iterable[Member]) -> list[Found]:
    """In the order of their images. Hidden files belong to no sample, nor does `README.md`, `LICENSE` or `stats.csv`:
    a name without a number under which there is neither picture, text nor JSON.

    Where every name is there once, as in a folder, members may lie apart and in any order. Otherwise those of a sample
    stand together; or where hardly any do, as in an archive sorted by kind, a name that comes again begins another.
    """
    named = [one for member in members if (one := _named(member)).key.rpartition("/")[2]]
    dotted = _dotted(named)
    if dotted:
        named = [_at_known_extension(one, dotted.get(one.key, set())) for one in named]
    known = {one.key for one in named if _may_be_a_sample(one)}
    named = [one for one in named if one.key in known]
    folders = _folders(named)
    found = list(_by_neighbours(named) if len(folders) > 1 and _stand_together(named) else _by_key(folders))
    if dotted:
        # what is said of all of them, as in cam1.json, is no sample
        found = [one for one in found if one.key not in dotted or one.kinds - {"json"}]
    return sorted(found, key=lambda one: one.place)


def _may_be_a_sample(one: _Named) -> bool:
    is_numbered = any(letter.isdecimal() for letter in one.key.rpartition("/")[2])
    return is_numbered or one.extension.rpartition(".")[2] in (*KINDS, *OTHER_PICTURES)


def _named(member: Member) -> _Named:
    folder, slash, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    return _Named(folder + slash + stem, extension.lower(), member)


def _dotted(named: Sequence[_Named]) -> dict[str, set[str]]:
    """Where keys have dots of their own: what stands before the first dot, and what may follow it in a key.

    `1.jpg, 1.txt, 1.seg.png` is one sample with a further member, as nothing says what `1.seg.png` shows; so is
    `1.0.jpg, 1.1.jpg, 1.txt`, in which no picture is that of the text.
    """
    rests: dict[str, dict[str, set[str]]] = {}
    for one in named:
        if "." not in one.extension:
            continue
        rest, _, last = one.extension.rpartition(".")
        if last in KINDS:
            rests.setdefault(one.key, {}).setdefault(rest, set()).add(KINDS[last])
    if not rests:
        return {}
    bare: dict[str, set[str]] = {stem: set() for stem in rests}
    for one in named:
        if one.key in bare and one.extension in KINDS:
            bare[one.key].add(KINDS[one.extension])
    return {stem: keys for stem, found in rests.items() if (keys := _own_keys(found, bare[stem]))}


def _own_keys(rests: dict[str, set[str]], bare: set[str]) -> set[str]:
    """Which of `rests` stand for samples of their own beside members of the kinds `bare`, which have no rest."""
    pictured = {rest: kinds for rest, kinds in rests.items() if "image" in kinds}
    if not any(_stands_beside(bare, rest, kinds) for rest, kinds in pictured.items()) and (bare or not pictured):
        return set()
    roots = {**pictured, "": bare} if "image" in bare else pictured
    steps = {rest: [(root, tail) for root, tail in _cuts(rest) if root in roots] for rest in rests}
    branched = {
        root for rest in pictured for root, tail in steps[rest] if _stands_beside(roots[root], tail, pictured[rest])
    }
    return {
        rest
        for rest, kinds in rests.items()
        if all(
            _stands_beside(roots[root], tail, kinds) or (root in branched and _is_number(tail))
            for root, tail in steps[rest]
        )
    }


def _cuts(rest: str) -> Iterator[tuple[str, str]]:
    """What it may go on from, and by what: of `2.3.a` nothing by all of it, `2` by `3.a`, `2.3` by `a`."""
    yield "", rest
    yield from ((rest[: dot.start()], rest[dot.end() :]) for dot in re.finditer(r"\.", rest))


def _stands_beside(others: set[str], tail: str, kinds: set[str]) -> bool:
    """Whether members of `kinds` are a sample, though what their name goes on from by `tail` has members as well.

    With a JSON alone it is one if it goes on by a number: `1.mask.png, 1.mask.json` tell of `1.jpg, 1.json`.
    """
    has_json = "json" in kinds and ("image" not in others or ("text" not in others and _is_number(tail)))
    return "image" in kinds and ("text" in kinds or has_json)


def _is_number(tail: str) -> bool:
    return tail[:1].isdecimal()


def _at_known_extension(one: _Named, rests: set[str]) -> _Named:
    """The same member under a longer key, if its name begins with one."""
    rest = one.extension
    while "." in rest:
        rest = rest.rpartition(".")[0]
        if rest in rests:
            return _Named(f"{one.key}.{rest}", one.extension[len(rest) + 1 :], one.member)
    return one


def _folders(named: Iterable[_Named]) -> list[dict[str, Parts]]:
    """Members by key and extension; where a name comes again, the next folder begins."""
    folders: list[dict[str, Parts]] = [{}]
    for key, extension, member in named:
        if extension in folders[-1].get(key, ()):
            folders.append({})
        folders[-1].setdefault(key, {})[extension] = member
    return folders


def _stand_together(named: Iterable[_Named]) -> bool:
    """Whether most members have a neighbour of their own sample."""
    runs = [sum(1 for _ in run) for _, run in groupby(named, lambda one: one.key)]
    return 2 * runs.count(1) <= sum(runs)


def _by_key(folders: Iterable[dict[str, Parts]]) -> Iterator[Found]:
    seen: set[str] = set()
    for folder in folders:
        for key, parts in folder.items():
            yield Found(key, parts, key in seen)
        seen |= folder.keys()


def _by_neighbours(named: Iterable[_Named]) -> Iterator[Found]:
    seen = set()
    for key, run in groupby(named, lambda one: one.key):
        pieces = [folder[key] for folder in _folders(run)]
        alike = all(piece.keys() == pieces[0].keys() for piece in pieces)
        pictured = [piece for piece in pieces if any(extension in IMAGES for extension in piece)]
        for number, piece in enumerate(pieces if alike else pictured or pieces[:1]):
            yield Found(key, piece, key in seen or number > 0, mixed=not alike)
        seen.add(key)
