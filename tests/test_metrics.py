"""The numbers of benchmarks: values for the head, and what must not change them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hqclip.data.outcomes import average, interval
from hqclip.evaluate.benchmarks import KINDS, main_metrics, main_of
from hqclip.evaluate.benchmarks.association import Association
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.judging import Judged, measure

WIDTH = 6


def corner(*numbers: float) -> torch.Tensor:
    """A vector of unit length."""
    return F.normalize(torch.tensor([*numbers, *[0.0] * (WIDTH - len(numbers))]), dim=0)


def scores(benchmark: Any, known: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Its metrics, for a model to which images and texts are these vectors."""
    assert list(benchmark.faults()) == []
    return judged(benchmark, known).metrics


def judged(benchmark: Any, known: Mapping[str, torch.Tensor]) -> Judged:
    images = {uid: known[uid] for uid in benchmark.uids}
    texts = {name: torch.stack([known[text] for text in column]) for name, column in benchmark.texts().items()}
    return measure(benchmark, images, texts)


X, Y, Z = (corner(*[0.0] * place, 1.0) for place in range(3))


def quiz(labels: Sequence[int], answers: Sequence[int], **more: Any) -> dict[str, float]:
    """Three classes (or more), images that lie on the class that is answered."""
    count = max(3, *labels, *answers) + 1
    known = {f"a {number}": torch.eye(10)[number] for number in range(count)}
    known |= {f"i{place}": torch.eye(10)[answer] for place, answer in enumerate(answers)}
    uids = tuple(f"i{place}" for place in range(len(labels)))
    classes = tuple(map(str, range(count)))
    benchmark = Classification("quiz", classes, ("a {}",), uids, tuple(labels), ("all",) * len(labels), **more)
    return scores(benchmark, known)


def test_every_class_counts_alike_in_its_mean_recall():
    """Class 0: three of four; class 1: none of one."""
    found = quiz([0, 0, 0, 0, 1], [0, 0, 0, 1, 0])
    assert found["acc1"] == 0.6
    assert found["mean_per_class_recall"] == 0.75 / 2


