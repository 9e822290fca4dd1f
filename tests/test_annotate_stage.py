"""What becomes of every image of a pool, with an engine that reads its answers from a table."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hqclip.annotate import stage
from hqclip.annotate.engine import Answer, Request
from hqclip.config import AnnotateConfig, DownloadConfig
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import read_annotations
from hqclip.errors import ConfigError, DataError, UnavailableError
from hqclip.records import Pool, Sample, Status
from hqclip.store import open_store

GOOD = json.dumps({"tags": ["a"], "neg_tags": ["b"], "desc": ["an a"], "neg_desc": ["a b"]})


class Scripted:
    """Answers by alt-text; remembers what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers, self.asked = answers, []

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        self.asked += [request.alt_text for request in requests]
        return [self.answers.get(request.alt_text, Answer(GOOD, True, 5, 7)) for request in requests]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted({})
    monkeypatch.setattr(stage, "start_engine", lambda *_: scripted)
    return scripted


def truncated_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()[:1500]


def pool_of(folder: Path, samples: Sequence[Sample]) -> AnnotateConfig:
    """A store with one shard of these samples, and the settings to annotate it."""
    write_shard(samples, folder / "00000.tar")
    result = download(DownloadConfig(store=str(folder / "store"), shards=str(folder / "00000.tar")))
    return AnnotateConfig(
        store=str(folder / "store"), pool=result["pool"], prompt="shapes-1", batch_size=3, max_fault_rate=0.5
    )


def statuses(config: AnnotateConfig, result: dict[str, Any]) -> list[Status]:
    store = open_store(config.store)
    entry = Pool.from_json(store.read(config.pool), config.pool).shards[0]
    return [row.status for row in read_annotations(store, f"{result['annotations']}/{entry.name}.parquet", entry)]


def test_every_sample_has_a_row_and_every_fault_a_name(
    tmp_path: Path, engine: Scripted, draw_samples: Callable[..., list[Sample]]
):
    samples = draw_samples(5)
    samples[3] = Sample(samples[3].uid, truncated_jpeg(), "alt-text 3")
    engine.answers = {
        "alt-text 1": Answer('{"tags": [', False, 5, 400),
        "alt-text 2": Answer("", False, 0, 0, error="RuntimeError: out of memory"),
    }
    config = pool_of(tmp_path, samples)
    result = stage.run(config.__class__(**{**config.to_mapping(), "max_fault_rate": 0.9}))
    assert statuses(config, result) == [
        Status.OK,
        Status.TRUNCATED,
        Status.ENGINE_ERROR,
        Status.UNREADABLE_IMAGE,
        Status.OK,
    ]
    assert result["output_tokens"] == 7 + 400 + 7
    assert engine.asked == ["alt-text 0", "alt-text 1", "alt-text 2", "alt-text 4"]


def test_what_is_annotated_is_not_asked_again(
    tmp_path: Path, engine: Scripted, draw_samples: Callable[..., list[Sample]]
):
    config = pool_of(tmp_path, draw_samples(4))
    first = stage.run(config)
    assert (first["already_done"], len(engine.asked)) == (0, 4)
    again = stage.run(config)
    assert (again["already_done"], len(engine.asked)) == (1, 4)
    assert again["statuses"] == first["statuses"]


def test_too_many_faults_stop_the_stage_and_name_the_commonest_reasons(
    tmp_path: Path, engine: Scripted, draw_samples: Callable[..., list[Sample]]
):
    engine.answers = {f"alt-text {n}": Answer("no JSON here", True, 5, 3) for n in range(3)}
    config = pool_of(tmp_path, draw_samples(4))
    with pytest.raises(DataError, match=r"3 of 4 samples have no usable texts \(not_json 3\), more than 50.0%"):
        stage.run(config)


def test_another_prompt_or_model_is_another_annotator(tmp_path: Path):
    (tmp_path / "prompt.txt").write_text("Describe.")
    config = AnnotateConfig(store="s", pool="p")
    prompts = ["shapes-1", "web-1", str(tmp_path / "prompt.txt")]
    digests = {
        json.dumps(stage.describe_annotator(config, stage.load_prompt(name), stage.DEMO_MODEL)) for name in prompts
    }
    assert len(digests) == 3


def test_batch_size_and_threads_do_not_make_another_annotator():
    prompt = stage.load_prompt("shapes-1")
    one, other = (AnnotateConfig(store="s", pool="p", batch_size=n, threads=n) for n in (1, 8))
    assert stage.describe_annotator(one, prompt, stage.DEMO_MODEL) == stage.describe_annotator(
        other, prompt, stage.DEMO_MODEL
    )


def test_a_hub_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="model 'nobody/nothing' is not a folder, and the hub does not give it"):
        stage.model_folder("nobody/nothing")


def test_a_model_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="model 'no/such folder' is neither a folder nor on the hub"):
        stage.model_folder("no/such folder")
