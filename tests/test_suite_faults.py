"""A suite that somebody wrote by hand: what is wrong in it is said by file, field and first offender, never scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hqclip.config import EvaluateConfig
from hqclip.cycle.plan import resolve_suite
from hqclip.data.shards import write_shard
from hqclip.errors import ConfigError, DataError
from hqclip.evaluate import stage
from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.benchmarks.association import Association
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.suite import check, read_suite, write_suite
from hqclip.records import Sample, canonical_json, digest_of
from hqclip.store import open_store
from hqclip.train.model import HQClip

UIDS = [f"{number:032x}" for number in range(4)]
NAN = float("nan")
COLOURS: dict[str, Any] = {
    "kind": "classification",
    "name": "colours",
    "classes": ["red", "blue"],
    "templates": ["a photo of a {}."],
    "uids": UIDS,
    "labels": [0, 1, 0, 1],
    "groups": ["all"] * 4,
}
PAIRS: dict[str, Any] = {
    "kind": "retrieval",
    "name": "pairs",
    "uids": UIDS,
    "captions": ["one", "two", "three", "four"],
}
CHANGED: dict[str, Any] = {
    "kind": "choice",
    "name": "changed",
    "uids": [UIDS[0], UIDS[0], UIDS[1]],
    "positives": ["a ring", "a red ring", "a cross"],
    "negatives": ["a square", "a blue ring", "a circle"],
    "groups": ["object", "attribute", "object"],
}
MATCHED: dict[str, Any] = {
    "kind": "matching",
    "name": "matched",
    "uids": UIDS,
    "captions": ["a ring in a box", "a box in a ring", "one", "two"],
    "groups": ["object", "number"],
}
LINKED: dict[str, Any] = {
    "kind": "association",
    "name": "linked",
    "cues": ["A wheel", "An end"],
    "candidates": [UIDS[:3], UIDS],
    "answers": [[2], [0, 3]],
}
REGIONS: dict[str, Any] = {**COLOURS, "domains": ["Asia", "Europe", "", "Asia"], "main": "acc1_worst_group"}
GOOD = (COLOURS, PAIRS, CHANGED, MATCHED, LINKED, {**REGIONS, "name": "regions"})


@pytest.fixture
def folder(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> Path:
    write_shard(draw_samples(4), tmp_path / "images.tar")
    return tmp_path


def by_hand(folder: Path, *documents: Any) -> str:
    """A suite whose digest is right, as docs/formats.md tells anybody to make one."""
    store = open_store(str(folder))
    shard = store.stat("images.tar")
    assert shard is not None
    files = [f"{number}.json" for number in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        (folder / file).write_text(json.dumps(document))
    try:
        digest = digest_of([shard.size, shard.crc32c, list(documents)])
    except ValueError:
        digest = "0" * 16  # NaN has no canonical form
    suite = {"kind": "suite", "format": 1, "name": "mine", "digest": digest, "images": "images.tar"}
    (folder / "suite.json").write_bytes(canonical_json({**suite, "benchmarks": files}))
    return f"{folder}/suite.json"


def refusal(folder: Path, *documents: Any) -> str:
    suite = by_hand(folder, *documents)
    with pytest.raises(DataError) as refused:
        read_suite(suite)
    with pytest.raises(DataError):  # before a GPU is asked for
        resolve_suite(open_store(str(folder)), suite, {"sets": (), "skip_missing": False})
    return str(refused.value)


def test_a_suite_without_fault_is_read(folder: Path):
    assert [benchmark.name for benchmark in read_suite(by_hand(folder, *GOOD)).benchmarks] == [
        *("colours", "pairs", "changed", "matched", "linked", "regions"),
    ]


@pytest.mark.parametrize(
    ("good", "change", "said"),
    [
        (COLOURS, {"templates": ["a photo of a {c}."]}, "templates[0] is 'a photo of a {c}.'; write {} where"),
        (COLOURS, {"templates": ["a {}", "a %s"]}, "templates[1] is 'a %s'; write {} where the name of the class bel"),
        (COLOURS, {"templates": ["a photo."]}, "templates[0] is 'a photo.'; write {} where"),
        (COLOURS, {"templates": ["a {photo of {}."]}, "templates[0] is 'a {photo of {}.'; write {} where"),
        (COLOURS, {"templates": ["{0} {}"]}, "templates[0] is '{0} {}'; write {} where"),
        (COLOURS, {"templates": []}, "templates has 0 items; give 1 or more"),
        (COLOURS, {"templates": "a {}"}, "templates is 'a {}'; give a list of texts"),
        (COLOURS, {"labels": [0, 7, 8, 0]}, "labels[1] is 7; give the number of a class, a whole number from 0 to 1"),
        (COLOURS, {"labels": [0, 1, -1, 0]}, "labels[2] is -1; give the number of a class"),
        (COLOURS, {"labels": [0, 1, 0, 0.5]}, "labels[3] is 0.5; give the number of a class"),
        (COLOURS, {"labels": [True, 1, 0, 0]}, "labels[0] is True; give the number of a class"),
        (COLOURS, {"labels": ["red", 1, 0, 0]}, "labels[0] is 'red'; give the number of a class"),
        (COLOURS, {"labels": [None, 1, 0, 0]}, "labels[0] is missing (null); give the number of a class"),
        (COLOURS, {"labels": [[0], 1, 0, 0]}, "labels[0] is [0] (a list of 1); give the number of a class"),
        (COLOURS, {"labels": [0, 1, 0]}, "3 labels for 4 images (uids); give one an image"),
        (COLOURS, {"labels": {"0": 1}}, "labels is {'0': 1}; give a list of whole numbers"),
        (COLOURS, {"classes": []}, "classes has 0 items; give 2 or more"),
        (COLOURS, {"classes": ["red"]}, "classes has 1 items; give 2 or more"),
        (COLOURS, {"classes": ["red", " "]}, "classes[1] is ' ', which says nothing"),
        (COLOURS, {"classes": ["red", "red"]}, "classes[1] is 'red', as classes[0] is: no model can tell them apart"),
        (COLOURS, {"classes": ["red", 5]}, "classes[1] is 5; give one text"),
        (COLOURS, {"groups": ["all"]}, "1 groups for 4 images (uids); give one an image"),
        (COLOURS, {"uids": [UIDS[0], *UIDS[:3]]}, f"uids[1] is '{UIDS[0]}', as uids[0] is: an image has one class"),
        (COLOURS, {"uids": [], "labels": [], "groups": []}, "uids has 0 items; give 1 or more"),
        (COLOURS, {"uids": 4}, "uids is 4; give a list of texts"),
        (PAIRS, {"captions": ["one", "two", "three"]}, "3 captions for 4 images (uids); give one an image"),
        (PAIRS, {"captions": ["one", "", "three", "four"]}, "captions[1] is '', which says nothing"),
        (PAIRS, {"captions": ["one", "\ud800", "three", "four"]}, r"captions[1] is '\ud800', which says nothing"),
        (PAIRS, {"captions": ["one", None, "three", "four"]}, "captions[1] is missing (null); give one text"),
        (PAIRS, {"captions": ["one", "two", "two", "four"]}, "captions[2] is 'two', as captions[1] is: two images"),
        (PAIRS, {"captions": [["a", "b"]] * 4}, "captions[1] is 'a', as captions[0] is: two images that share"),
        (
            PAIRS,
            {"captions": ["a", [], "b", "c"]},
            "captions[1] is [] (a list of 0); give one text, in quotes, or a li",
        ),
        (PAIRS, {"captions": ["a", ["b", " "], "c", "d"]}, "captions[1][1] is ' ', which says nothing"),
        (PAIRS, {"captions": ["a", ["b", 7], "c", "d"]}, "captions[1][1] is 7; give one text"),
        (PAIRS, {"captions": ["a", 7, "c", "d"]}, "captions[1] is 7; give one text, in quotes, or a list of them"),
        (PAIRS, {"captions": "abcd"}, "captions is 'abcd'; give a list"),
        (PAIRS, {"uids": UIDS[:1], "captions": ["one"]}, "uids has 1 items; give 2 or more"),
        (
            PAIRS,
            {"uids": [u for u in UIDS for _ in range(5)], "captions": [f"caption {n}" for n in range(20)]},
            f"uids[1] is '{UIDS[0]}', as uids[0] is: an image counts once; give all of its captions in one list",
        ),
        (
            CHANGED,
            {"negatives": ["a square", "a red ring", "a circle"]},
            "negatives[1] is 'a red ring', as is the true",
        ),
        (
            CHANGED,
            {"negatives": ["a square", ["a blue ring", "a red ring"], "a circle"]},
            "negatives[1] is ['a blue ring', 'a red ring'] (a list of 2), as is the true",
        ),
        (CHANGED, {"negatives": ["a", ["b", 5], "c"]}, "negatives[1][1] is 5; give one text"),
        (CHANGED, {"negatives": ["a square", "a red ring"]}, "2 negatives for 3 images (uids); give one an image"),
        (CHANGED, {"positives": ["a ring", "", "a cross"]}, "positives[1] is '', which says nothing"),
        (CHANGED, {"groups": ["a", None, "b"]}, "groups[1] is missing (null); give one text"),
        (CHANGED, {"name": "a/b"}, "name is 'a/b'; give the benchmark a name in one line, without a slash"),
        (CHANGED, {"name": 5}, "name is 5; give the benchmark a name"),
        (CHANGED, {"kind": "choise"}, "unknown kind of benchmark 'choise'; known kinds: classification, retrieval, ch"),
        (CHANGED, {"kind": ["choice"]}, "unknown kind of benchmark ['choice']"),
        (CHANGED, {"positive": []}, "unknown field 'positive'; did you mean 'positives'?; a choice has name, uids, po"),
        (REGIONS, {"domains": ["Asia", "Europe"]}, "2 domains for 4 images (uids); give one an image"),
        (REGIONS, {"domains": ["Asia", None, "", ""]}, "domains[1] is missing (null); give a text, empty where"),
        (REGIONS, {"domains": ["", " ", "", ""]}, "domains are all empty; name where the images are from"),
        (COLOURS, {"domains": "Asia"}, "domains is 'Asia'; give a list of texts"),
        (COLOURS, {"main": "acc1_worst_group"}, "main is 'acc1_worst_group'; give `domains`, the group of every image"),
        (COLOURS, {"main": "acc5"}, "main is 'acc5' for 2 classes; choose another"),
        (COLOURS, {"main": "accuracy"}, "main is 'accuracy'; give one of acc1, acc5, mean_per_class_recall, f1_macro"),
        (COLOURS, {"main": None}, "main is missing (null); give one of acc1"),
        (
            MATCHED,
            {"uids": UIDS[:3], "captions": ["a", "b", "c"]},
            "2 groups for 3 images (uids); give one for every two",
        ),
        (
            MATCHED,
            {"captions": ["a", "b", "c", "c"]},
            "captions[3] is 'c', as captions[2] is: nobody can match the two",
        ),
        (MATCHED, {"uids": [UIDS[0], UIDS[0], *UIDS[:2]]}, f"uids[1] is '{UIDS[0]}', as uids[0] is: nobody can match"),
        (MATCHED, {"main": "accuracy"}, "main is 'accuracy'; give one of text_score, image_score, group_score"),
        (
            COLOURS,
            {"classes": ["red ring", " Red  RING"]},
            "1 of 2 classes differ from what they are to be told from in c",
        ),
        (COLOURS, {"classes": ["\u00c9t\u00e9", "\u00e9t\u00e9"]}, "1 of 2 classes differ"),
        (
            PAIRS,
            {"captions": ["one", ["two", "2"], "TWO ", "four"]},
            "1 of 5 captions differ from what they are to be told",
        ),
        (
            CHANGED,
            {"negatives": ["a square", ["a blue ring", "A Red Ring"], "a circle"]},
            "(first: 'A Red Ring'), which",
        ),
        (
            CHANGED,
            {"negatives": ["a square", "a\u00a0red\n ring", "a circle"]},
            "1 of 3 items differ from what they are",
        ),
        (MATCHED, {"captions": ["a", "b", "a cup", "A cup"]}, "1 of 2 items differ from what they are to be told from"),
        (LINKED, {"main": [[]]}, "main is ([],) (a list of 1); give one of avg_jaccard_score, jaccard_score_5-6"),
        (LINKED, {"main": {}}, "main is {}; give one of avg_jaccard_score"),
        (LINKED, {"answers": [[2]]}, "1 answers for 2 cues; give one list a cue"),
        (LINKED, {"answers": [[3], [0]]}, "answers[0] is [3] (a list of 1); give the places of some but not all"),
        (LINKED, {"answers": [[2], [0, 0]]}, "answers[1] is [0, 0] (a list of 2); give the places"),
        (LINKED, {"answers": [[0, 1, 2], [0]]}, "answers[0] is [0, 1, 2] (a list of 3); give the places"),
        (LINKED, {"answers": [[], [0]]}, "answers[0] is [] (a list of 0); give the places"),
        (LINKED, {"answers": [[True], [0]]}, "answers[0] is [True] (a list of 1); give the places"),
        (LINKED, {"answers": 5}, "answers is 5; give a list of lists of whole numbers"),
        (LINKED, {"candidates": [UIDS[:1], UIDS]}, f"candidates[0] is ['{UIDS[0]}'] (a list of 1); give a list of 2"),
        (LINKED, {"candidates": ["abc", UIDS]}, "candidates[0] is 'abc'; give a list of 2 texts or more"),
        (LINKED, {"candidates": [UIDS[:2] + UIDS[:1], UIDS]}, "(a list of 3) with an image twice; name each once"),
        (
            LINKED,
            {"main": "jaccard_score_10-12"},
            "main is 'jaccard_score_10-12', for which no cue has the number of c",
        ),
        (COLOURS, {"labels": [0, 1, 0, NAN]}, "has NaN in labels[3], which is no number of JSON"),
    ],
)
def test_a_fault_of_a_benchmark_is_named_by_file_field_and_first_offender(
    folder: Path, good: dict[str, Any], change: dict[str, Any], said: str
):
    message = refusal(folder, PAIRS if good is not PAIRS else COLOURS, {**good, **change})
    assert message.startswith(f"{folder}/1.json")
    assert said in message


def test_everything_that_is_wrong_with_a_benchmark_is_said_at_once(folder: Path):
    message = refusal(folder, {**COLOURS, "templates": ["a {c}"], "labels": [5, 1, 0, 0], "groups": []})
    assert [line.partition(": ")[2].partition(" ")[0] for line in message.splitlines()] == [
        *("templates[0]", "groups", "labels[0]"),
    ]


def test_a_field_that_is_missing_is_named(folder: Path):
    message = refusal(folder, {name: value for name, value in COLOURS.items() if name != "groups"})
    assert "0.json: the field 'groups' is missing; a classification has name, classes, templates, uids" in message


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"kind": 1e999}', "[" * 100_000, "\ud800", '{"kind": "choice", "kind": "matching"}']
)
def test_a_file_that_is_no_benchmark_is_named(folder: Path, text: str):
    suite = by_hand(folder, COLOURS)
    (folder / "0.json").write_text(text, errors="surrogatepass")
    told = "(is (not valid JSON|a JSON (list|NoneType)|nested)|has (1e999 in kind, which is|'kind' twice))"
    with pytest.raises(DataError, match=rf"0\.json {told}"):
        read_suite(suite)


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "benchmarks: none; give at least one"),
        ([PAIRS, {**COLOURS, "name": "pairs"}], "benchmarks: 'pairs' comes twice; give"),
        ([{**PAIRS, "name": "suite"}], "benchmarks: one is named 'suite', as the manifest; give"),
    ],
)
def test_benchmarks_that_cannot_be_told_apart_are_refused(folder: Path, documents: list[Any], said: str):
    assert said in refusal(folder, *documents)


def test_a_list_of_the_field_with_a_few_names_twice_is_usable(folder: Path):
    """ImageNet's usual list has two missiles and two pairs of sunglasses among its thousand classes."""
    names = [f"class {number}" for number in range(1000)]
    names[-2:] = names[:2]
    assert read_suite(by_hand(folder, {**COLOURS, "classes": names})).benchmarks
    names[500:] = names[:500]
    assert "classes[500] is 'class 0', as classes[0] is" in refusal(folder, {**COLOURS, "classes": names})


