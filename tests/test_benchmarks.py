"""Kinds of benchmarks: what each must say of itself, and how far a new one gets with a class and a line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch

from hqclip.config import EvaluateConfig
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.side_by_side import scores_alone, side_by_side
from hqclip.data.outcomes import read_outcomes, write_outcomes
from hqclip.data.shards import write_shard
from hqclip.errors import DataError
from hqclip.evaluate import stage
from hqclip.evaluate.benchmarks import KINDS, main_metrics
from hqclip.evaluate.benchmarks.association import Association
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.protocol import Benchmark, Measured, Read
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.suite import read_suite, write_suite
from hqclip.records import Evaluation, Sample
from hqclip.report.comparison import table
from hqclip.report.text import text_table
from hqclip.store import open_store
from hqclip.train.model import HQClip


@dataclass(frozen=True)
class Album:
    """A toy: several captions an image, of which `owners` say whose they are; two metrics that count other items."""

    KIND: ClassVar[str] = "album"
    TITLE: ClassVar[str] = "Albums"
    MEANING: ClassVar[str] = "Some caption of the image, or the image of every caption."
    METRICS: ClassVar[Mapping[str, str]] = {"any_caption": "any caption, R@1", "caption": "every caption"}
    MAIN: ClassVar[Sequence[str]] = ("any_caption",)
    ASKED: ClassVar[str] = "captions"
    ALIKE: ClassVar[float] = 0.0

    name: str
    uids: tuple[str, ...]
    captions: tuple[str, ...]
    owners: tuple[int, ...]
    tones: tuple[str, ...]

    def faults(self) -> Iterator[str]:
        wrong = [place for place, owner in enumerate(self.owners) if not 0 <= owner < len(self.uids)]
        if wrong:
            yield f"owners[{wrong[0]}] is {self.owners[wrong[0]]}; give the place of an image"

    def texts(self) -> dict[str, tuple[str, ...]]:
        return {"captions": self.captions}

    def one_text(self, read: Read) -> list[str]:
        said = read(self.captions)
        return [text if said[place] in said[:place] else "" for place, text in enumerate(self.captions)]

    def first(self, number: int) -> Album:
        size = sum(owner < number for owner in self.owners)  # of an image the captions stand together, in order
        columns = {name: getattr(self, name)[:size] for name in ("captions", "owners", "tones")}
        return replace(self, uids=self.uids[:number], **columns)

    def measure(self, image_ND: torch.Tensor, texts: Mapping[str, torch.Tensor]) -> Measured:
        scores_NM = image_ND @ texts["captions"].T
        owner_M = torch.tensor(self.owners)
        any_N = owner_M[scores_NM.argmax(1)] == torch.arange(len(self.uids))
        right_M = scores_NM.argmax(0) == owner_M
        values = {"any_caption": any_N.double().numpy(), "caption": right_M.double().numpy()}
        return Measured(values, {"caption": self.tones}, {"spread": float(scores_NM.max() - scores_NM.min())})


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_samples: Callable[..., list[Sample]]) -> Path:
    """Two untrained models, each judged on a suite of an album of four images and six captions."""
    monkeypatch.setitem(KINDS, Album.KIND, Album)
    samples = draw_samples(4)
    write_shard(samples, tmp_path / "images.tar")
    tones = ("plain", "plain", "plain", "long", "long", "long")
    album = Album("album", tuple(sample.uid for sample in samples), tuple("abcdef"), (0, 0, 1, 2, 3, 3), tones)
    write_suite(open_store(str(tmp_path)), "toys", "images.tar", [album])
    for seed in range(2):
        torch.manual_seed(seed)
        HQClip("shapes", [0.5]).export(tmp_path / f"runs/{seed}/model")
    return tmp_path


def judge(folder: Path, seed: int) -> dict[str, Any]:
    suite = f"{folder}/suite.json"
    return stage.run(EvaluateConfig(store=str(folder), model=f"runs/{seed}/model", suite=suite, resamples=100))


def test_a_new_kind_is_read_measured_and_compared(judged: Path):
    assert [type(benchmark) for benchmark in read_suite(f"{judged}/suite.json").benchmarks] == [Album]
    store = open_store(str(judged))
    results = [judge(judged, seed) for seed in range(2)]
    evaluations = [Evaluation.from_json(store.read(result["evaluation"]), "") for result in results]
    (score,) = evaluations[0].benchmarks
    assert (score.kind, score.items) == ("album", 4)
    assert set(score.metrics) == {"any_caption", "caption", "caption plain", "caption long", "spread", "main"}
    assert score.metrics["main"] == score.metrics["any_caption"]
    outcomes = read_outcomes(store, evaluations[0].outcomes)
    assert {name: len(values) for name, values in outcomes.values.items()} == {
        "album/any_caption": 4,
        "album/caption": 6,
    }
    paired = PairedComparison.read(store, dict(zip(("one", "two"), evaluations, strict=True)))
    assert paired.gain()[0] == pytest.approx(evaluations[1].average - evaluations[0].average)
    comparison = side_by_side(paired)
    assert [row.benchmark for group in comparison.groups for row in group.rows] == [
        *("any caption, R@1", "every caption", "long", "plain"),
    ]
    assert "| album: every caption " in text_table(comparison)
    assert "<b>Albums</b><span>Some caption of the image" in str(table(comparison))


@pytest.fixture
def field(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> Path:
    """Two untrained models, each judged on a suite with what the field's benchmarks want."""
    samples = draw_samples(12)
    write_shard(samples, tmp_path / "images.tar")
    uids = tuple(sample.uid for sample in samples)
    classes = ("ring", "cross", "disc", "square", "star")
    labels, domains = tuple(n % 5 for n in range(12)), tuple(("Asia", "Europe", "")[n % 3] for n in range(12))
    quiz = Classification("pets", classes, ("a {}",), uids, labels, ("all",) * 12, main="mean_per_class_recall")
    suite: list[Benchmark] = [
        quiz,
        replace(quiz, name="geode", domains=domains, main="acc1_worst_group"),
        replace(quiz, name="iwildcam", main="f1_macro"),
        Retrieval("coco", uids, tuple([f"{place} {n}" for n in range(1 + place % 2)] for place in range(12))),
        Matching("pairs", uids, tuple(map(str, range(12))), ("one", "two") * 3, main="image_score"),
        Association("winogavil", ("A b",), (uids[:10],), ((1, 4),), main="jaccard_score_10-12"),
        Choice("order", uids[:2], ("a", "b"), (("x", "y"), "z"), ("one", "one")),
    ]
    write_suite(open_store(str(tmp_path)), "field", "images.tar", suite)
    assert read_suite(f"{tmp_path}/suite.json").benchmarks[1] == suite[1]
    for seed in range(2):
        torch.manual_seed(seed)
        HQClip("shapes", [0.5]).export(tmp_path / f"runs/{seed}/model")
    return tmp_path


