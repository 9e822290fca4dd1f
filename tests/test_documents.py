"""Damaged JSON in a store: work that depends on it stops with a sentence, what only tells of work is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate.total_work import total_work
from hqclip.config import SelectConfig
from hqclip.curate.annotator import read_annotator
from hqclip.curate.work_cost import work_cost
from hqclip.cycle import promote, select
from hqclip.cycle.cost.history import History
from hqclip.cycle.keys import notes_prefix
from hqclip.cycle.notes import read_notes
from hqclip.cycle.references import find
from hqclip.cycle.report import loss_charts
from hqclip.data.dataset import read_dataset
from hqclip.errors import DataError, NotFoundError
from hqclip.records import Champion, Sample
from hqclip.store import Store, open_store
from hqclip.store.documents import (
    finite,
    number_in,
    read_curve,
    read_if_there,
    read_json,
    read_json_if_there,
    read_json_or_warn,
)
from hqclip.store.local import LocalStore
from hqclip.train.metrics import MetricsLog
from hqclip.train.work import Work
from tests import promoting
from tests.fakes.gcs import FakeGcs

DAMAGED = {
    "empty": b"",
    "cut": b'{"model_digest": "a',
    "zeroed": bytes(40),
    "of another encoding": b'{"a": "\xff\xfe"}',
    "a list": b'["a"]',
    "a word": b'"a"',
    "a number": b"7",
    "nothing": b"null",
    "a page": b"<html>",
    "deep": b"[" * 200_000,
}
damage = pytest.mark.parametrize("damaged", DAMAGED.values(), ids=list(DAMAGED))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def refined(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a cycle that is all but promoted."""
    return promoting.make_cycle(tmp_path, draw_samples(12))


@damage
def test_what_work_depends_on_is_refused_with_what_where_and_what_to_do(store: LocalStore, damaged: bytes):
    store.write("a.json", damaged)
    with pytest.raises(DataError, match=rf"{store.uri}/a.json is damaged: no JSON.*; make it again"):
        read_json(store, "a.json", "make it again")
    with pytest.raises(NotFoundError, match=r"b.json"):
        read_json(store, "b.json", "make it again")


@damage
def test_what_only_tells_of_work_is_left_out_with_a_warning(
    store: LocalStore, damaged: bytes, capsys: pytest.CaptureFixture[str]
):
    store.write("a.json", damaged)
    assert read_json_or_warn(store, "a.json", "cost") is None
    said = capsys.readouterr().err
    assert said.startswith(f"hqclip cost: {store.uri}/a.json is damaged: no JSON")
    assert said.endswith("it is left out\n") and said.count("\n") == 1
    assert read_json_or_warn(store, "b.json", "cost") is None


@damage
def test_every_reader_of_a_document_says_which_is_damaged(store: LocalStore, damaged: bytes):
    readers: dict[str, Callable[[], Any]] = {
        "annotations/x/annotator.json": lambda: read_annotator(store, "annotations/x"),
        "runs/a/result.json": lambda: find(store, "runs/a"),
        "sweeps/a.json": lambda: find(store, "sweeps/a"),
        "sweeps/b.plan.json": lambda: select.run(
            SelectConfig(store=store.uri, plan="sweeps/b.plan.json", evaluations=("e",))
        ),
    }
    for key, read in readers.items():
        store.write(key, damaged)
        with pytest.raises(DataError, match=f"{key} is damaged"):
            read()


def test_documents_that_are_whole_but_say_too_little_are_refused(store: LocalStore):
    store.write("sweeps/b.plan.json", b'{"points": []}')
    with pytest.raises(DataError, match="b.plan.json is damaged: dataset is missing; delete it"):
        select.run(SelectConfig(store=store.uri, plan="sweeps/b.plan.json", evaluations=("e",)))
    for said in (b"{}", b'{"points": 3}', b'{"points": [{"name": "a"}]}', b'{"points": [[]]}'):
        store.write("sweeps/a.json", said, create_only=False)
        with pytest.raises(DataError, match=r"a.json (names no trials|is damaged: points)"):
            find(store, "sweeps/a")
    store.write("runs/a/result.json", b"{}")
    with pytest.raises(DataError, match="runs/a/result.json is damaged: no model_digest; bring it back"):
        find(store, "runs/a")


@pytest.mark.parametrize(
    "tags", [*DAMAGED.values(), b'["ring", "square"]', b'{"ring": null}', b'{"ring": "2", "square": 2}', b"{}"]
)
def test_a_damaged_tag_vocabulary_is_named(refined: str, tags: bytes):
    store = open_store(refined)
    dataset = promoting.config_of(refined).dataset
    key = dataset.replace("dataset.json", "tags.json")
    store.write(key, tags, create_only=False)
    with pytest.raises(DataError, match=r"tags.json (is damaged|are not those of this version)"):
        read_dataset(store, dataset)


LINES = b'{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n'


