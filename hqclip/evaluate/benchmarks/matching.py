"""Pairs of images with their two captions in; how often each image finds its caption and each caption its image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import columns, is_list, main_known, shown, text_list
from hqclip.evaluate.benchmarks.protocol import Measured, Read
from hqclip.evaluate.benchmarks.spread import spread

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """Two images and two captions an item: `uids[2 * i]` and `uids[2 * i + 1]`, of which `captions` of the same places
    are true; `groups` name the kind of each item. Winoground, MMVP.
    """

    KIND: ClassVar[str] = "matching"
    TITLE: ClassVar[str] = "Compositional matching"
    MEANING: ClassVar[str] = (
        "Two images and two captions that are nearly alike. Text: each image prefers its own caption. Image: each "
        "caption prefers its own image. Group: both. A tie counts as wrong; a coin gets 25, 25 and 17\u202f%."
    )
    METRICS: ClassVar[Mapping[str, str]] = {
        "text_score": "text score",
        "image_score": "image score",
        "group_score": "group score",
    }
    MAIN: ClassVar[Sequence[str]] = ("group_score",)
    ASKED: ClassVar[str] = "items"
    ALIKE: ClassVar[float] = 0.01

    name: str
    uids: tuple[str, ...]
    captions: tuple[str, ...]
    groups: tuple[str, ...]
    main: str = ""

    def faults(self) -> Iterator[str]:
        """An even number of images with a caption each, that differs within a pair; a group for every two."""
        yield from main_known(self)
        wrong_groups = list(text_list(self, "groups"))
        yield from wrong_groups
        wrong = list(columns(self, "captions", fewest=2))
        yield from wrong
        if not wrong:
            for name in ("uids", "captions"):
                yield from self._same(name)
        if not wrong_groups and is_list(self.uids) and len(self.uids) != 2 * len(self.groups):
            yield f"{len(self.groups)} groups for {len(self.uids)} images (uids); give one for every two images"

    def _same(self, name: str) -> Iterator[str]:
        items: Sequence[str] = getattr(self, name)
        for place in range(1, len(items), 2):
            if items[place] == items[place - 1]:
                yield (
                    f"{name}[{place}] is {shown(items[place])}, as {name}[{place - 1}] is: nobody can match the two; "
                    "leave the item out"
                )
                return

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The captions."""
        return {"captions": self.captions}

    def one_text(self, read: Read) -> list[str]:
        """The second caption of an item, if it reads as the first."""
        said = read(self.captions)
        items = zip(said[::2], said[1::2], self.captions[1::2], strict=True)
        return [text if one == other else "" for one, other, text in items]

    def first(self, number: int) -> Matching:
        """As the protocol says."""
        return spread(self, number, groups=1, uids=2, captions=2)

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Strictly greater throughout (Thrush et al., 2022); with all alike nothing is right."""
        image_P2D, text_P2D = image_ND.unflatten(0, (-1, 2)), texts["captions"].unflatten(0, (-1, 2))
        scores_PIT = (image_P2D[:, :, None] * text_P2D[:, None]).sum(-1)
        own_P2 = scores_PIT.diagonal(dim1=1, dim2=2)
        text_P = (own_P2 > scores_PIT.flip(2).diagonal(dim1=1, dim2=2)).all(1)  # each image against the other caption
        image_P = (own_P2 > scores_PIT.flip(1).diagonal(dim1=1, dim2=2)).all(1)  # each caption against the other image
        right = {"text_score": text_P, "image_score": image_P, "group_score": text_P & image_P}
        values = {metric: right_P.double().numpy() for metric, right_P in right.items()}
        return Measured(values, dict.fromkeys(values, self.groups), {})
