"""Captions of COCO or Flickr30k as JSON, with a folder or tars of images. Three published forms are told apart:

- COCO: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`;
- Karpathy's splits: `images` with `split`, `filepath`, `filename` and `sentences`, each with its `raw` text;
- those made from them for retrieval: a list of `image` and `caption`, which is a text or a list of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.checks import shown
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, field, image_name, text_field

Captions_ = dict[str, tuple[str, ...]]  # of each image, by its name


class Captions:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        (name,) = source.documents(".json")[:1]
        where = f"{source.folder}/{name}"
        document = source.json(name)
        found = _read(document, source.config.split, where)
        if not found:
            raise DataError(f"{where} has no captions (of the split {source.config.split!r}); is it the right file?")
        self._captions = dict(list(found.items())[: source.limit or None])

    def pictures(self) -> Iterator[Picture]:
        """Those that have captions."""
        return named_pictures(self._source, self._captions, "")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Retrieval with every caption of every image."""
        images = [image for image in self._captions if image in uids]
        return Retrieval(name, tuple(uids[image] for image in images), tuple(self._captions[image] for image in images))


def _read(document: Any, split: str, where: str) -> Captions_:
    if isinstance(document, list):
        return _listed(document, where)
    images = field(document, "images", list, where)
    if "annotations" in document:
        return _coco(images, field(document, "annotations", list, where), where)
    return _karpathy(images, split, where)


def _coco(images: list[Any], annotations: list[Any], where: str) -> Captions_:
    names: dict[int, str] = {}
    for place, image in enumerate(images):
        at = f"{where}, images[{place}]"
        number = field(image, "id", int, at)
        if number in names:
            raise DataError(f"{at}: id is {number}, as that of {names[number]}; take one out")
        names[number] = image_name(image, "file_name", at)
    captions: dict[str, list[str]] = {}
    for place, annotation in enumerate(annotations):
        at = f"{where}, annotations[{place}]"
        number = field(annotation, "image_id", int, at)
        if number not in names:
            raise DataError(f"{at}: image_id is {number}, the id of no image; add it, or take the caption out")
        captions.setdefault(names[number], []).append(text_field(annotation, "caption", at))
    return {name: tuple(captions[name]) for name in names.values() if name in captions}


def _karpathy(images: list[Any], split: str, where: str) -> Captions_:
    found: Captions_ = {}
    for place, image in enumerate(images):
        at = f"{where}, images[{place}]"
        if field(image, "split", str, at) != split:
            continue
        name = image_name(image, "filename", at)
        if image.get("filepath"):
            name = f"{image_name(image, 'filepath', at)}/{name}"
        sentences = field(image, "sentences", list, at)
        _add(found, name, tuple(text_field(one, "raw", f"{at}.sentences[{n}]") for n, one in enumerate(sentences)), at)
    return found


def _listed(items: list[Any], where: str) -> Captions_:
    found: Captions_ = {}
    for place, item in enumerate(items):
        at = f"{where}, item {place}"
        name = image_name(item, "image", at)
        said = item.get("caption")
        captions = said if isinstance(said, list) else [said]
        if not captions or not all(isinstance(one, str) and one.strip() for one in captions):
            raise DataError(f"{at}: caption is {shown(said)}; it must be a text or a list of texts")
        _add(found, name, tuple(captions), at)
    return found


def _add(found: Captions_, name: str, captions: tuple[str, ...], at: str) -> None:
    if name in found:
        raise DataError(f"{at}: the image {name!r} came before; give all captions of an image together")
    if not captions:
        raise DataError(f"{at}: the image {name!r} has no caption; take it out")
    found[name] = captions
