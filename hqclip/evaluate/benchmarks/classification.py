"""Images and class names in; how often the right class is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hqclip.evaluate.benchmarks.checks import columns, different, is_list, shown, text_list
from hqclip.evaluate.benchmarks.protocol import Measured

if TYPE_CHECKING:
    from torch import Tensor

REPEATED = 0.005  # share of the classes that may have the name of another: ImageNet's usual list has two missiles


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

    def faults(self) -> Iterator[str]:
        """Classes that differ, templates with a place for the name, and for every image the number of its class."""
        wrong_classes = list(text_list(self, "classes", fewest=2))
        yield from wrong_classes
        if not wrong_classes and len(set(self.classes)) < (1 - REPEATED) * len(self.classes):
            yield from different(self, "classes", "no model can tell them apart; name each class once")
        yield from self._template_faults()
        wrong = list(columns(self, "groups"))
        yield from wrong
        if not wrong_classes:
            yield from self._label_faults()
        if not wrong:
            yield from different(self, "uids", "an image has one class and counts once; leave one of them out")

    def _template_faults(self) -> Iterator[str]:
        wrong = list(text_list(self, "templates"))
        yield from wrong
        for place, template in enumerate(self.templates if not wrong else ()):
            rest = template.replace("{}", "")
            if rest == template or set("{}") & set(rest) or "%s" in rest:
                yield (
                    f"templates[{place}] is {shown(template)}; write {{}} where the name of the class belongs, and no "
                    "other braces or %s"
                )
                return

    def _label_faults(self) -> Iterator[str]:
        if not is_list(self.labels):
            yield f"labels is {shown(self.labels)}; give a list of whole numbers"
            return
        for place, label in enumerate(self.labels):
            if type(label) is not int or not 0 <= label < len(self.classes):
                yield (
                    f"labels[{place}] is {shown(label)}; give the number of a class, a whole number from 0 to "
                    f"{len(self.classes) - 1}"
                )
                return
        if is_list(self.uids) and len(self.labels) != len(self.uids):
            yield f"{len(self.labels)} labels for {len(self.uids)} images (uids); give one an image"

    def texts(self) -> dict[str, list[str]]:
        """Every class in every template."""
        return {"prompts": [template.replace("{}", name) for name in self.classes for template in self.templates]}

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """The class whose prompts, averaged over templates, are nearest (Radford et al., 2021)."""
        import torch

        from hqclip.evaluate.benchmarks.confusion import confusion

        prompt_KTD = texts["prompts"].reshape(len(self.classes), len(self.templates), -1)
        class_KD = torch.nn.functional.normalize(prompt_KTD.mean(1), dim=-1)
        answer_N = (image_ND @ class_KD.T).argmax(1)
        right_N = answer_N == torch.tensor(self.labels)
        mistaken = confusion(self.classes, self.labels, answer_N.tolist())
        return Measured({"acc1": right_N.double().numpy()}, {"acc1": self.groups}, {}, mistaken)
