"""Cues with candidate images in; how well the images that belong to a cue are told from the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import is_list, lists_of_texts, main_known, shown, text_list
from hqclip.evaluate.benchmarks.protocol import Measured, Read
from hqclip.evaluate.benchmarks.spread import spread

if TYPE_CHECKING:
    from torch import Tensor

COUNTED = {  # the numbers of candidates that each metric is about: DataComp's splits
    "avg_jaccard_score": range(1, 1000),
    "jaccard_score_5-6": range(7),
    "jaccard_score_10-12": range(10, 1000),
}


@dataclass(frozen=True)
class Association:
    """Which of the `candidates` (uids) people associate with a cue: those at the places `answers`.

    The model is told how many. A cue is the text that it reads: DataComp writes those of WinoGAViL "A ..." or "An ...".
    """

    KIND: ClassVar[str] = "association"
    TITLE: ClassVar[str] = "Association"
    MEANING: ClassVar[str] = (
        "A cue and five to twelve images, some of which people associate with it. The model picks as many as there "
        "are; the score is what was picked rightly, of all that was picked or should have been (Jaccard index)."
    )
    METRICS: ClassVar[Mapping[str, str]] = {
        "avg_jaccard_score": "Jaccard index",
        "jaccard_score_5-6": "Jaccard index, up to six candidates",
        "jaccard_score_10-12": "Jaccard index, ten candidates and more",
    }
    MAIN: ClassVar[Sequence[str]] = ("avg_jaccard_score",)
    ASKED: ClassVar[str] = "cues"
    ALIKE: ClassVar[float] = 0.0

    name: str
    cues: tuple[str, ...]
    candidates: tuple[Sequence[str], ...]
    answers: tuple[Sequence[int], ...]
    main: str = ""

    @property
    def uids(self) -> tuple[str, ...]:
        """The candidates of every cue, one after the other."""
        return tuple(uid for item in self.candidates for uid in item)

    def faults(self) -> Iterator[str]:
        """For every cue candidates that differ, and the places of some of them."""
        wrong_main = list(main_known(self))
        yield from wrong_main
        wrong = [*text_list(self, "cues"), *lists_of_texts(self, "candidates", fewest=2, bare=False)]
        if not is_list(self.answers):
            wrong.append(f"answers is {shown(self.answers)}; give a list of lists of whole numbers")
        yield from wrong
        if wrong:
            return
        for name in ("candidates", "answers"):
            if len(getattr(self, name)) != len(self.cues):
                yield f"{len(getattr(self, name))} {name} for {len(self.cues)} cues; give one list a cue"
                return
        yield from self._item_faults()
        if self.main and not wrong_main and not any(len(uids) in COUNTED[self.main] for uids in self.candidates):
            yield f"main is {shown(self.main)}, for which no cue has the number of candidates; choose another"

    def _item_faults(self) -> Iterator[str]:
        for place, (uids, places) in enumerate(zip(self.candidates, self.answers, strict=True)):
            if len(set(uids)) < len(uids):
                yield f"candidates[{place}] is {shown(uids)} with an image twice; name each once"
                return
            known = is_list(places) and all(type(one) is int and 0 <= one < len(uids) for one in places)
            if not known or not 0 < len(places) == len(set(places)) < len(uids):
                yield (
                    f"answers[{place}] is {shown(places)}; give the places of some but not all candidates, different "
                    f"whole numbers from 0 to {len(uids) - 1}"
                )
                return

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The cues."""
        return {"cues": self.cues}

    def one_text(self, _: Read) -> tuple[str, ...]:
        """A cue is held against images alone: it may read as another one."""
        return ()

    def first(self, number: int) -> Association:
        """As the protocol says."""
        return spread(self, number, cues=1, candidates=1, answers=1)

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """The Jaccard index of what is right and the nearest images, as many (Bitton et al., 2022; DataComp).

        Two right of four and two wrong ones picked: 2 / 6. A wrong candidate wins a tie with a right one.
        """
        import numpy as np

        counts = np.asarray([len(uids) for uids in self.candidates])
        image_KDs = image_ND.split(counts.tolist())
        scores = [
            _jaccard((image_KD * cue_D).sum(1).tolist(), set(places))
            for image_KD, cue_D, places in zip(image_KDs, texts["cues"], self.answers, strict=True)
        ]
        values = {}
        for metric, numbers in COUNTED.items():
            chosen = np.asarray(scores)[np.isin(counts, numbers)]
            if len(chosen):
                values[metric] = chosen
        return Measured(values, {}, {})


def _jaccard(scores: Sequence[float], right: set[int]) -> float:
    """Of the best-scoring places, as many as are `right`."""
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place in right))[: len(right)]
    both = len(right.intersection(best))
    return both / (2 * len(right) - both)