def test_macro_f1_is_over_the_classes_that_are_right_somewhere():
    """Two of each, one of class 0 taken for 1: 2 / 3 and 4 / 5; an answer that is right nowhere is no class."""
    assert quiz([0, 0, 1, 1], [0, 1, 1, 1])["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert quiz([0, 0, 1, 1], [0, 3, 1, 1])["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_fifth_class_counts_and_the_sixth_does_not():
    known = {f"a {n}": corner(*[0.0] * n, 1.0) for n in range(6)} | {"i": corner(6.0, 5.0, 4.0, 3.0, 2.0, 1.0)}
    classes = tuple(map(str, range(6)))
    found = [scores(Classification("q", classes, ("a {}",), ("i",), (n,), ("all",)), known)["acc5"] for n in range(6)]
    assert found == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_with_four_classes_there_is_no_fifth():
    assert "acc5" not in quiz([0, 1], [0, 1])


def test_the_worst_group_counts_and_images_without_one_do_not():
    domains = ("Asia", "Asia", "Europe", "Europe", "")
    found = quiz([0, 0, 1, 1, 2], [0, 0, 1, 0, 0], domains=domains, main="acc1_worst_group")
    assert (found["acc1"], found["acc1_worst_group"]) == (0.6, 0.5)
    assert (found["acc1_worst_group Asia"], found["acc1_worst_group Europe"]) == (1.0, 0.5)
    assert "acc1_worst_group " not in found


def test_an_image_is_found_by_any_of_its_captions_and_every_caption_looks_for_its_image():
    """Image i has one good caption and one that lies on j; j has its own."""
    benchmark = Retrieval("pairs", ("i", "j"), (("x", "stray"), "y"))
    found = scores(benchmark, {"i": X, "j": Y, "x": X, "stray": Y, "y": Y})
    assert found["image_to_text_r1"] == 0.5, "the stray caption ties with j's own"
    assert found["text_to_image_r1"] == pytest.approx(2 / 3)
    assert found["image_to_text_r5"] == found["text_to_image_r5"] == pytest.approx(1.0)


def test_one_caption_an_image_is_the_same_bare_and_as_a_list():
    rng = torch.Generator().manual_seed(0)
    known = {name: F.normalize(torch.randn(WIDTH, generator=rng), dim=0) for name in (*"abcdefgh", *"ABCDEFGH")}
    bare = Retrieval("pairs", tuple("abcdefgh"), tuple("ABCDEFGH"))
    assert scores(bare, known) == scores(replace(bare, captions=tuple([c] for c in "ABCDEFGH")), known)


def test_a_true_caption_must_beat_every_false_one():
    benchmark = Choice("order", ("i", "j"), ("x", "x2"), (("y", "z"), ("y", "xx")), ("a", "b"))
    known = {"i": X, "j": X, "x": X, "x2": corner(2.0, 1.0), "xx": X, "y": Y, "z": Z}
    found = scores(benchmark, known)
    assert (found["accuracy"], found["accuracy a"], found["accuracy b"]) == (0.5, 1.0, 0.0)
    assert found["ties"] == 0.0
    assert scores(benchmark, {**known, "z": X})["accuracy a"] == 0.0
    assert scores(benchmark, {**known, "z": X})["ties"] == 0.5


def test_captions_that_win_whatever_is_shown_are_found_out():
    """Four images that differ; the true captions lie where all images lie, the false ones aside."""
    benchmark = Choice("easy", tuple("ijkl"), ("t",) * 4, ("f",) * 4, ("a",) * 4)
    images = {uid: corner(2.0, *[0.0] * place, 1.0) for place, uid in enumerate("ijkl")}
    assert scores(benchmark, {**images, "t": X, "f": corner(0, 0, 0, 0, 0, 1.0)})["text_only"] == 1.0
    fair = Choice("fair", ("i", "j"), ("x", "y"), ("y", "x"), ("a", "a"))
    found = scores(fair, {"i": X, "j": Y, "x": X, "y": Y})
    assert (found["accuracy"], found["text_only"]) == (1.0, 0.0), "the mean of both knows neither"


def test_two_images_and_two_captions():
    pair = Matching("pair", ("i", "j"), ("x", "y"), ("a",))
    own = {"i": X, "j": Y, "x": X, "y": Y}
    assert scores(pair, own) == {f"{name}_score{of}": 1.0 for name in ("text", "image", "group") for of in ("", " a")}
    blind = scores(pair, {**own, "j": X})
    assert (blind["text_score"], blind["image_score"], blind["group_score"]) == (0.0, 0.0, 0.0)


def test_text_and_image_scores_are_not_the_same():
    """Both images prefer their caption, yet caption y lies nearer to i: i is nearer to everything."""
    pair = Matching("pair", ("i", "j"), ("x", "y"), ("a",))
    known = {"i": corner(1.0, 0.3), "j": corner(0.0, 1.0, 3.0), "x": X, "y": corner(1.0, 1.0)}
    table = torch.stack([known["i"], known["j"]]) @ torch.stack([known["x"], known["y"]]).T
    assert table[0, 0] > table[0, 1] and table[1, 1] > table[1, 0] and table[0, 1] > table[1, 1]
    found = scores(pair, known)
    assert (found["text_score"], found["image_score"], found["group_score"]) == (1.0, 0.0, 0.0)


def test_what_is_picked_rightly_of_all_that_was_picked_or_should_have_been():
    """Three belong and three are picked, two of them rightly: 2 / 4."""
    cue = Association("words", ("A cue",), (tuple("abcde"),), ((0, 1, 2),))
    near = {"A cue": X, "a": X, "b": corner(3.0, 1.0), "c": Y, "d": corner(1.0, 1.0), "e": Z}
    assert scores(cue, near) == {"avg_jaccard_score": 0.5, "jaccard_score_5-6": 0.5}
    assert scores(cue, dict.fromkeys(near, X))["avg_jaccard_score"] == pytest.approx(1 / 5), "ties go to the wrong ones"


def test_associations_of_ten_candidates_and_more_are_told_apart():
    known = {"A cue": X, **{f"i{n}": X if n == 0 else Y for n in range(12)}}
    small, large = tuple(f"i{n}" for n in range(5)), tuple(f"i{n}" for n in range(12))
    cues = Association("words", ("A cue", "A cue"), (small, large), ((0,), (1,)), main="jaccard_score_10-12")
    assert scores(cues, known) == {"avg_jaccard_score": 0.5, "jaccard_score_5-6": 1.0, "jaccard_score_10-12": 0.0}


# What must not change a number


def drawn(seed: int = 0) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """A benchmark of every kind, with a model that is right now and then."""
    rng = np.random.default_rng(seed)
    uids = [f"u{n}" for n in range(40)]
    known = {uid: F.normalize(torch.tensor(rng.normal(size=WIDTH), dtype=torch.float32), dim=0) for uid in uids}

    def near(*names: str, noise: float = 0.4) -> tuple[str, ...]:
        """Texts that lie about where these images lie."""
        found = []
        for name in names:
            found.append(f"t{len(known)}")
            known[found[-1]] = F.normalize(
                known[name] + torch.tensor(rng.normal(size=WIDTH) * noise, dtype=torch.float32), dim=0
            )
        return tuple(found)

    classes = near(*uids[:8])
    known.update({f"a {name}": known[name] for name in classes})
    nearest = [int(torch.stack([known[name] for name in classes]).mv(known[uid]).argmax()) for uid in uids]
    labels = tuple(right if n % 3 else int(rng.integers(0, 8)) for n, right in enumerate(nearest))
    groups = tuple("ab"[n % 2] for n in range(40))
    others = [uids[-1], *uids[:-1]]
    return [
        Classification(
            "classes", classes, ("a {}",), tuple(uids), labels, groups, tuple("xyz"[n % 3] for n in range(40))
        ),
        Retrieval("captions", tuple(uids), tuple(near(*[uid] * (1 + n % 3)) for n, uid in enumerate(uids))),
        Choice(
            "choices",
            tuple(uids),
            near(*uids, noise=1.0),
            tuple(near(*[uid] * (1 + n % 2)) for n, uid in enumerate(others)),
            groups,
        ),
        Matching("pairs", tuple(uids), near(*uids, noise=1.0), groups[:20]),
        Association("cues", near(*uids[:10]), (tuple(uids[:6]), tuple(uids[:12])) * 5, ((0, 3), (1, 2, 5)) * 5),
    ], known


def shuffled(benchmark: Any, rng: np.random.Generator) -> Any:
    """The same benchmark with items, classes, captions and candidates in another order."""
    order = rng.permutation(len(benchmark.groups if isinstance(benchmark, Matching) else _items(benchmark)))

    def picked(items: Sequence[Any], order: Sequence[int] = tuple(order)) -> tuple[Any, ...]:
        return tuple(items[place] for place in order)

    if isinstance(benchmark, Classification):
        classes = rng.permutation(len(benchmark.classes)).tolist()
        changed: dict[str, Any] = {name: picked(getattr(benchmark, name)) for name in ("uids", "groups", "domains")}
        changed["classes"] = picked(benchmark.classes, classes)
        changed["labels"] = tuple(classes.index(label) for label in picked(benchmark.labels))
    elif isinstance(benchmark, Association):
        changed = {"cues": picked(benchmark.cues), "candidates": [], "answers": []}
        for place in order:
            inner = rng.permutation(len(benchmark.candidates[place])).tolist()
            changed["candidates"].append(picked(benchmark.candidates[place], inner))
            changed["answers"].append(tuple(inner.index(answer) for answer in benchmark.answers[place]))
    elif isinstance(benchmark, Matching):
        twos = [place for item in order for place in rng.permutation([2 * item, 2 * item + 1]).tolist()]
        changed = {name: picked(getattr(benchmark, name), twos) for name in ("uids", "captions")}
        changed["groups"] = picked(benchmark.groups)
    else:
        lists = {"captions"} if isinstance(benchmark, Retrieval) else {"negatives"}
        names = (
            ("uids", "captions") if isinstance(benchmark, Retrieval) else ("uids", "positives", "negatives", "groups")
        )
        changed = {name: picked(getattr(benchmark, name)) for name in names}
        for name in lists:
            changed[name] = tuple(tuple(rng.permutation(item).tolist()) for item in changed[name])
    return replace(benchmark, **changed)


def _items(benchmark: Any) -> Sequence[Any]:
    return cast(Sequence[Any], benchmark.cues if isinstance(benchmark, Association) else benchmark.uids)


def test_every_kind_is_drawn():
    assert {benchmark.KIND for benchmark in drawn()[0]} == set(KINDS)


@pytest.mark.parametrize("place", range(len(KINDS)), ids=[benchmark.KIND for benchmark in drawn()[0]])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_images_classes_captions_and_candidates_changes_nothing(place: int, seed: int):
    benchmarks, known = drawn(seed)
    before = scores(benchmarks[place], known)
    assert 0 < before[main_metrics("", benchmarks[place].KIND)[0].strip("/")] < 1
    after = scores(shuffled(benchmarks[place], np.random.default_rng(seed)), known)
    assert after == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("place", range(len(KINDS)), ids=[benchmark.KIND for benchmark in drawn()[0]])
def test_how_many_similarities_are_made_at_a_time_changes_nothing(place: int, monkeypatch: pytest.MonkeyPatch):
    benchmarks, known = drawn()
    before = scores(benchmarks[place], known)
    for rows in (1, 7, 40):
        for module in ("classification", "retrieval"):
            monkeypatch.setattr(f"hqclip.evaluate.benchmarks.{module}.ROWS", rows)
        assert scores(benchmarks[place], known) == before


@pytest.mark.parametrize("metric", sorted(Classification.METRICS))
def test_every_metric_of_a_classification_can_be_its_main_one(metric: str):
    """Its interval has the score within, and a model does not differ from itself."""
    benchmarks, known = drawn()
    benchmark = replace(benchmarks[0], main=metric)
    outcomes = judged(benchmark, known).outcomes
    main = [main_metrics(benchmark.name, benchmark.KIND, main_of(benchmark))]
    assert main == [[f"classes/{metric}"]]
    low, high = interval(outcomes, main, 500)
    assert low < average(outcomes, main) <= high
    assert interval(outcomes, main, 500, outcomes) == (0.0, 0.0)


MEMORY = """
import resource, torch
from hqclip.evaluate.benchmarks.retrieval import Retrieval
images, captions = 5_000, 25_000
quiz = Retrieval("coco", tuple(map(str, range(images))), tuple([f"{i} {n}" for n in range(5)] for i in range(images)))
features = torch.nn.functional.normalize(torch.randn(images + captions, 64), dim=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
values = quiz.measure(features[:images], {"captions": features[images:]}).values
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(values["text_to_image_r1"]))
"""


@pytest.mark.slow
def test_five_thousand_images_with_five_captions_each_need_less_than_a_gibibyte_above_their_features():
    said = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    kibibytes, items = map(int, said.split())
    assert items == 5_000
    assert kibibytes < 1 << 20
