"""WinoGAViL's `winogavil_dataset.csv`: a `cue`, its `candidates` and `associations`, JSON lists of names of images.

Images are in `images` beside it, as `{name}.jpg`. As in DataComp the model reads "A ..." or "An ...", in small letters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.association import Association
from hqclip.evaluate.benchmarks.checks import shown
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, image_name, read_csv, text_field

FIELDS = ("cue", "candidates", "associations")


class _Item(NamedTuple):
    cue: str
    candidates: tuple[str, ...]
    answers: tuple[int, ...]


class Winogavil:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        name = source.documents(".csv")[0]
        items = [_item(row, at, source) for at, row in read_csv(source, name, FIELDS)]
        if not items:
            raise DataError(f"{source.folder}/{name} has no items; fetch it again")
        self._items = items[: source.limit or None]

    def pictures(self) -> Iterator[Picture]:
        """Each once."""
        return named_pictures(self._source, (name for item in self._items for name in item.candidates), "images")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Which candidates people associate with the cue."""
        there = [item for item in self._items if all(image in uids for image in item.candidates)]
        return Association(
            name=name,
            cues=tuple(item.cue for item in there),
            candidates=tuple(tuple(uids[image] for image in item.candidates) for item in there),
            answers=tuple(item.answers for item in there),
        )


def _item(row: dict[str, Any], at: str, source: Source) -> _Item:
    cue = text_field(row, "cue", at).strip().lower()
    candidates, associations = (_names(row, name, at, source) for name in FIELDS[1:])
    strange = [name for name in associations if name not in candidates]
    if strange:
        raise DataError(f"{at}: associations has {shown(strange[0])}, which is none of the candidates; mend it")
    answers = tuple(sorted(candidates.index(name) for name in associations))
    return _Item(f"{'An' if cue[0] in 'aeiou' else 'A'} {cue}", tuple(f"{name}.jpg" for name in candidates), answers)


def _names(row: dict[str, Any], field: str, at: str, source: Source) -> list[str]:
    names = source.parse(text_field(row, field, at), f"{at}, {field}")
    if not isinstance(names, list):
        raise DataError(f"{at}: {field} is {shown(names)}; it must be a JSON list of names of images")
    return [image_name({field: name}, field, at) for name in names]
