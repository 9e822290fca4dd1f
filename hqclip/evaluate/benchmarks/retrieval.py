"""Images with their captions in; how often the one finds the other among all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import columns, different, is_list, shown
from hqclip.evaluate.benchmarks.protocol import Measured

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024  # of similarities at a time
ONE_CAPTION = "retrieval takes one caption an image so far; keep one of each image's captions"


@dataclass(frozen=True)
class Retrieval:
    """Which image belongs to which caption, both ways; captions are unique."""

    KIND: ClassVar[str] = "retrieval"
    TITLE: ClassVar[str] = "Retrieval"
    MEANING: ClassVar[str] = (
        "Image to text finds an image's own caption among all captions, text to image the reverse. "
        "R@1 counts first places, R@5 a place among the first five."
    )
    METRICS: ClassVar[Mapping[str, str]] = {
        "image_to_text_r1": "image to text, R@1",
        "image_to_text_r5": "image to text, R@5",
        "text_to_image_r1": "text to image, R@1",
        "text_to_image_r5": "text to image, R@5",
    }
    MAIN: ClassVar[Sequence[str]] = ("image_to_text_r1", "text_to_image_r1")

    name: str
    uids: tuple[str, ...]
    captions: tuple[str, ...]

    def faults(self) -> Iterator[str]:
        """One caption an image, which no other image has."""
        several = [place for place, item in enumerate(self.captions) if is_list(item)] if is_list(self.captions) else []
        if several:
            yield f"captions[{several[0]}] is {shown(self.captions[several[0]])}: {ONE_CAPTION}"
            return
        wrong = list(columns(self, "captions", fewest=2))
        yield from wrong
        if not wrong:
            yield from different(self, "uids", ONE_CAPTION)
            yield from different(
                self, "captions", "two images that share a caption cannot be told apart; leave one out"
            )

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The captions."""
        return {"captions": self.captions}

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Recall at 1 and 5: how many pairs outscore the right one; a tie counts against the model."""
        text_ND = texts["captions"]
        values = {}
        for direction, query, target in (("image_to_text", image_ND, text_ND), ("text_to_image", text_ND, image_ND)):
            ranks = _ranks(query, target)
            for k in (1, 5):
                values[f"{direction}_r{k}"] = (ranks < k).double().numpy()
        return Measured(values, {}, {})


def _ranks(query_ND: Tensor, target_ND: Tensor) -> Tensor:
    """(N) how many other targets score at least as high as the right one."""
    import torch

    parts = []
    for start in range(0, len(query_ND), ROWS):
        scores = query_ND[start : start + ROWS] @ target_ND.T
        right = scores[torch.arange(len(scores)), torch.arange(start, start + len(scores))]
        parts.append((scores >= right[:, None]).sum(1) - 1)
    return torch.cat(parts)
