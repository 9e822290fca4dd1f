"""What must not matter to an evaluation: on how many ranks and threads, in which order and shards its data lie."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.outcomes import read_outcomes
from hqclip.errors import ConflictError, DataError, HQClipError
from hqclip.evaluate import stage
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.ranks import GlooGroup, Ranks
from hqclip.records import Evaluation, Sample
from hqclip.store import open_store
from tests.clips import pictures, random_texts, write_clip
from tests.suites import add_sharded

ROOT = Path(__file__).parents[1]
CLASSES = ("red ring", "blue square", "green cross", "large ring", "small square", "thing above it")
IMAGES = 22
CAPTIONS = [random_texts(1 + n % 3, seed=n) for n in range(IMAGES)]


def write_suite(folder: Path, samples: list[Sample], order: list[int], classes: list[int], shards: int) -> None:
    """A set of each kind: items in this order, class `classes[k]` as number k, the images in so many shards."""
    store = open_store(str(folder))
    uids = tuple(f"{n:032x}" for n in order)
    labels = tuple(classes.index(n % len(CLASSES)) for n in order)
    named = tuple(CLASSES[k] for k in classes)
    size = -(-len(samples) // shards)
    parts = [samples[start : start + size] for start in range(0, len(samples), size)]
    captions = tuple(CAPTIONS[n] for n in order)
    true, false = tuple(texts[0] for texts in captions), tuple(f"no {texts[0]}" for texts in captions)
    kinds = tuple("pq"[n % 2] for n in order)
    pairs = tuple(texts[-1] for texts in captions)
    add_sharded(store, parts, Classification("classes", named, ("{}", "a photo of {}."), uids, labels, ("all",) * 22))
    add_sharded(store, parts, Retrieval("captions", uids, captions))
    add_sharded(store, parts, Choice("choice", uids, true, false, kinds))
    add_sharded(store, parts, Matching("pairs", uids, pairs, kinds[::2]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_clip(folder / "runs/m/model")
    samples = [Sample(f"{n:032x}", png(picture), "") for n, picture in enumerate(pictures(IMAGES))]
    plain, classes = list(range(IMAGES)), list(range(len(CLASSES)))
    turned = [n ^ 1 for n in reversed(plain)]  # pairs stay pairs
    write_suite(folder / "plain", samples, plain, classes, 1)
    write_suite(folder / "images", samples, turned, classes, 1)
    write_suite(folder / "classes", samples, plain, classes[::-1], 1)
    write_suite(folder / "shards", samples[::-1], plain, classes, 4)
    return folder


@pytest.fixture(scope="module")
def clip(world: Path) -> ExportedClip:
    return ExportedClip(open_store(str(world)), "runs/m/model", threads=1)


@pytest.fixture(autouse=True)
def same_maker(monkeypatch: pytest.MonkeyPatch, clip: ExportedClip) -> None:
    """When and by which settings an evaluation was made is another matter; the real model, but loaded once."""
    monkeypatch.setattr(stage, "made_by", lambda name, *_: {"stage": name})
    monkeypatch.setattr(stage, "ExportedClip", lambda *_: clip)


def png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def config_of(world: Path, store: Path, suite: str = "plain", **more: Any) -> EvaluateConfig:
    given = {"suite": f"{world}/{suite}/suite.json", "batch_size": 4, "resamples": 100, **more}
    return EvaluateConfig(store=str(store), model="runs/m/model", **given)


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


class Table:
    """Where ranks that are threads lay down what each has for the others."""

    def __init__(self, size: int) -> None:
        self.all_there, self.laid = threading.Barrier(size, timeout=60), [None] * size

    def gather(self, rank: int, own: Any) -> list[Any]:
        self.laid[rank] = own
        self.all_there.wait()
        seen = list(self.laid)
        self.all_there.wait()
        return seen


class Threads(GlooGroup):
    """What gloo carries between processes, carried between threads."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(1)
        self._rank, self._table = rank, table

    def _all_gather_object(self, own: Any) -> list[Any]:
        return [json.loads(told) for told in self._table.gather(self._rank, json.dumps(own))]

    def rows_on_rank_zero(self, rank: int, own_ND: torch.Tensor) -> list[torch.Tensor]:
        parts = self._table.gather(rank, own_ND)
        return [] if rank else parts


