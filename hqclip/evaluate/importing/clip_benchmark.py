"""CLIP_benchmark's webdataset folders: `{split}/nshards.txt`, `{split}/0.tar`, ..., `classnames.txt` and templates.

As `clip_benchmark_export_wds` writes them and DataComp's evaluation reads them. A sample is an image with a `.cls`
(number of its class) or, where `dataset_type.txt` says "retrieval", a `.txt` with one caption a line. The first number
of an `.npy` beside the `.cls` says where the image is from (region, income, slide, place), as DataComp's tasks use it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from hqclip.data.tar import Member, is_safe
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.benchmarks.checks import shown
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.importing.classes import read_classes, read_templates
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, Tar

IMAGES = ("webp", "png", "jpg", "jpeg")  # in the order in which the reference looks for them
MAX_LABEL = 1 << 20  # bytes of a member that is no image
UNCOUNTED = {"fmow": "5"}  # WILDS' region "Other"
Parts = dict[str, Member]


class ClipBenchmark:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source, self._split = source, source.config.split
        self._folder = f"{source.folder}/{self._split}"
        self._type = _type_of(source)
        self._classes = [] if self._type == "retrieval" else read_classes(source)
        self._templates = [] if self._type == "retrieval" else read_templates(source)
        self._labels: dict[str, int] = {}
        self._domains: dict[str, str] = {}
        self._captions: dict[str, tuple[str, ...]] = {}

    def pictures(self) -> Iterator[Picture]:
        """In the order of shards and of their members."""
        taken = 0
        for shard in self._shards():
            with self._source.tar(f"{self._split}/{shard}") as tar, tar.path.open("rb") as file:
                for key, parts in _samples(tar, f"{self._folder}/{shard}").items():
                    if picture := self._picture(file, f"{self._split}/{shard}", key, parts):
                        yield picture
                        taken += 1
                        if taken == self._source.limit:
                            return

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Classification, or retrieval with every caption of every image."""
        if self._type == "retrieval":
            keys = [key for key in self._captions if key in uids]
            return Retrieval(name, tuple(uids[key] for key in keys), tuple(self._captions[key] for key in keys))
        keys = [key for key in self._labels if key in uids]
        return Classification(
            name=name,
            classes=tuple(self._classes),
            templates=tuple(self._templates),
            uids=tuple(uids[key] for key in keys),
            labels=tuple(self._labels[key] for key in keys),
            groups=("all",) * len(keys),
            domains=tuple(self._domain_of(key, name) for key in keys if key in self._domains),
        )

    def _domain_of(self, key: str, name: str) -> str:
        """Where an image is from; "" if DataComp does not count that."""
        domain = self._domains[key]
        return "" if domain == UNCOUNTED.get(name) else domain

    def _shards(self) -> list[str]:
        """`0.tar` and so on. Raises `DataError` where `nshards.txt` does not say what is there."""
        where = f"{self._folder}/nshards.txt"
        stated = self._source.text(self._source.read(f"{self._split}/nshards.txt"), where).strip()
        if not stated.isdecimal() or not int(stated):
            raise DataError(f"{where} is {shown(stated)}; it must be the number of shards, 1 or more")
        there = {name.rpartition("/")[2] for name in self._source.names(f"{self._split}/") if name.endswith(".tar")}
        named = [f"{number}.tar" for number in range(int(stated))] if int(stated) <= len(there) else []
        if not named or set(named) != there:
            wrong = min(there - set(named), default=f"{len(there)}.tar") if named else f"only {len(there)} are there"
            raise DataError(
                f"{where} says {stated} shards, 0.tar to {int(stated) - 1}.tar, but {self._folder} has {len(there)} "
                f"({wrong}); fetch what is missing, or correct the number"
            )
        return named

    def _picture(self, file: BinaryIO, shard: str, key: str, parts: Parts) -> Picture | None:
        where = f"{self._source.folder}/{shard}, sample {key}"
        image = next((parts[ending] for ending in IMAGES if ending in parts), None)
        label = parts.get("txt" if self._type == "retrieval" else "cls")
        if image is None or label is None:
            lacks = "image" if image is None else ".txt (captions)" if self._type == "retrieval" else ".cls (class)"
            self._source.leave_out("no_image" if image is None else "no_label", f"{where}: it has no {lacks}")
            return None
        full = f"{shard}/{key}"
        said = _content(file, label)
        if self._type == "retrieval":
            self._captions[full] = _captions(self._source.text(said, f"{where}.txt"), f"{where}.txt")
        else:
            self._labels[full] = self._label(said, f"{where}.cls")
            if "npy" in parts:
                self._domains[full] = _domain(_content(file, parts["npy"]), f"{where}.npy")
        return Picture(full, _content(file, image, limit=0))

    def _label(self, said: bytes, where: str) -> int:
        text = said.decode("ascii", "replace").strip()
        if not text.isdecimal() or int(text) >= len(self._classes):
            raise DataError(
                f"{where} is {shown(text)}; it must be the number of a class, from 0 to {len(self._classes) - 1} as "
                "classnames.txt has them"
            )
        return int(text)


def _type_of(source: Source) -> str:
    """What `dataset_type.txt` says. Raises `DataError` for what no benchmark here is, `NotFoundError` for no set."""
    if not source.has(f"{source.config.split}/nshards.txt"):
        raise NotFoundError(
            f"{source.folder}/{source.config.split}/nshards.txt does not exist; give a folder as CLIP_benchmark has "
            "them, another --split, or the right --layout"
        )
    if not source.has("dataset_type.txt"):
        return "classification"
    where = f"{source.folder}/dataset_type.txt"
    said = source.text(source.read("dataset_type.txt"), where).strip().lower()
    if said not in ("classification", "retrieval"):
        raise DataError(f"{where} is {shown(said)}; what can be imported is classification and retrieval")
    return said


def _samples(tar: Tar, where: str) -> dict[str, Parts]:
    """Members by key, which ends at the first dot of the file name. Raises `DataError` for one that comes twice."""
    found: dict[str, Parts] = {}
    for member in tar.members:
        if not is_safe(member.name) or not member.is_file:
            raise DataError(f"{where}: the member {shown(member.name)} leads elsewhere or is no file; take it out")
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if not stem:
            continue  # hidden files
        parts = found.setdefault(folder + slash + stem, {})
        if ending.lower() in parts:
            raise DataError(f"{where}: the member {member.name} comes twice; take one of them out")
        parts[ending.lower()] = member
    return found


def _content(file: BinaryIO, member: Member, limit: int = MAX_LABEL) -> bytes:
    file.seek(member.offset)
    return file.read(min(member.size, limit) if limit else member.size)


def _captions(text: str, where: str) -> tuple[str, ...]:
    captions = tuple(text.splitlines())
    if not captions or not all(caption.strip() for caption in captions):
        wrong = "a line says nothing" if captions else "it is empty"
        raise DataError(f"{where}: {wrong}; write a caption in each line")
    return captions


def _domain(data: bytes, where: str) -> str:
    """The first number of an array; no code is ever run for it."""
    import numpy as np  # whoever asks what a suite is does not want it

    try:
        numbers = np.load(io.BytesIO(data), allow_pickle=False).reshape(-1)
        return f"{int(numbers[0])}"
    except (ValueError, IndexError, TypeError, OverflowError, EOFError, OSError, AttributeError) as error:
        raise DataError(f"{where} is no array of numbers ({error}); mend it") from error
