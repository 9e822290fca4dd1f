"""Images with a true and one or more false captions in; how often the true one is preferred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from hqclip.data.rules import Rule
from hqclip.evaluate.benchmarks.checks import as_list, columns, lists_of_texts, one_an_image, shown
from hqclip.evaluate.benchmarks.protocol import Measured, Read
from hqclip.evaluate.benchmarks.spread import spread

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """Which caption is true of the image: an item of `negatives` is one false caption or a list of them; `groups` name
    what was changed in it. SugarCrepe, ARO, VALSE.
    """

    KIND: ClassVar[str] = "choice"
    TITLE: ClassVar[str] = "Compositional choice"
    MEANING: ClassVar[str] = (
        "One image, one true caption and the same caption with one thing made false, such as a colour or a position. "
        "The true one must score strictly higher: a tie counts as wrong, and a coin gets 50\u202f%. "
        "The control shows every caption the mean of all images: far above chance, the captions give themselves away."
    )
    METRICS: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "text_only": "control without the image"}
    MAIN: ClassVar[Sequence[str]] = ("accuracy",)
    ASKED: ClassVar[str] = "items"
    ALIKE: ClassVar[float] = 0.01

    name: str
    uids: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[str | Sequence[str], ...]
    groups: tuple[str, ...]

    def faults(self) -> Iterator[str]:
        """Columns of one length, and a false caption that says something else than the true one."""
        wrong = [*columns(self, "positives", "groups"), *lists_of_texts(self, "negatives")]
        if not wrong:
            wrong = list(one_an_image(self, "negatives"))
        yield from wrong
        if not wrong:
            same = [place for place, texts in enumerate(self.negatives) if self.positives[place] in as_list(texts)]
            if same:
                yield (
                    f"negatives[{same[0]}] is {shown(self.negatives[same[0]])}, as is the true caption "
                    f"({len(same)} of {len(self.uids)}): nobody can choose; make it false or leave the item out"
                )

    def texts(self) -> dict[str, Sequence[str]]:
        """The true captions and, item by item, the false ones."""
        return {
            "positives": self.positives,
            "negatives": [text for texts in self.negatives for text in as_list(texts)],
        }

    def one_text(self, read: Read) -> list[str]:
        """The first false caption that reads as the true one."""
        texts = self.texts()
        false = zip(texts["negatives"], read(texts["negatives"]), strict=True)
        found = []
        for true, negatives in zip(read(self.positives), self.negatives, strict=True):
            own = islice(false, len(as_list(negatives)))
            found.append(next(iter([text for text, reading in own if reading == true]), ""))
        return found

    def first(self, number: int) -> Choice:
        """As the protocol says."""
        return spread(self, number, uids=1, positives=1, negatives=1, groups=1)

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Whether the true caption scores strictly higher than all false ones (SugarCrepe's rule): a tie is wrong.

        `text_only` asks the same of the mean of all images, which knows of no item what is in it.
        """
        import torch

        counts_N = torch.tensor([len(as_list(texts)) for texts in self.negatives])
        item_M = torch.arange(len(counts_N)).repeat_interleave(counts_N)

        def lead(image_ND: Tensor) -> Tensor:
            """(N) by how much the true caption is ahead of the best false one."""
            true_N = (image_ND * texts["positives"]).sum(1)
            false_M = (image_ND[item_M] * texts["negatives"]).sum(1)
            best_N = torch.full_like(true_N, -torch.inf).scatter_reduce(0, item_M, false_M, "amax")
            return true_N - best_N

        seen_N, blind_N = lead(image_ND), lead(image_ND.mean(0, keepdim=True).expand_as(image_ND))
        values = {"accuracy": (seen_N > 0).double().numpy(), "text_only": (blind_N > 0).double().numpy()}
        ties = float((seen_N == 0).double().mean())
        return Measured(
            values,
            {"accuracy": self.groups, "text_only": self.groups},
            {"ties": ties},
            rules={"text_only": Rule.CLASSES},
        )
