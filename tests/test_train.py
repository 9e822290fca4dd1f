"""The loop: what it exports, how it stops, what it refuses. A small data set with a teacher's texts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from hqclip.clip import ExportedClip, encode_text
from hqclip.clip.export import run as export
from hqclip.config import ExportTransformersConfig, TrainConfig
from hqclip.errors import ConfigError, ConflictError, DataError, MissingSoftwareError, NotFoundError
from hqclip.exported import check_files
from hqclip.records import Sample
from hqclip.store import open_store
from hqclip.train import stage
from hqclip.train.losses import FUNCTIONS
from hqclip.train.model import HQClip
from tests.clips import TOWERS, write_clip
from tests.training import tiny_run, words


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    return tiny_run(tmp_path_factory.mktemp("train"), draw_samples(24))


def test_the_exported_model_is_the_trained_one_in_stock_open_clip(config: TrainConfig, tmp_path: Path):
    result = stage.run(config)
    assert (result["steps"], result["samples_seen"]) == (6, 48)
    store = open_store(config.store)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        store.download(f"{result['model']}/{name}", tmp_path / name)
    stock, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a small red ring", "a ring"])
    ours = ExportedClip(store, result["model"], device="cpu")
    with torch.no_grad():
        expected = stock.eval().encode_text(tokens, normalize=True)
    assert torch.allclose(ours.texts(["a small red ring", "a ring"]), expected, atol=1e-6)
    assert preprocess is not None
    assert ours.digest == result["model_digest"]
    assert "samples seen" in store.read(f"{result['model']}/README.md").decode()
    assert any("/tensorboard/events" in key for key in store.list(f"runs/{config.run}/"))
    lines = [json.loads(line) for line in store.read(f"runs/{config.run}/metrics.jsonl").splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]


MIXED = {"negative_weight": 0.0, "tag_weight": 0.0}


@pytest.mark.parametrize(("recipe", "changes"), [("hqclip", {}), ("mixed", MIXED)])
def test_training_measures_what_it_always_did(config: TrainConfig, recipe: str, changes: dict[str, Any]):
    """Up to the rounding of another CPU; the golden lines were written before the losses had a registry."""
    golden = Path(__file__).parent / f"golden/train/{recipe}.jsonl"
    run = replace(config, run=f"golden-{recipe}", generated_share=0.5, learning_rate=1e-3, **changes)
    stage.run(run)
    written = open_store(config.store).read(f"runs/{run.run}/metrics.jsonl").decode()
    lines = [json.loads(line) for line in written.splitlines()]
    expected = [json.loads(line) for line in golden.read_text().splitlines()]
    assert [list(line) for line in lines] == [list(line) for line in expected]
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, rel=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(config: TrainConfig):
    digests = [
        stage.run(replace(config, run=f"seed-{n}", seed=seed))["model_digest"] for n, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_trimming_the_padding_changes_no_feature():
    model = HQClip("ViT-B-32", [0.5]).clip.eval()
    tokens = open_clip.get_tokenizer("ViT-B-32")(["a ring", "a small red ring left of a large blue square"])
    with torch.no_grad():
        assert torch.allclose(encode_text(model, tokens), model.encode_text(tokens), atol=1e-5)


def test_a_run_name_stands_for_its_settings(config: TrainConfig):
    stage.run(replace(config, run="named", samples_seen=8))
    assert stage.run(replace(config, run="named", samples_seen=8, threads=2, decode_threads=3))["already_done"]
    with pytest.raises(ConflictError, match=r"run 'named' exists with other settings \(learning_rate\); give another"):
        stage.run(replace(config, run="named", samples_seen=8, learning_rate=0.1))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"run": "../x"}, ConfigError, "1 to 63 of a-z, 0-9, dots and dashes"),
        ({"model": "ViT-B-23"}, ConfigError, "unknown model 'ViT-B-23'; did you mean 'ViT-B-32'"),
        ({"dataset": "datasets/no/dataset.json"}, NotFoundError, "datasets/no/dataset.json"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    config: TrainConfig, changes: dict[str, Any], kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        stage.run(replace(config, **{"run": "wrong", **changes}))


def test_a_batch_larger_than_the_data_set_is_refused(config: TrainConfig):
    with pytest.raises(DataError, match="batch_size 32 is more than the 24 usable samples; give less"):
        stage.run(replace(config, run="greedy", batch_size=32))


def test_a_run_of_an_older_version_goes_on_though_it_knew_fewer_settings(config: TrainConfig):
    run, store = replace(config, run="older"), open_store(config.store)
    known = {name: value for name, value in run.lasting().items() if name not in ("beta2", "negative_ramp")}
    store.write("runs/older/config.json", json.dumps(known).encode())
    with pytest.raises(ConflictError, match=r"exists with other settings \(negative_ramp\); give another --run"):
        stage.run(replace(run, negative_ramp=0.5))
    assert stage.run(run)["model_digest"] == stage.run(replace(config, run="newer"))["model_digest"]
    assert json.loads(store.read("runs/older/config.json")) == known


def test_a_batch_that_does_not_fit_is_said_with_what_to_do(config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    def exhaust(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setitem(FUNCTIONS, "contrastive", exhaust)
    said = r"run large, 8 samples a step on 1 rank\(s\): CUDA out of memory.*; give a smaller batch_size, more ranks to"
    with pytest.raises(MissingSoftwareError, match=said):
        stage.run(replace(config, run="large"))


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_the_same_command_ends_with_the_same_weights(config: TrainConfig):
    expected = stage.run(replace(config, run="undisturbed", samples_seen=480, seed=5))["model_digest"]
    stopped = replace(config, run="stopped", samples_seen=480, seed=5)
    process = subprocess.Popen([sys.executable, *words(stopped)], stderr=subprocess.PIPE, text=True)
    store = open_store(config.store)
    deadline = time.monotonic() + 120
    while not store.exists("runs/stopped/checkpoints/step-000000003/receipt.json") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 143, said
    assert "with a checkpoint; the same command continues" in said
    assert stage.run(stopped)["model_digest"] == expected


def test_learning_needs_no_tags_and_no_negatives(config: TrainConfig):
    result = stage.run(replace(config, run="raw", generated_share=0.0, negative_weight=0.0, tag_weight=0.0))
    assert np.isfinite(result["losses"]["loss"])
    assert result["losses"]["negatives"] == 0.0


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_run_whose_documents_are_damaged_says_which(config: TrainConfig, damaged: bytes):
    run, store = replace(config, run=f"documents-{damaged.hex()}", samples_seen=8), open_store(config.store)
    stage.run(run)
    for name in ("result.json", "config.json"):
        store.write(f"runs/{run.run}/{name}", damaged, create_only=False)
        with pytest.raises(DataError, match=f"runs/{run.run}/{name} is damaged: no JSON.*; bring it back, or give ano"):
            stage.run(run)


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> TrainConfig:
    run = replace(config, run="whole", samples_seen=8)
    stage.run(run)
    return run


def copy_of(trained: TrainConfig, run: str, *names: str) -> Path:
    """A copy of the exported model, and of those files of its run, under another name."""
    source, folder = Path(trained.store) / "runs/whole", Path(trained.store) / f"runs/{run}"
    shutil.copytree(source / "model", folder / "model")
    for name in names:
        shutil.copy(source / name, folder / name)
    return folder / "model"


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
@pytest.mark.parametrize("how", ["cut", "flipped", "longer", "replaced"])
def test_a_model_that_was_altered_after_its_training_is_not_evaluated(trained: TrainConfig, name: str, how: str):
    run = f"{how}-{Path(name).suffix[1:]}"
    path = copy_of(trained, run, "result.json") / name
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-100], "longer": data + b" ", "replaced": b"{}"}.get(how, data))
    with pytest.raises(DataError, match=rf"runs/{run}/model is not what was trained: .* as runs/{run}/result.json"):
        ExportedClip(open_store(trained.store), f"runs/{run}/model")


@pytest.fixture(scope="module")
def own_words(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run of a model whose tokenizer is not CLIP's own."""
    folder = tmp_path_factory.mktemp("words")
    write_clip(folder / "clip", TOWERS)
    export(ExportTransformersConfig(store=str(folder), model="clip", out=str(folder / "words")))
    towers = {**TOWERS, "text_cfg": {**TOWERS["text_cfg"], "hf_tokenizer_name": str(folder / "words")}}
    run = replace(config, run="words", model="own-words", samples_seen=8)
    with pytest.MonkeyPatch.context() as patch:
        known = {**open_clip.factory._MODEL_CONFIGS, "own-words": towers}
        patch.setattr(open_clip.factory, "_MODEL_CONFIGS", known)  # which a rescan replaces, too
        stage.run(run)
    return run


