"""Images and class names in; how often the right class is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from hqclip.data.rules import Rule
from hqclip.evaluate.benchmarks.checks import columns, different, is_list, main_known, one_an_image, shown, text_list
from hqclip.evaluate.benchmarks.protocol import Measured, Read
from hqclip.evaluate.benchmarks.spread import spread

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5
ROWS = 4096  # of similarities at a time
REPEATED = 0.005  # share of the classes that may have the name of another: ImageNet's usual list has two missiles


@dataclass(frozen=True)
class Classification:
    """Which of `classes` an image shows; `templates` are prompts with `{}` for the class name.

    `groups` count alike in every top-1 and top-5 accuracy. `domains`, if given, say where each image is from ("" if
    that is not to count): the worst of them is a metric of its own, as in WILDS.
    """

    KIND: ClassVar[str] = "classification"
    TITLE: ClassVar[str] = "Zero-shot classification"
    MEANING: ClassVar[str] = (
        "Each class is a sentence; the answer is the class whose sentence lies closest to the image."
    )
    METRICS: ClassVar[Mapping[str, str]] = {
        "acc1": "top-1 accuracy",
        "acc5": "top-5 accuracy",
        "mean_per_class_recall": "mean per class recall",
        "f1_macro": "macro F1",
        "acc1_worst_group": "top-1 accuracy, worst group",
        "acc5_worst_group": "top-5 accuracy, worst group",
    }
    MAIN: ClassVar[Sequence[str]] = ("acc1",)
    ASKED: ClassVar[str] = "classes"
    ALIKE: ClassVar[float] = 0.01

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    uids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...]
    domains: tuple[str, ...] = ()
    main: str = ""

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
        yield from self._main_faults(wrong_classes)
        if not wrong:
            yield from different(self, "uids", "an image has one class and counts once; leave one of them out")

    def _main_faults(self, wrong_classes: Sequence[str]) -> Iterator[str]:
        """What is wrong with the choice of the main metric and the data that only some metrics want."""
        wrong = list(main_known(self))
        yield from wrong
        if self.domains != ():
            if not is_list(self.domains):
                yield f"domains is {shown(self.domains)}; give a list of texts"
            elif others := [place for place, domain in enumerate(self.domains) if not isinstance(domain, str)]:
                found = shown(self.domains[others[0]])
                yield f"domains[{others[0]}] is {found}; give a text, empty where an image is not to count"
            elif not any(map(str.strip, self.domains)):
                yield "domains are all empty; name where the images are from, or leave the field out"
            elif is_list(self.uids):
                yield from one_an_image(self, "domains")
        if not wrong and "worst_group" in self.main and self.domains == ():
            yield f"main is {shown(self.main)}; give `domains`, the group of every image"
        if not wrong and self.main.startswith("acc5") and not wrong_classes and len(self.classes) < TOP:
            yield f"main is {shown(self.main)} for {len(self.classes)} classes; choose another"

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

    def one_text(self, read: Read) -> list[str]:
        """A class that reads as one before it in all templates, which are read where the first does not tell."""
        first = read([self.templates[0].replace("{}", name) for name in self.classes])
        times = Counter(first)
        unclear = [place for place, reading in enumerate(first) if times[reading] > 1]
        said = iter(read([template.replace("{}", self.classes[n]) for n in unclear for template in self.templates]))
        found, seen = [""] * len(self.classes), set[tuple[Hashable, ...]]()
        for place in unclear:
            reading = tuple(islice(said, len(self.templates)))
            found[place] = self.classes[place] if reading in seen else ""
            seen.add(reading)
        return found

    def mean_prompts(self, prompt_PD: Tensor) -> Tensor:
        """(K, D) the mean over templates, not normalised, of every prompt; of means, these themselves."""
        return prompt_PD.reshape(len(self.classes), -1, prompt_PD.shape[-1]).mean(1)

    def first(self, number: int) -> Classification:
        """The classes stay."""
        return spread(self, number, uids=1, labels=1, groups=1, domains=1)

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """The class whose prompts, averaged over templates, are nearest (Radford et al., 2021).

        Of classes that are equally near the first counts, and so on to the fifth. The other metrics are those of
        CLIP_benchmark and, for groups and F1, of WILDS as DataComp uses it; acc5 takes five classes or more.
        """
        import numpy as np
        import torch

        from hqclip.evaluate.benchmarks.confusion import confusion

        class_KD = torch.nn.functional.normalize(self.mean_prompts(texts["prompts"]), dim=-1)
        label_N = torch.tensor(self.labels)
        answer_N, rank_N = _answers(image_ND, class_KD, label_N)
        first_N = (answer_N == label_N).double().numpy()
        labels = tuple(map(str, self.labels))
        values = {"acc1": first_N, "mean_per_class_recall": first_N, "f1_macro": answer_N.double().numpy()}
        groups = {"acc1": self.groups, "mean_per_class_recall": labels, "f1_macro": labels}
        rules = {"mean_per_class_recall": Rule.CLASSES, "f1_macro": Rule.F1}
        if len(self.classes) >= TOP:
            values["acc5"], groups["acc5"] = (rank_N < TOP).double().numpy(), self.groups
        if self.domains:
            counted = np.asarray([bool(domain.strip()) for domain in self.domains])
            for metric in [metric for metric in ("acc1", "acc5") if metric in values]:
                values[f"{metric}_worst_group"] = values[metric][counted]
                groups[f"{metric}_worst_group"] = tuple(domain for domain in self.domains if domain.strip())
                rules[f"{metric}_worst_group"] = Rule.WORST
        mistaken = confusion(self.classes, self.labels, answer_N.tolist())
        return Measured(values, groups, {}, mistaken, rules)


def _answers(image_ND: Tensor, class_KD: Tensor, label_N: Tensor) -> tuple[Tensor, Tensor]:
    """(N) the nearest class, and how many classes are nearer than the right one, or as near and named before it."""
    import torch

    answers, ranks = [], []
    number_K = torch.arange(len(class_KD))
    for start in range(0, len(image_ND), ROWS):
        scores_RK = image_ND[start : start + ROWS] @ class_KD.T
        label_R1 = label_N[start : start + ROWS, None]
        right_R1 = scores_RK.gather(1, label_R1)
        before_RK = (scores_RK > right_R1) | ((scores_RK == right_R1) & (number_K < label_R1))
        answers.append(scores_RK.argmax(1))
        ranks.append(before_RK.sum(1))
    return torch.cat(answers), torch.cat(ranks)
