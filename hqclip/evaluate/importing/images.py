"""Names of images in, the files out: from a folder, or from tars, which are read from start to end."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from hqclip.data.sources.patterns import expand, split_pattern, split_patterns
from hqclip.data.sources.protocol import ENDINGS
from hqclip.data.tar import Member
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source
from hqclip.store import open_store

AT_ONCE = 16  # files that are asked for together: a bucket takes its time for each


def named_pictures(source: Source, names: Iterable[str], folder: str) -> Iterator[Picture]:
    """Each image once, under its name; `folder` is where they are if no images were given.

    From tars in the order of these, else in that of the names. An image that is not there is left out, or refused.
    """
    wanted = list(dict.fromkeys(names))
    place = source.config.images.rstrip("/")
    if place.endswith(ENDINGS):
        yield from _from_tars(source, place, wanted)
    else:
        yield from _from_folder(source, place or f"{source.folder}/{folder}".rstrip("/"), wanted)


def _from_folder(source: Source, folder: str, wanted: Sequence[str]) -> Iterator[Picture]:
    def read(name: str) -> bytes | None:
        try:
            return source.read(name, folder)
        except NotFoundError:
            return None

    rest = iter(wanted)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while names := list(islice(rest, AT_ONCE)):
            for name, data in zip(names, pool.map(read, names), strict=True):
                if data is None:
                    _miss(source, name, folder)
                else:
                    yield Picture(name, data)


def _from_tars(source: Source, pattern: str, wanted: Sequence[str]) -> Iterator[Picture]:
    """Members by their name; by the end of it, where the one has folders before it and the other has not."""
    missing = dict.fromkeys(wanted)
    by_file = defaultdict[str, list[str]](list)
    for one in wanted:
        by_file[one.rpartition("/")[2]].append(one)
    for folder, shard in _tars(pattern):
        if not missing:
            return
        with source.tar(shard, folder) as tar, tar.path.open("rb") as file:
            for member in tar.members:
                if (name := _wanted(member, by_file)) is None:
                    continue
                if name not in missing:
                    raise DataError(f"{folder}/{shard}: the image {name!r} comes twice in {pattern}; take one out")
                del missing[name]
                file.seek(member.offset)
                yield Picture(name, file.read(member.size))
    for left in missing:
        _miss(source, left, pattern)


def _wanted(member: Member, by_file: dict[str, list[str]]) -> str | None:
    """The one name that the member has, if there is one."""
    names = by_file.get(member.name.rpartition("/")[2], []) if member.is_file else []
    whole = f"/{member.name}"
    found = [name for name in names if whole.endswith(f"/{name}") or f"/{name}".endswith(whole)]
    return found[0] if len(found) == 1 else None


def _tars(pattern: str) -> Iterator[tuple[str, str]]:
    for part in split_patterns(pattern):
        folder, name = split_pattern(part)
        if any(letter in name for letter in "*?["):
            there = [key for key in open_store(folder).list() if "/" not in key and fnmatch.fnmatchcase(key, name)]
            if not there:
                raise NotFoundError(f"no tars match {part}; look at what is in {folder}")
        else:
            there = expand(name)
        yield from ((folder, key) for key in there)


def _miss(source: Source, name: str, place: str) -> None:
    source.leave_out("missing_image", f"{place}: the image {name!r} that {source.config.source} names is not there")
