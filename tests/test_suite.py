"""A suite on disk, and what a model that knows everything or nothing scores on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hqclip.demo.world import write_shapes_suite
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.judging import measure
from hqclip.evaluate.suite import read_suite
from hqclip.store import open_store

UIDS = ("a", "b", "c", "d")
IMAGES = dict(zip(UIDS, torch.eye(4), strict=True))


class Dictionary:
    """A text tower that looks its answers up; unknown texts are the mean of everything."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = known

    def texts(self, texts: Any) -> torch.Tensor:
        return torch.stack([torch.eye(4)[self.known[t]] if t in self.known else torch.full((4,), 0.5) for t in texts])


def score(benchmark: Any, known: dict[str, int]) -> dict[str, float]:
    clip = Dictionary(known)
    return measure(benchmark, IMAGES, {column: clip.texts(texts) for column, texts in benchmark.texts().items()})[1]


def test_classification_is_right_when_the_nearest_prompt_is_that_of_the_class():
    quiz = Classification("quiz", ("w", "x", "y", "z"), ("a {}",), UIDS, (0, 1, 2, 3), ("old", "old", "new", "new"))
    assert score(quiz, {"a w": 0, "a x": 1, "a y": 2, "a z": 3})["acc1"] == 1.0
    half = {"acc1": 0.5, "acc1 old": 1.0, "acc1 new": 0.0, "mean_per_class_recall": 0.5, "f1_macro": 0.5}
    assert score(quiz, {"a w": 0, "a x": 1, "a y": 3, "a z": 2}) == half


def test_retrieval_counts_a_tie_against_the_model():
    quiz = Retrieval("quiz", UIDS, ("w", "x", "y", "z"))
    assert score(quiz, {"w": 0, "x": 1, "y": 2, "z": 3})["image_to_text_r1"] == 1.0
    knows_nothing = score(quiz, {})
    assert knows_nothing["image_to_text_r1"] == knows_nothing["text_to_image_r1"] == 0.0
    assert knows_nothing["image_to_text_r5"] == 1.0  # only four to choose from


def test_a_choice_needs_the_true_caption_to_score_strictly_higher():
    quiz = Choice("quiz", UIDS, ("w", "x", "y", "z"), ("W", "X", "Y", "Z"), ("one", "one", "two", "two"))
    assert score(quiz, {"w": 0, "x": 1, "y": 2, "z": 3})["accuracy"] == 1.0
    nothing = {"accuracy": 0.0, "accuracy one": 0.0, "accuracy two": 0.0, "text_only": 0.0, "ties": 1.0}
    assert score(quiz, {}) == nothing


def test_the_shapes_suite_is_read_back_and_drawn_the_same_twice(tmp_path: Path):
    stores = [open_store(str(tmp_path / name)) for name in ("one", "two")]
    suites = [read_suite(f"{store.uri}/{write_shapes_suite(store, 12)}") for store in stores]
    assert suites[0].digest == suites[1].digest
    assert [benchmark.name for benchmark in suites[0].benchmarks] == ["classification", "retrieval", "composition"]
    assert len(set(suites[0].benchmarks[1].captions)) == 12  # type: ignore[union-attr]
    groups = suites[0].benchmarks[0].groups  # type: ignore[union-attr]
    assert set(groups) == {"known pairs", "new pairs"}


def test_a_suite_whose_benchmark_was_altered_is_refused(tmp_path: Path):
    store = open_store(str(tmp_path))
    write_shapes_suite(store, 8)
    altered = (tmp_path / "retrieval.json").read_text().replace("left of", "right of")
    (tmp_path / "retrieval.json").write_text(altered)
    with pytest.raises(DataError, match="fetch the suite again"):
        read_suite(f"{tmp_path}/suite.json")


@pytest.mark.parametrize("left", ["images.tar", "retrieval.json"])
def test_a_suite_that_was_cut_short_before_its_manifest_is_written_again(tmp_path: Path, left: str):
    store = open_store(str(tmp_path))
    store.write(left, b"of another version")
    assert write_shapes_suite(store, 8) == "suite.json"
    assert len(read_suite(f"{tmp_path}/suite.json").benchmarks) == 3