@pytest.mark.parametrize(
    ("added", "kept"),
    [
        (b'{"step": 6, "lo', 2),
        (b"\xff\xfe\n", 2),
        (b'{"loss": 1.0}\n', 2),
        (b'{"step": "six", "loss": 1}\n', 2),
        (b'{"step": 6, "loss": "low"}\n', 2),
        (b'{"step": 6, "loss": null}\n', 2),
        (b'{"step": NaN}\n', 2),
        (b"[6]\nnull\n7\n", 2),
        (bytes(100), 2),
        (b'\n{"step": 6, "loss": 0.25}\n', 3),
    ],
)
def test_a_damaged_curve_loses_its_damaged_lines_only(
    store: LocalStore, added: bytes, kept: int, capsys: pytest.CaptureFixture[str]
):
    store.write("runs/a/metrics.jsonl", LINES + added)
    store.write("runs/a/config.json", b"{")
    assert [point["step"] for point in read_curve(store, "runs/a/metrics.jsonl", "report")] == [2, 4, 6][:kept]
    assert "lines are damaged; they are left out" in capsys.readouterr().err
    with MetricsLog(store, "a", Work(store, "a", 0.0, 8)) as metrics:
        metrics.resume(4)
        assert metrics.last == {"step": 4, "loss": 0.5}
        metrics.upload()
    assert store.read("runs/a/metrics.jsonl") == LINES
    (chart,) = loss_charts(store, [{"name": "a", "run": "runs/a"}, {"name": "gone", "run": "runs/gone"}])
    assert [(curve.model, len(curve.points)) for curve in chart.curves] == [("a", 2)]


@damage
def test_damaged_curves_and_notes_do_not_stop_a_promotion(refined: str, damaged: bytes):
    store = open_store(refined)
    config = promoting.config_of(refined)
    for key in ("runs/000001-raw/metrics.jsonl", "runs/000001-raw/config.json", f"{notes_prefix(1)}evaluate-raw.json"):
        store.write(key, damaged, create_only=False)
    assert promote.run(config)["verdict"] == "promoted"
    assert store.exists("cycles/000001.html")


@pytest.mark.parametrize("value", [None, "1", [1], True, float("nan"), float("inf")])
def test_what_is_no_number_counts_as_none(value: Any):
    assert finite(value) is None and number_in({"images": value}, "images") == 0


def test_a_count_stays_a_count():
    assert [repr(finite(value)) for value in (3, 2.5)] == ["3", "2.5"]
    assert [repr(number_in({"images": 3}, name)) for name in ("images", "rows")] == ["3", "0"]


GOOD = {"images": 10, "gpu_seconds": 4.0, "seconds": 2.0, "prompt_tokens": 7, "output_tokens": 5, "device": "L4"}


@pytest.mark.parametrize(
    "log", [*DAMAGED.values(), b"{}", b'{"images": "ten"}', b'{"device": null}', b'{"images": NaN, "seconds": [1]}']
)
def test_a_damaged_work_log_counts_for_nothing(store: LocalStore, log: bytes):
    store.write("annotations/x/work/a/progress.json", json.dumps(GOOD).encode())
    store.write("annotations/x/work/b/progress.json", log)
    total = total_work(store, "annotations/x")
    assert (total["images"], total["gpu_seconds"], total["devices"]) == (10, 4.0, ["L4"])
    cost = work_cost(store, "x")
    assert cost and (cost.images, cost.gpu_seconds, cost.device) == (10, 4.0, "L4")


def _train_note(store: Store, said: bytes) -> None:
    store.write(f"{notes_prefix(1)}train-raw.json", said, create_only=False)


@pytest.mark.parametrize(
    "said",
    [
        *DAMAGED.values(),
        b'{"seconds": 3}',
        b'{"seconds": "x", "samples_seen": 3}',
        b'{"seconds": 3, "samples_seen": 3, "launch": {"key": "gone/1", "node_hours": 1}}',
        b'{"seconds": 3, "samples_seen": 3, "launch": {"key": 7}}',
    ],
)
def test_what_a_cycle_cost_is_unknown_where_its_notes_are_damaged(refined: str, said: bytes):
    store = open_store(refined)
    _train_note(store, said)
    _train_note_of_another(store)
    settings = {"train": {"model": "shapes"}, "annotate": {"model": "", "prompt": "", "engine": ""}}
    pace = History(store, settings).pace("train")
    assert (pace.amount, pace.gpu_seconds) == (100, 5.0)


def _train_note_of_another(store: Store) -> None:
    store.write(f"{notes_prefix(1)}train-hqclip.json", b'{"seconds": 5, "samples_seen": 100}')


def test_a_note_that_is_damaged_is_left_out(store: LocalStore, capsys: pytest.CaptureFixture[str]):
    store.write(f"{notes_prefix(1)}curate.json", b'{"dataset": "d"}')
    store.write(f"{notes_prefix(1)}score.json", b"{")
    assert read_notes(store, 1) == {"curate": {"dataset": "d"}}
    assert "score.json is damaged" in capsys.readouterr().err


def test_what_may_not_be_there_is_asked_for_once(gcs: Store, fake_gcs: FakeGcs):
    assert read_json_if_there(gcs, "result.json", "x") is None
    assert read_if_there(gcs, "champion.json", Champion) is None
    gcs.write("result.json", b'{"a": 1}')
    fake_gcs.requests.clear()
    assert read_json_if_there(gcs, "result.json", "x") == {"a": 1}
    assert len(fake_gcs.requests) == 1
    gcs.write("champion.json", b"damaged")
    with pytest.raises(DataError, match="champion.json"):
        read_if_there(gcs, "champion.json", Champion)
