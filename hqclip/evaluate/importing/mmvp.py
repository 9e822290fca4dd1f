"""MMVP-VLM's `Questions.csv`: `Question ID`, `Type` and `Statement`, two lines after one another a pair.

The image of a line is `MLLM_VLM Images/{Type}/{Question ID}.jpg`; the type, one of nine visual patterns, is the group.
As in the reference a statement is asked as "a photo of ...".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import pairwise

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, image_name, read_csv, text_field
from hqclip.evaluate.importing.winoground import Pair, matching

FILE, IMAGES = "Questions.csv", "MLLM_VLM Images"
FIELDS = ("Question ID", "Type", "Statement")


class Mmvp:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pairs = _pairs(source)[: source.limit or None]

    def pictures(self) -> Iterator[Picture]:
        """Each once."""
        return named_pictures(self._source, (image for pair in self._pairs for image in pair.images), IMAGES)

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Which image belongs to which statement: both of a pair must be right, as its authors count."""
        return dataclasses.replace(matching(name, self._pairs, uids), main="image_score")


def _pairs(source: Source) -> list[Pair]:
    name = source.file or FILE
    where = f"{source.folder}/{name}"
    lines = read_csv(source, name, FIELDS)
    read = [(_image(row, at), f"a photo of {text_field(row, 'Statement', at)}", row["Type"]) for at, row in lines]
    if not read or len(read) % 2:
        raise DataError(f"{where} has {len(read)} questions; two after one another are a pair")
    pairs = []
    for place, ((one, first, kind), (two, second, other)) in enumerate(pairwise(read)):
        if place % 2:
            continue
        if kind != other:
            raise DataError(f"{lines[place + 1][0]}: Type is {other!r}, but that of the line before is {kind!r}")
        pairs.append(Pair((one, two), (first, second), kind))
    return pairs


def _image(row: dict[str, str], at: str) -> str:
    return f"{image_name(row, 'Type', at)}/{image_name(row, 'Question ID', at)}.jpg"