MAINS = {
    "pets": ("mean_per_class_recall", 12),
    "geode": ("acc1_worst_group", 8),
    "iwildcam": ("f1_macro", 12),
    "coco": ("main", 12),
    "pairs": ("image_score", 6),
    "winogavil": ("jaccard_score_10-12", 1),
    "order": ("main", 2),
}


def test_a_benchmark_counts_by_the_metric_that_it_chose(field: Path):
    store = open_store(str(field))
    evaluations = [Evaluation.from_json(store.read(judge(field, seed)["evaluation"]), "") for seed in range(2)]
    for evaluation in evaluations:
        assert {score.name: (score.main, score.items) for score in evaluation.benchmarks} == MAINS
        for score in evaluation.benchmarks:
            assert score.metrics["main"] == score.metrics.get(score.main)
            assert score.interval[0] <= score.metrics["main"] + 1e-9
        assert evaluation.average == pytest.approx(sum(b.metrics["main"] for b in evaluation.benchmarks) / 7)
    paired = PairedComparison.read(store, dict(zip(("one", "two"), evaluations, strict=True)))
    gain, low, high = paired.gain()
    assert gain == pytest.approx(evaluations[1].average - evaluations[0].average)
    assert low - 1e-9 <= gain <= high + 1e-9


def test_classes_are_counted_and_not_listed(field: Path):
    (score, *_) = Evaluation.from_json(open_store(str(field)).read(judge(field, 0)["evaluation"]), "").benchmarks
    assert set(score.metrics) == {"acc1", "acc1 all", "acc5", "acc5 all", "mean_per_class_recall", "f1_macro", "main"}


def test_the_averages_of_datacomp_are_told_as_far_as_they_go(field: Path):
    results = [judge(field, seed) for seed in range(2)]
    name = "DataComp average, partial mean of 5 of 38"
    store = open_store(str(field))
    judged = {str(seed): Evaluation.from_json(store.read(r["evaluation"]), "") for seed, r in enumerate(results)}
    counted = [b.metrics["main"] for b in judged["0"].benchmarks if b.name not in ("pairs", "order")]
    assert results[0]["metrics"][name] == pytest.approx(sum(counted) / 5)
    assert "DataComp VTAB, partial mean of 1 of 13" in results[0]["metrics"]
    for comparison in (side_by_side(PairedComparison.read(store, judged)), scores_alone(judged)):
        (group,) = (group for group in comparison.groups if group.kind == "datacomp")
        values = {row.benchmark: [score.value for score in row.scores if score] for row in group.rows}
        assert values[name] == pytest.approx([result["metrics"][name] for result in results])
        assert f"| datacomp: {name} " in text_table(comparison)