def run_ranks(monkeypatch: pytest.MonkeyPatch, *configs: EvaluateConfig) -> list[Any]:
    """What each rank gives, or raises."""
    table, here = Table(len(configs)), threading.local()

    @contextlib.contextmanager
    def group(*_: Any, **__: Any) -> Iterator[Ranks]:
        yield Ranks(here.rank, len(configs), torch.device("cpu"), Threads(here.rank, table))

    def run(rank: int) -> Any:
        here.rank = rank
        try:
            return stage.run(configs[rank])
        except HQClipError as error:
            return error

    with monkeypatch.context() as patch, ThreadPoolExecutor(len(configs)) as pool:
        patch.setattr(stage, "process_group", group)
        return list(pool.map(run, range(len(configs))))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_any_number_of_ranks_writes_the_bytes_that_one_writes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
):
    """Also where a rank has no batch of a set."""
    stage.run(config_of(world, tmp_path / "one"))
    done = run_ranks(monkeypatch, *[config_of(world, tmp_path / "many")] * size)
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert all(told == done[0] for told in done)


def test_each_rank_embeds_its_share_and_only_that(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    embed, seen = ExportedClip._embed, []

    def counted(self: ExportedClip, encode: Any, rows: torch.Tensor) -> torch.Tensor:
        seen.append((threading.current_thread().name, rows.ndim, len(rows)))
        return embed(self, encode, rows)

    monkeypatch.setattr(ExportedClip, "_embed", counted)
    run_ranks(monkeypatch, *[config_of(world, tmp_path)] * 2)
    shares = {name: sum(n for who, ndim, n in seen if who == name and ndim == 4) for name, _, _ in seen}
    assert sorted(shares.values()) == [10, 12]  # batches of 4, 4, 4, 4, 4 and 2


def test_what_was_judged_before_a_kill_no_rank_embeds_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage.run(config_of(world, tmp_path / "whole"))
    stage.run(config_of(world, tmp_path / "killed", sets=("captions", "choice", "classes")))
    monkeypatch.setattr(ExportedClip, "text_batches", only_pairs(ExportedClip.text_batches))
    run_ranks(monkeypatch, *[config_of(world, tmp_path / "killed")] * 2)
    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert whole == {name: killed[name] for name in whole}


def only_pairs(batches: Callable[..., Any]) -> Callable[..., Any]:
    def asked(self: ExportedClip, texts: Any, *more: Any) -> Any:
        assert set(texts) <= {*(f"no {each[0]}" for each in CAPTIONS), *sum(CAPTIONS, [])}
        assert len(texts) <= IMAGES, "the captions were embedded again"
        return batches(self, texts, *more)

    return asked


def test_a_fault_on_one_rank_is_told_by_all(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(self: ExportedClip, *_: Any) -> Any:
        if threading.current_thread().name.endswith("_1"):
            raise DataError("a picture is torn")
        yield torch.zeros(4, 32)

    monkeypatch.setattr(ExportedClip, "image_batches", broken)
    told = run_ranks(monkeypatch, *[config_of(world, tmp_path)] * 2)
    assert [type(error) for error in told] == [DataError] * 2
    assert all("a picture is torn" in str(error) for error in told)


def test_ranks_that_were_told_different_things_are_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told = run_ranks(monkeypatch, config_of(world, tmp_path), config_of(world, tmp_path, batch_size=5))
    assert [type(error) for error in told] == [ConflictError] * 2
    assert not files(tmp_path)


def answers(store: Path, config: EvaluateConfig, suite: str) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics but those of single classes, which are numbered; and what each image (or pair) gave."""
    there = open_store(str(store))
    done = stage.run(config)
    record = Evaluation.from_json(there.read(done["evaluation"]), "")
    outcomes = read_outcomes(there, record.outcomes, record.outcomes_crc32c)
    metrics = {name: value for name, value in done["metrics"].items() if "mean_per_class_recall " not in name}
    documents = {name: json.loads((Path(suite) / f"benchmarks/{name}.json").read_bytes()) for name in SETS}
    by_uid = {}
    for name, values in outcomes.values.items():
        if name == "classes/f1_macro":  # answers by the numbers of classes
            continue
        uids = documents[name.partition("/")[0]]["uids"]
        items = [min(uids[n : n + len(uids) // len(values)]) for n in range(0, len(uids), len(uids) // len(values))]
        by_uid[name] = dict(zip(items, values.tolist(), strict=True))
    return metrics, by_uid


SETS = ("classes", "captions", "choice", "pairs")


@pytest.mark.parametrize("what", ["images", "classes", "shards"])
def test_the_order_of_images_classes_and_shards_changes_no_answer(world: Path, tmp_path: Path, what: str):
    plain = answers(tmp_path / "plain", config_of(world, tmp_path / "plain"), f"{world}/plain")
    other = answers(tmp_path / what, config_of(world, tmp_path / what, what), f"{world}/{what}")
    assert other[1] == plain[1]
    assert other[0] == pytest.approx(plain[0], abs=1e-12)
    for name in SETS:
        given = {value for metric, by in plain[1].items() if metric.startswith(f"{name}/") for value in by.values()}
        assert len(given) > 1, f"{name}: a model that gives the same answer to all would hide it"


def test_the_number_of_threads_changes_no_answer(world: Path, tmp_path: Path):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(answers(tmp_path / str(threads), config_of(world, tmp_path / str(threads)), f"{world}/plain"))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def launched(config: EvaluateConfig, *more: str) -> subprocess.Popen[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_mapping().items() if value]
    launch = ["launch", "run", "evaluate", "--scheduler", "local", "--nproc", "2", "--retries", "1", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "hqclip.cli", *launch, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def store_of(world: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "runs").symlink_to(world / "runs")
    return folder


def made(store: Path) -> dict[str, bytes]:
    """All that an evaluation wrote, without who made it and when."""
    found = {name: data for name, data in files(store).items() if name.startswith("evaluations/")}
    for name, data in found.items():
        if name.endswith(".json"):
            document = json.loads(data)
            document.pop("provenance", None)
            found[name] = json.dumps(document).encode()
    return found


@pytest.mark.slow
def test_two_processes_write_what_one_writes(world: Path, tmp_path: Path):
    """By the launcher, through gloo."""
    one, two = (config_of(world, store_of(world, tmp_path / name)) for name in ("one", "two"))
    stage.run(one)
    with launched(two) as launcher:
        out, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    assert made(tmp_path / "two") == made(tmp_path / "one")
    result = json.loads(out)
    assert (result["already_done"], result["launch"]["attempts"]) == (False, 1)


@pytest.mark.slow
def test_a_rank_that_is_killed_is_started_again_and_goes_on_with_the_next_set(world: Path, tmp_path: Path):
    one, two = (
        config_of(world, store_of(world, tmp_path / name), resamples=300_000)  # so that judging takes a while
        for name in ("one", "two")
    )
    stage.run(one)
    deadline = time.monotonic() + 240
    with launched(two) as launcher:
        while not list((tmp_path / "two/evaluations").glob("*/sets/*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(max(ranks_of(tmp_path / "two")), signal.SIGKILL)
        out, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    assert json.loads(out)["launch"]["attempts"] == 2
    assert made(tmp_path / "two") == made(tmp_path / "one")


def ranks_of(store: Path) -> list[int]:
    """Processes that are ranks of a job in this store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            words = path.read_bytes().decode(errors="replace").split("\0")
            if str(store) in words and "hqclip.agent.rank" in words:
                found.append(int(path.parent.name))
    return found
