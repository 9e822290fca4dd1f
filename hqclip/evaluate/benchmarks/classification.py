"""Images and class names in; how often the right class is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.confusion import confusion
from hqclip.evaluate.benchmarks.protocol import Measured, check_columns

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classification:
    """Which of `classes` an image shows; `templates` are prompts with `{}` for the class name."""

    KIND: ClassVar[str] = "classification"
    TITLE: ClassVar[str] = "Zero-shot classification"
    MEANING: ClassVar[str] = (
        "Each class is a sentence; the answer is the class whose sentence lies closest to the image."
    )
    METRICS: ClassVar[Mapping[str, str]] = {"acc1": "top-1 accuracy"}
    MAIN: ClassVar[Sequence[str]] = ("acc1",)

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    uids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        check_columns(self, "labels", "groups")

    def texts(self) -> dict[str, list[str]]:
        """Every class in every template."""
        return {"prompts": [template.format(name) for name in self.classes for template in self.templates]}

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """The class whose prompts, averaged over templates, are nearest (Radford et al., 2021)."""
        import torch

        prompt_KTD = texts["prompts"].reshape(len(self.classes), len(self.templates), -1)
        class_KD = torch.nn.functional.normalize(prompt_KTD.mean(1), dim=-1)
        answer_N = (image_ND @ class_KD.T).argmax(1)
        right_N = answer_N == torch.tensor(self.labels)
        mistaken = confusion(self.classes, self.labels, answer_N.tolist())
        return Measured({"acc1": right_N.double().numpy()}, {"acc1": self.groups}, {}, mistaken)