@pytest.mark.parametrize("how", ["altered", "lost", "added"])
def test_a_tokenizer_that_was_altered_after_the_training_is_noticed_where_a_model_is(
    own_words: TrainConfig, tmp_path: Path, how: str
):
    shutil.copytree(own_words.store, tmp_path / "store")
    store, model = open_store(str(tmp_path / "store")), "runs/words/model"
    digest = ExportedClip(store, model, device="cpu").digest
    check_files(store, model, digest)
    tokenizer = f"{model}/tokenizer.json"
    if how == "altered":
        told = json.loads(store.read(tokenizer))
        number = told["model"]["vocab"]
        number["red</w>"], number["blue</w>"] = number["blue</w>"], number["red</w>"]
        store.write(tokenizer, json.dumps(told).encode(), create_only=False)
    elif how == "lost":
        store.delete(tokenizer)
    else:
        store.write(f"{model}/added_tokens.json", b'{"ring": 7}')
    for look in (lambda: ExportedClip(store, model, device="cpu"), lambda: check_files(store, model, digest)):
        with pytest.raises(DataError, match="words/model is not what was trained: its tokenizer has the digest .*bri"):
            look()
    result = json.loads(store.read("runs/words/result.json"))
    del result["tokenizer_digest"]  # as of an older version
    store.write("runs/words/result.json", json.dumps(result).encode(), create_only=False)
    check_files(store, model, digest)


