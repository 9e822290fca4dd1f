"""Images with a true and a false caption in; how often the true one is preferred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import columns, shown
from hqclip.evaluate.benchmarks.protocol import Measured

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """Which of two captions is true of the image; `groups` name what was changed in the false one."""

    KIND: ClassVar[str] = "choice"
    TITLE: ClassVar[str] = "Compositional choice"
    MEANING: ClassVar[str] = (
        "One image, one true caption and the same caption with one thing made false, such as a colour or a position. "
        "The true one must score strictly higher: a tie counts as wrong, and a coin gets 50\u202f%."
    )
    METRICS: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy"}
    MAIN: ClassVar[Sequence[str]] = ("accuracy",)

    name: str
    uids: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    groups: tuple[str, ...]

    def faults(self) -> Iterator[str]:
        """Columns of one length, and a false caption that says something else than the true one."""
        wrong = list(columns(self, "positives", "negatives", "groups"))
        yield from wrong
        if not wrong:
            same = [place for place, text in enumerate(self.negatives) if text == self.positives[place]]
            if same:
                yield (
                    f"negatives[{same[0]}] is {shown(self.negatives[same[0]])}, as is the true caption "
                    f"({len(same)} of {len(self.uids)}): nobody can choose; make it false or leave the item out"
                )

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The true captions and the false ones."""
        return {"positives": self.positives, "negatives": self.negatives}

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Whether the true caption scores strictly higher (SugarCrepe's rule): a tie is wrong, and counted."""
        true_N = (image_ND * texts["positives"]).sum(1)
        false_N = (image_ND * texts["negatives"]).sum(1)
        ties = float((true_N == false_N).double().mean())
        right = (true_N > false_N).double().numpy()
        return Measured({"accuracy": right}, {"accuracy": self.groups}, {"ties": ties})