def test_rows_of_several_benchmarks_of_a_kind_can_be_told_apart(field: Path):
    store = open_store(str(field))
    judged = {str(seed): Evaluation.from_json(store.read(judge(field, seed)["evaluation"]), "") for seed in range(2)}
    comparison = side_by_side(PairedComparison.read(store, judged))
    lines = [line.split("|")[1] for line in text_table(comparison).splitlines()]
    assert len(lines) == len(set(lines))
    assert "classification: macro F1, iwildcam" in [line.strip() for line in lines]


def test_models_are_compared_by_the_metrics_that_both_have(field: Path):
    """The champion may have been judged by a version that knew fewer."""
    store = open_store(str(field))
    new, old = (Evaluation.from_json(store.read(judge(field, seed)["evaluation"]), "") for seed in range(2))
    whole = read_outcomes(store, old.outcomes)
    kept = {name: values for name, values in whole.values.items() if not name.endswith(("r10", "acc5", "text_only"))}
    crc32c = write_outcomes(store, "old.parquet", replace(whole, values=kept)).crc32c
    paired = PairedComparison.read(
        store, {"old": replace(old, outcomes="old.parquet", outcomes_crc32c=crc32c), "new": new}
    )
    shown = {(row.benchmark, row.metric) for row in paired.rows}
    assert ("coco", "image_to_text_r5") in shown
    assert not {("coco", "image_to_text_r10"), ("pets", "acc5"), ("order", "text_only")} & shown


def test_an_evaluation_says_what_it_ran_on_and_belongs_to_a_content_not_to_a_name(judged: Path):
    asked = {"store": str(judged), "suite": f"{judged}/suite.json", "resamples": 100, "device": "cpu"}
    first = stage.run(EvaluateConfig(model="runs/0/model", **asked))
    elsewhere = stage.run(EvaluateConfig(model=f"{judged}/runs/0/model", **asked))
    assert (first["already_done"], elsewhere["already_done"]) == (False, True)
    assert first["device"] == elsewhere["device"] == "cpu fp32"
    assert Evaluation.from_json(open_store(str(judged)).read(first["evaluation"]), "").device == "cpu fp32"


def test_a_kind_that_is_not_registered_is_refused(judged: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(KINDS, Album.KIND)
    with pytest.raises(
        DataError, match="unknown kind of benchmark 'album'; known kinds: classification, retrieval, cho"
    ):
        read_suite(f"{judged}/suite.json")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_names_itself_and_all_that_reports_show(kind: Any):
    assert KINDS[kind.KIND] is kind
    assert kind.TITLE and kind.MEANING
    assert set(kind.MAIN) <= set(kind.METRICS)
    assert main_metrics("quiz", kind.KIND) == [f"quiz/{metric}" for metric in kind.MAIN]


def test_what_kinds_there_are_is_known_without_torch():
    code = (
        "import sys, hqclip.cycle.promote, hqclip.evaluate.benchmarks; print({'torch', 'open_clip'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_kind_checks_its_own_content(judged: Path):
    """What the checks of the kinds at hand refuse is in test_suite_faults.py."""
    store = open_store(str(judged))
    (album,) = read_suite(f"{judged}/suite.json").benchmarks
    with pytest.raises(DataError, match=r"album\.json, benchmark album: owners\[5\] is 4; give the place of an image"):
        write_suite(store, "toys", "images.tar", [replace(cast(Album, album), owners=(0, 0, 1, 2, 3, 4))])


def test_a_benchmark_on_disk_is_its_fields_and_its_kind(tmp_path: Path, draw_samples: Callable[..., list[Sample]]):
    store = open_store(str(tmp_path))
    samples = draw_samples(2)
    write_shard(samples, tmp_path / "images.tar")
    uids = tuple(sample.uid for sample in samples)
    write_suite(store, "toys", "images.tar", [Retrieval("pairs", uids, ("x", "y"))])
    written = json.loads(store.read("pairs.json"))
    assert written == {"kind": "retrieval", "name": "pairs", "uids": list(uids), "captions": ["x", "y"]}


def test_a_field_at_its_default_is_not_written_and_need_not_be_there(
    tmp_path: Path, draw_samples: Callable[..., list[Sample]]
):
    """So what a later version can say besides changes no digest of what was written before."""
    store = open_store(str(tmp_path))
    samples = draw_samples(1)
    write_shard(samples, tmp_path / "images.tar")
    quiz = Classification("quiz", ("a", "b"), ("{}",), (samples[0].uid,), (0,), ("all",))
    write_suite(store, "toys", "images.tar", [quiz])
    assert set(json.loads(store.read("quiz.json"))) == {
        *("kind", "name", "classes", "templates", "uids", "labels", "groups"),
    }
    assert read_suite(f"{tmp_path}/suite.json").benchmarks == (quiz,)
