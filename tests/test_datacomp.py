"""DataComp's 38 tasks: the table is its own, and an average says of how many tasks it is."""

from __future__ import annotations

import pytest

from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.datacomp import GROUPS, TASKS, Task, averages, values
from hqclip.records import BenchmarkScore


def judged(task: Task, value: float = 0.5, main: str = "", kind: str = "") -> BenchmarkScore:
    main = main or task.main or "main"
    return BenchmarkScore(task.name, kind or task.kind, {"main": value, main: value}, main, 100, (0.0, 1.0))


def test_there_are_38_with_names_and_keys_of_their_own():
    assert len(TASKS) == len({task.name for task in TASKS}) == len({task.key for task in TASKS}) == 38
    assert {task.group for task in TASKS if task.group} == set(GROUPS)
    assert [sum(task.group == group for task in TASKS) for group in GROUPS] == [6, 13, 3]


def test_every_main_metric_is_one_of_its_kind():
    for task in TASKS:
        assert not task.main or task.main in KINDS[task.kind].METRICS


def test_the_main_metrics_are_those_of_the_task_list():
    apart = {task.name: task.main for task in TASKS if task.main}
    assert apart == {
        **dict.fromkeys(("caltech101", "fgvc_aircraft", "flowers", "pets"), "mean_per_class_recall"),
        "winogavil": "jaccard_score_10-12",
        "iwildcam": "f1_macro",
        "fmow": "acc1_worst_group",
        "dollar_street": "acc5_worst_group",
        "geode": "acc1_worst_group",
    }
    assert [task.name for task in TASKS if task.kind == "retrieval"] == ["flickr30k", "coco"]


def test_the_folder_of_a_task_is_that_of_the_published_sets():
    (flowers,) = (task for task in TASKS if task.name == "flowers")
    assert flowers.folder == "wds_vtab-flowers_test"


def test_the_average_of_all_is_called_so():
    found = values([judged(task, 0.25 if task.group else 0.75) for task in TASKS])
    assert list(found) == ["DataComp average", *(f"DataComp {group}" for group in GROUPS)]
    assert found["DataComp average"] == pytest.approx((22 * 0.25 + 16 * 0.75) / 38)
    assert found["DataComp VTAB"] == 0.25


def test_a_mean_of_some_says_of_how_many():
    some = [judged(task) for task in TASKS if task.name in ("imagenet", "coco", "flickr30k")]
    assert {title: len(members) for title, members in averages(some).items()} == {
        "DataComp average, partial mean of 3 of 38": 3,
        "DataComp Retrieval, partial mean of 2 of 3": 2,
    }


def test_without_any_there_is_no_average():
    assert averages([BenchmarkScore("shapes", "choice", {"main": 1.0}, "main", 9, (1.0, 1.0))]) == {}


def test_a_task_that_was_judged_otherwise_is_not_counted():
    """Pets by top-1 accuracy, or a retrieval set that is called pets, are other numbers."""
    pets, mnist = (next(task for task in TASKS if task.name == name) for name in ("pets", "mnist"))
    assert averages([judged(pets, main="main")]) == averages([judged(pets, main="acc1")]) == {}
    assert averages([judged(pets, kind="retrieval", main="image_to_text_r1")]) == {}
    assert len(averages([judged(pets)])) == 2
    assert len(averages([judged(mnist, main="acc1")])) == 1, "what the kind has anyway may be said"
