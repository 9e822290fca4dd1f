"""Images with their captions in, one or several each; how often the one finds the other among all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import as_list, different, lists_of_texts, one_an_image, shown, text_list
from hqclip.evaluate.benchmarks.protocol import Measured, Read
from hqclip.evaluate.benchmarks.spread import spread

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024  # of similarities at a time
RECALLS = (1, 5, 10)
REPEATED = 0.05  # share of the captions that may read like another: people write the same of two images now and then
ONCE = "an image counts once; give all of its captions in one list"
SHARED = "two images that share a caption cannot be told apart; leave one out"


@dataclass(frozen=True)
class Retrieval:
    """Which image belongs to which caption, both ways.

    An item of `captions` is the caption of an image or a list of them. A caption belongs to that image alone.
    """

    KIND: ClassVar[str] = "retrieval"
    TITLE: ClassVar[str] = "Retrieval"
    MEANING: ClassVar[str] = (
        "Image to text finds an image's own caption among all captions, one of them if it has several; text to image "
        "finds the image of every caption. R@1 counts first places, R@5 a place among the first five."
    )
    METRICS: ClassVar[Mapping[str, str]] = {
        "image_to_text_r1": "image to text, R@1",
        "image_to_text_r5": "image to text, R@5",
        "image_to_text_r10": "image to text, R@10",
        "text_to_image_r1": "text to image, R@1",
        "text_to_image_r5": "text to image, R@5",
        "text_to_image_r10": "text to image, R@10",
    }
    MAIN: ClassVar[Sequence[str]] = ("image_to_text_r1", "text_to_image_r1")
    ASKED: ClassVar[str] = "captions"
    ALIKE: ClassVar[float] = REPEATED

    name: str
    uids: tuple[str, ...]
    captions: tuple[str | Sequence[str], ...]

    def faults(self) -> Iterator[str]:
        """For every image a caption or more, hardly any of which reads like another's."""
        wrong = [*text_list(self, "uids", fewest=2), *lists_of_texts(self, "captions")]
        if not wrong:
            wrong = list(one_an_image(self, "captions"))
        yield from wrong
        if not wrong:
            yield from different(self, "uids", ONCE)
            said = [text for texts in self.captions for text in set(as_list(texts))]
            if len(set(said)) < (1 - REPEATED) * len(said):
                yield from self._first_shared()

    def _first_shared(self) -> Iterator[str]:
        seen: dict[str, int] = {}
        for place, texts in enumerate(self.captions):
            for text in as_list(texts):
                if seen.setdefault(text, place) != place:
                    yield f"captions[{place}] is {shown(text)}, as captions[{seen[text]}] is: {SHARED}"
                    return

    def texts(self) -> dict[str, list[str]]:
        """The captions, image by image."""
        return {"captions": [text for texts in self.captions for text in as_list(texts)]}

    def one_text(self, read: Read) -> list[str]:
        """A caption that reads as one of an image before."""
        owner: dict[Hashable, int] = {}
        texts = self.texts()["captions"]
        said = zip(texts, read(texts), self._owners(), strict=True)
        return [text if owner.setdefault(reading, place) != place else "" for text, reading, place in said]

    def _owners(self) -> list[int]:
        """The place of the image of each caption."""
        return [place for place, texts in enumerate(self.captions) for _ in as_list(texts)]

    def first(self, number: int) -> Retrieval:
        """Of images, with all of their captions: fewer to choose from, so recall is higher."""
        return spread(self, number, uids=1, captions=1)

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Recall at 1, 5 and 10: how many wrong ones score as high as the right one; a tie counts against the model.

        With several captions an image (N images, M captions) as in CLIP_benchmark: image to text takes the best of its
        own; text to image counts captions. Its values are by image too, so that both ways are drawn again together: the
        captions of an image that are right, times N / M, of which the mean is the share of right captions.
        """
        import torch

        text_MD = texts["captions"]
        owner_M = torch.tensor(self._owners())
        rank_N, rank_M = _ranks(image_ND, text_MD, owner_M)
        weight = len(image_ND) / len(text_MD)
        values = {}
        for k in RECALLS:
            values[f"image_to_text_r{k}"] = (rank_N < k).double().numpy()
            found_N = torch.bincount(owner_M, (rank_M < k).double(), minlength=len(image_ND))
            values[f"text_to_image_r{k}"] = (found_N * weight).numpy()
        return Measured(values, {}, {})


def _ranks(image_ND: Tensor, text_MD: Tensor, owner_M: Tensor) -> tuple[Tensor, Tensor]:
    """How many captions of others score at least as high as the best own one (N), and images as the own one (M)."""
    import torch

    of_images, of_texts = [], []
    number_N = torch.arange(len(image_ND))
    for start in range(0, len(image_ND), ROWS):
        scores_RM = image_ND[start : start + ROWS] @ text_MD.T
        own_RM = owner_M == number_N[start : start + ROWS, None]
        best_R = scores_RM.masked_fill(~own_RM, -torch.inf).amax(1)
        of_images.append(((scores_RM >= best_R[:, None]) & ~own_RM).sum(1))
    for start in range(0, len(text_MD), ROWS):
        scores_RN = text_MD[start : start + ROWS] @ image_ND.T
        right_R = scores_RN.gather(1, owner_M[start : start + ROWS, None])
        of_texts.append((scores_RN >= right_R).sum(1) - 1)
    return torch.cat(of_images), torch.cat(of_texts)
