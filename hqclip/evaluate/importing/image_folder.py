"""A folder of images for each class, as ImageNet and torchvision have them: `{class}/name.jpg`.

The classes are the folders in alphabetical order. Their names are in `classnames.txt`, a line for each folder in that
order, or else those of the folders; prompts are in `zeroshot_classification_templates.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hqclip.data.keys import IMAGES
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.classes import CLASSES, read_classes, read_templates
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source


class ImageFolder:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._images = [name for name in source.names() if _is_image(name)]
        if not self._images:
            raise NotFoundError(f"{source.folder} has no images in folders of classes; give the folder above these")
        self._folders = sorted({name.partition("/")[0] for name in self._images})
        named = bool(source.config.classes) or source.has(CLASSES)
        self._classes = read_classes(source) if named else [name.replace("_", " ") for name in self._folders]
        if len(self._classes) != len(self._folders):
            raise DataError(
                f"{source.config.classes or f'{source.folder}/{CLASSES}'} has {len(self._classes)} lines, but there "
                f"are {len(self._folders)} folders of classes ({self._folders[0]} to {self._folders[-1]}); "
                "write one name a folder, in their alphabetical order"
            )
        self._templates = read_templates(source)

    def pictures(self) -> Iterator[Picture]:
        """Folder by folder; with a limit, one of each class after the other, so that few show many classes."""
        return named_pictures(self._source, self._taken(), "")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """Classification by folder."""
        images = [image for image in self._images if image in uids]
        return Classification(
            name=name,
            classes=tuple(self._classes),
            templates=tuple(self._templates),
            uids=tuple(uids[image] for image in images),
            labels=tuple(self._folders.index(image.partition("/")[0]) for image in images),
            groups=("all",) * len(images),
        )

    def _taken(self) -> list[str]:
        if not self._source.limit:
            return self._images
        places: dict[str, int] = {}
        order = []
        for image in self._images:
            folder = image.partition("/")[0]
            places[folder] = places.get(folder, -1) + 1
            order.append((places[folder], image))
        return [image for _, image in sorted(order)][: self._source.limit]


def _is_image(name: str) -> bool:
    return "/" in name and name.rpartition(".")[2].lower() in IMAGES
