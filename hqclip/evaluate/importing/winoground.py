"""Winoground's `examples.jsonl`: a line an item, with `image_0`, `image_1`, `caption_0`, `caption_1` and its tags.

Images are in `images` beside it, as `{image_0}.png`. The group of an item is its `collapsed_tag`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, image_name, text_field


class Pair(NamedTuple):
    """Two images, by their keys, each with the caption of the same place."""

    images: tuple[str, str]
    captions: tuple[str, str]
    group: str


class Winoground:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        name = source.documents(".jsonl")[0]
        where = f"{source.folder}/{name}"
        lines = source.text(source.read(name), where).splitlines()
        items = [
            _pair(source.parse(line, f"{where}, line {number}"), f"{where}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        if not items:
            raise DataError(f"{where} is empty; fetch it again")
        self._pairs = items[: source.limit or None]

    def pictures(self) -> Iterator[Picture]:
        """Each once."""
        return named_pictures(self._source, (image for pair in self._pairs for image in pair.images), "images")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Which caption belongs to which image."""
        return matching(name, self._pairs, uids)


def _pair(item: Any, at: str) -> Pair:
    images = (_file(image_name(item, "image_0", at)), _file(image_name(item, "image_1", at)))
    captions = (text_field(item, "caption_0", at), text_field(item, "caption_1", at))
    return Pair(images, captions, text_field(item, "collapsed_tag", at))


def _file(name: str) -> str:
    """Published names have no ending."""
    return name if "." in name else f"{name}.png"


def matching(name: str, pairs: list[Pair], uids: Mapping[str, str]) -> Matching:
    """The benchmark of the pairs of which both images are there."""
    there = [pair for pair in pairs if all(image in uids for image in pair.images)]
    return Matching(
        name=name,
        uids=tuple(uids[image] for pair in there for image in pair.images),
        captions=tuple(caption for pair in there for caption in pair.captions),
        groups=tuple(pair.group for pair in there),
    )