def test_a_tokenizer_that_is_clips_own_has_no_digest(trained: TrainConfig):
    assert "tokenizer_digest" not in stage.run(trained)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 3000, -1, -100])
def test_damaged_weights_of_unknown_origin_are_named(trained: TrainConfig, size: int):
    path = copy_of(trained, f"elsewhere-{size}") / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=rf"elsewhere-{size}/model/open_clip_model.safetensors is damaged \("):
        ExportedClip(open_store(trained.store), f"runs/elsewhere-{size}/model")


@pytest.mark.parametrize(
    "said",
    [b"", b"{", b"[]", b"{}", b'{"preprocess_cfg": 7}', b'{"preprocess_cfg": {"mean": [0, 1], "std": "x"}}', b"\xff"],
)
def test_a_damaged_config_of_unknown_origin_is_named(trained: TrainConfig, said: bytes):
    run = f"config-{said.hex()[:50]}"
    (copy_of(trained, run) / "open_clip_config.json").write_bytes(said)
    with pytest.raises(DataError, match=rf"{run}/model/open_clip_config.json is damaged: no "):
        ExportedClip(open_store(trained.store), f"runs/{run}/model")


def test_a_model_from_elsewhere_that_is_whole_is_taken(trained: TrainConfig):
    copy_of(trained, "elsewhere")
    assert ExportedClip(open_store(trained.store), "runs/elsewhere/model").digest


@pytest.mark.parametrize("how", ["lost", "damaged", "of another version"])
def test_an_export_that_was_cut_short_is_written_again_whatever_it_says(config: TrainConfig, how: str):
    """Its card tells the losses, which are left out where their curve is damaged, and the version that wrote it."""
    run = replace(config, run=f"cut-{how.replace(' ', '-')}", samples_seen=16)
    whole, store = stage.run(run), open_store(config.store)
    folder = f"runs/{run.run}"
    store.delete(f"{folder}/result.json")
    if how == "lost":
        store.delete(f"{folder}/metrics.jsonl")
    elif how == "damaged":
        store.write(f"{folder}/metrics.jsonl", b"{", create_only=False)
    else:
        for name in ("README.md", "tags.json", "open_clip_config.json", "open_clip_model.safetensors"):
            store.write(f"{folder}/model/{name}", b"other", create_only=False)
    again = stage.run(run)
    assert again["already_done"] is False and again["model_digest"] == whole["model_digest"]
    assert ExportedClip(store, again["model"]).digest == whole["model_digest"]
    assert bool(again["losses"]) == (how == "of another version")
    assert store.read(f"{folder}/model/README.md").decode().startswith(f"# {run.run}")


def test_a_run_that_another_process_has_finished_meanwhile_is_left_as_it_is(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    run, store, train = replace(config, run="overtaken", samples_seen=8), open_store(config.store), stage._train

    def overtaken(*work: Any) -> None:
        train(*work)
        store.write("runs/overtaken/model/README.md", b"theirs")
        store.write("runs/overtaken/result.json", b'{"model_digest": "theirs"}')

    monkeypatch.setattr(stage, "_train", overtaken)
    assert stage.run(run)["model_digest"] == "theirs"
    assert list(store.list("runs/overtaken/model/")) == ["runs/overtaken/model/README.md"]
