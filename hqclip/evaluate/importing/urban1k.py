"""Urban1k of Long-CLIP: `image/221.jpg` with its long caption in `caption/221.txt`, one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source

CAPTIONS, IMAGES = "caption", "image"


class Urban1k:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        names = [name for name in source.names(f"{CAPTIONS}/") if name.endswith(".txt")]
        if not names:
            raise NotFoundError(f"{source.folder}/{CAPTIONS} has no .txt files; give the folder above `caption`")
        self._captions = {_image_of(name): self._caption(name) for name in names[: source.limit or None]}

    def pictures(self) -> Iterator[Picture]:
        """One for each caption."""
        return named_pictures(self._source, self._captions, IMAGES)

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Retrieval with one caption an image."""
        images = [image for image in self._captions if image in uids]
        return Retrieval(name, tuple(uids[i] for i in images), tuple((self._captions[i],) for i in images))

    def _caption(self, name: str) -> str:
        where = f"{self._source.folder}/{name}"
        lines = self._source.text(self._source.read(name), where).splitlines()
        if not lines or not lines[0].strip():
            raise DataError(f"{where}: its first line is empty; write the caption there")
        return lines[0].strip()


def _image_of(name: str) -> str:
    return f"{name.rpartition('/')[2].removesuffix('.txt')}.jpg"