def test_captions_that_a_few_images_share_are_usable(folder: Path):
    """Of COCO's 25,000 captions some were written of two images."""
    captions = [[f"{image} {number}" for number in range(5)] for image in range(4)]
    captions[3][0] = "0 0"
    assert read_suite(by_hand(folder, {**PAIRS, "captions": captions})).benchmarks
    captions[3][1] = "0 1"
    assert "captions[3] is '0 0', as captions[0] is: two images that share" in refusal(
        folder, {**PAIRS, "captions": captions}
    )


@pytest.mark.parametrize(
    ("benchmark", "most"),
    [
        (lambda n, few: Classification("c", texts(n, few), ("a {}",), tuple(UIDS[:1]), (0,), ("all",)), 10),
        (lambda n, few: Retrieval("r", tuple(map(str, range(n))), texts(n, few)), 50),
        (
            lambda n, few: Choice(
                "c", ("u",) * n, ("a cup",) * n, ("a mug",) * (n - few) + ("A  Cup",) * few, ("g",) * n
            ),
            10,
        ),
        (lambda n, few: Matching("m", ("u", "v") * n, pairs(n, few), ("g",) * n), 10),
    ],
    ids=["classification", "retrieval", "choice", "matching"],
)
def test_a_few_slips_of_a_published_set_do_not_keep_it_out(benchmark: Callable[[int, int], Benchmark], most: int):
    check(benchmark(1000, most), "here")
    with pytest.raises(DataError, match=rf"here, benchmark .: {most + 1} of 1000 \w+ differ"):
        check(benchmark(1000, most + 1), "here")


