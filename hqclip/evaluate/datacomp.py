"""The 38 tasks of DataComp (Gadre et al., 2023): what each is called here, how it counts, and the averages of all.

A benchmark of a task's `name` counts as the task if its kind and its main metric are those of the task. From DataComp's
`tasklist.yml` and `aggregate_scores.py`; two more tasks of that list, FairFace and UTKFace, have no main metric. The
paper's first version took another metric for Flickr30k: its averages cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hqclip.evaluate.benchmarks import MAIN, main_metrics
from hqclip.records import BenchmarkScore

SHIFTS, VTAB, RETRIEVAL = "ImageNet dist. shifts", "VTAB", "Retrieval"
GROUPS = (SHIFTS, VTAB, RETRIEVAL)
RECALL = "mean_per_class_recall"


class Task(NamedTuple):
    """A task: its name here, its key and title there, its kind, what its `main` says and the group it is of, if any."""

    name: str
    key: str
    title: str
    kind: str = "classification"
    main: str = ""
    group: str = ""

    @property
    def folder(self) -> str:
        """Where its classification set lies in CLIP_benchmark's layout, once downloaded."""
        return f"wds_{self.key.replace('/', '-')}_test"


TASKS = (
    Task("caltech101", "vtab/caltech101", "Caltech-101", main=RECALL, group=VTAB),
    Task("cifar10", "cifar10", "CIFAR-10"),
    Task("cifar100", "vtab/cifar100", "CIFAR-100", group=VTAB),
    Task("clevr_count", "vtab/clevr_count_all", "CLEVR Counts", group=VTAB),
    Task("clevr_distance", "vtab/clevr_closest_object_distance", "CLEVR Distance", group=VTAB),
    Task("country211", "country211", "Country211"),
    Task("dtd", "vtab/dtd", "Describable Textures", group=VTAB),
    Task("eurosat", "vtab/eurosat", "EuroSAT", group=VTAB),
    Task("fgvc_aircraft", "fgvc_aircraft", "FGVC Aircraft", main=RECALL),
    Task("food101", "food101", "Food-101"),
    Task("gtsrb", "gtsrb", "GTSRB"),
    Task("imagenet", "imagenet1k", "ImageNet 1k"),
    Task("imagenet_sketch", "imagenet_sketch", "ImageNet Sketch", group=SHIFTS),
    Task("imagenetv2", "imagenetv2", "ImageNet v2", group=SHIFTS),
    Task("imagenet-a", "imagenet-a", "ImageNet-A", group=SHIFTS),
    Task("imagenet-o", "imagenet-o", "ImageNet-O", group=SHIFTS),
    Task("imagenet-r", "imagenet-r", "ImageNet-R", group=SHIFTS),
    Task("kitti_distance", "vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance", group=VTAB),
    Task("mnist", "mnist", "MNIST"),
    Task("objectnet", "objectnet", "ObjectNet", group=SHIFTS),
    Task("flowers", "vtab/flowers", "Oxford Flowers-102", main=RECALL, group=VTAB),
    Task("pets", "vtab/pets", "Oxford-IIIT Pet", main=RECALL, group=VTAB),
    Task("voc2007", "voc2007", "Pascal VOC 2007"),
    Task("pcam", "vtab/pcam", "PatchCamelyon", group=VTAB),
    Task("renderedsst2", "renderedsst2", "Rendered SST2"),
    Task("resisc45", "vtab/resisc45", "RESISC45", group=VTAB),
    Task("cars", "cars", "Stanford Cars"),
    Task("stl10", "stl10", "STL-10"),
    Task("sun397", "sun397", "SUN397", group=VTAB),
    Task("svhn", "vtab/svhn", "SVHN", group=VTAB),
    Task("flickr30k", "retrieval/flickr30k", "Flickr", "retrieval", group=RETRIEVAL),
    Task("coco", "retrieval/mscoco_2014_5k_test_image_text_retrieval", "MSCOCO", "retrieval", group=RETRIEVAL),
    Task("winogavil", "misc/winogavil", "WinoGAViL", "association", "jaccard_score_10-12", RETRIEVAL),
    Task("iwildcam", "wilds/iwildcam", "iWildCam", main="f1_macro"),
    Task("camelyon17", "wilds/camelyon17", "Camelyon17"),
    Task("fmow", "wilds/fmow", "FMoW", main="acc1_worst_group"),
    Task("dollar_street", "fairness/dollar_street", "Dollar Street", main="acc5_worst_group"),
    Task("geode", "fairness/geode", "GeoDE", main="acc1_worst_group"),
)


def averages(scores: Iterable[BenchmarkScore]) -> dict[str, list[BenchmarkScore]]:
    """What can be averaged, by title: the benchmarks of which the mean of the main metrics is the value.

    Where tasks are missing the title says that the mean is partial, and of how many. Without any there is none.
    """
    there = {score.name: score for score in scores if (task := task_of(score.name)) and counts(task, score)}
    found = {}
    for title, tasks in (("average", TASKS), *((group, _of(group)) for group in GROUPS)):
        members = [there[task.name] for task in tasks if task.name in there]
        if members:
            partial = "" if len(members) == len(tasks) else f", partial mean of {len(members)} of {len(tasks)}"
            found[f"DataComp {title}{partial}"] = members
    return found


def values(scores: Iterable[BenchmarkScore]) -> dict[str, float]:
    """The averages of one model, 0 to 1."""
    return {
        title: sum(score.metrics[MAIN] for score in members) / len(members)
        for title, members in averages(scores).items()
    }


def task_of(name: str) -> Task | None:
    """The task that a benchmark of this name is taken for."""
    return next((task for task in TASKS if task.name == name), None)


def _of(group: str) -> list[Task]:
    return [task for task in TASKS if task.group == group]


def counts(task: Task, score: BenchmarkScore) -> bool:
    """Whether a benchmark of the task's name was judged as the task is: another metric is another number."""
    mains = (main_metrics(task.name, task.kind, main) for main in (task.main or MAIN, score.main))
    return score.kind == task.kind and len({tuple(main) for main in mains}) == 1