def texts(number: int, few: int) -> tuple[str, ...]:
    """The last few read as the first."""
    return (*(f"text {place}" for place in range(number - few)), *(f"Text  {place}" for place in range(few)))


def pairs(number: int, few: int) -> tuple[str, ...]:
    return ("a", "b") * (number - few) + ("a", "A ") * few


def test_what_is_said_in_other_letters_is_another_text():
    """Only what no reader of small letters sees is passed over: a mark, an accent or a final dot is seen."""
    for true, false in (
        ("a ring", "a ring."),
        ("Masse", "Ma\u00dfe"),
        ("ou", "o\u00f9"),
        ("no", "No. 1"),
        ("a b", "ab"),
    ):
        check(Choice("c", ("u",), (true,), (false,), ("g",)), "here")


def test_classes_that_differ_in_one_template_alone_can_be_told_apart():
    quiz = Classification("quiz", ("x", "x y"), ("a {}", "{} b"), ("u",), (0,), ("g",))
    assert quiz.one_text(lambda texts: [text[:3] for text in texts]) == ["", ""]
    assert quiz.one_text(lambda texts: [text[:1] for text in texts]) == ["", "x y"]


@pytest.mark.parametrize("text", ["null", "5", '"suite"', "[]", "true"])
def test_a_suite_that_is_no_object_is_named(folder: Path, text: str):
    (folder / "suite.json").write_text(text)
    with pytest.raises(DataError, match=r"suite\.json: not a suite manifest"):
        read_suite(f"{folder}/suite.json")


def test_a_shard_whose_name_is_no_text_is_refused(folder: Path):
    suite = by_hand(folder, COLOURS)
    document = json.loads((folder / "suite.json").read_text())
    (folder / "suite.json").write_bytes(canonical_json({**document, "images": "images\ud800.tar"}))
    with pytest.raises(ConfigError, match=r"'images\\ud800.tar' is not a key of a store: half a character"):
        read_suite(suite)


def test_a_class_may_have_braces_in_its_name():
    quiz = Classification("quiz", ("{x}", "y{}"), ("a {}", "{}, or {}"), ("u",), (0,), ("g",))
    assert list(quiz.faults()) == []
    assert quiz.texts() == {"prompts": ["a {x}", "{x}, or {x}", "a y{}", "y{}, or y{}"]}


@pytest.mark.parametrize(
    "benchmark",
    [
        Classification("bad", ("red", "blue"), ("a {c}",), tuple(UIDS), (0, 1, 0, 1), ("all",) * 4),
        Retrieval("bad", tuple(UIDS), ("one",) * 4),
        Choice("bad", tuple(UIDS[:1]), ("a",), ("a",), ("g",)),
        Matching("bad", tuple(UIDS[:2]), ("a", "a"), ("g",)),
        Association("bad", ("a",), (UIDS,), ([4],)),
    ],
    ids=KINDS,
)
def test_what_cannot_be_scored_is_not_written(folder: Path, benchmark: Benchmark):
    with pytest.raises(DataError, match=r"bad\.json, benchmark bad: "):
        write_suite(open_store(str(folder)), "mine", "images.tar", [benchmark])
    assert sorted(path.name for path in folder.iterdir()) == ["images.tar"]


def test_an_image_that_is_not_in_the_shard_is_refused_in_writing_and_before_it_is_scored(folder: Path):
    store, said = open_store(str(folder)), "benchmark pairs: 1 images of its uids are not among the 4 samples of "
    strange = {**PAIRS, "uids": [*UIDS[:3], "nowhere"]}
    with pytest.raises(DataError, match=rf"{said}.*images.tar \(first: 'nowhere'\); add them, or take the items out"):
        write_suite(store, "mine", "images.tar", [Retrieval("pairs", tuple(strange["uids"]), ("a", "b", "c", "d"))])
    assert not store.exists("suite.json")
    HQClip("shapes", [0.5]).export(folder / "runs/m/model")
    suite = by_hand(folder, strange)
    with pytest.raises(DataError, match=said):
        stage.run(EvaluateConfig(store=str(folder), model="runs/m/model", suite=suite, resamples=100))


def test_why_an_image_is_not_there_is_said(folder: Path, draw_samples: Callable[..., list[Sample]]):
    samples = draw_samples(4)
    data = (folder / "images.tar").read_bytes().replace(samples[3].image, bytes(len(samples[3].image)))
    (folder / "images.tar").write_bytes(data)
    with pytest.raises(DataError, match=r"\(first: '0{31}3'; refused there: 1 not_an_image\)"):
        write_suite(open_store(str(folder)), "mine", "images.tar", [Retrieval("p", tuple(UIDS), ("a", "b", "c", "d"))])


def test_a_model_whose_weights_are_no_numbers_is_not_scored(folder: Path):
    """A comparison with NaN is false, by which every image would be the first that a caption finds."""
    model = HQClip("shapes", [0.5])
    with torch.no_grad():
        model.clip.token_embedding.weight.fill_(NAN)
    model.export(folder / "runs/m/model")
    suite = by_hand(folder, PAIRS)
    with pytest.raises(DataError, match="runs/m/model gives embeddings that are not finite; its weights are damaged"):
        stage.run(EvaluateConfig(store=str(folder), model="runs/m/model", suite=suite, resamples=100))
