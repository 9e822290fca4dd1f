"""Which models are read at all: weights in safetensors, all in the folder whose digest names the annotator."""

from __future__ import annotations

import asyncio
import json
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.engines.transformers import TransformersEngine
from hqclip.annotate.prompt import PROMPTS
from hqclip.annotate.weights import check_weights
from hqclip.clip import ExportedClip
from hqclip.config import LOCAL_ENGINES, AnnotateConfig
from hqclip.demo.lvlm import folder
from hqclip.errors import ConfigError, NotFoundError
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.models.contents import folder_digest
from hqclip.store import open_store


class Evil:
    """Leaves a trace wherever it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's LVLM, to be changed."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in folder().iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def config_of(model: Path, engine: str = "transformers") -> AnnotateConfig:
    return AnnotateConfig(store="s", pool="p", prompt="shapes-1", engine=engine, model=str(model))


async def start_and_close(engine: TransformersEngine) -> None:
    try:
        await engine.start()
    finally:
        await engine.close()


@pytest.mark.parametrize("engine", LOCAL_ENGINES)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "model.gguf", "consolidated.00.pth"])
def test_other_weights_are_refused_with_what_to_do(model: Path, name: str, engine: str):
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(ConfigError, match=f"no weights in safetensors, only {name}.*save_pretrained"):
        Annotator.of(config_of(model, engine))


def test_a_pickle_beside_the_weights_is_not_opened_and_decides_nothing(model: Path, tmp_path: Path):
    digest = folder_digest(model)
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (model / name).write_bytes(pickle.dumps(Evil(tmp_path / "trace")))
    assert Annotator.of(config_of(model)).about["model_digest"] == digest
    check_weights(model)
    engine = TransformersEngine(config_of(model), PROMPTS["shapes-1"], model)
    asyncio.run(start_and_close(engine))
    assert not (tmp_path / "trace").exists()


def test_an_engine_refuses_pickles_itself(model: Path):
    weights = AutoModelForImageTextToText.from_pretrained(str(model)).state_dict()
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")
    for engine in LOCAL_ENGINES:
        with pytest.raises(ConfigError, match="no weights in safetensors"):
            asyncio.run(make_engine(config_of(model, engine), PROMPTS["shapes-1"], model).start())


def test_an_adapter_is_to_be_merged_first(model: Path):
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds an adapter.*merge"):
        Annotator.of(config_of(model))


@pytest.mark.parametrize(
    "name", ["../elsewhere.safetensors", "deep/model.safetensors", "gone.safetensors", "model.bin"]
)
def test_an_index_names_only_what_the_digest_covers(model: Path, name: str):
    (model / "deep").mkdir()
    (model / "deep" / "model.safetensors").write_bytes(b"")
    index = {"weight_map": {"a": "model.safetensors", "b": name}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="which is no .safetensors file beside it"):
        Annotator.of(config_of(model))


def test_a_config_asks_for_no_code_of_a_hub(model: Path):
    config = json.loads((model / "config.json").read_text())
    config["text_config"] = {**config.get("text_config", {}), "_attn_implementation": "evil/kernels"}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="asks for code of a hub"):
        Annotator.of(config_of(model))


def test_code_of_the_author_is_neither_run_nor_asked_about(model: Path, tmp_path: Path):
    (model / "evil.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nclass Evil: pass\n")
    for name in ("processor_config.json", "tokenizer_config.json", "config.json"):
        document = json.loads((model / name).read_text())
        document["auto_map"] = {"AutoProcessor": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
        (model / name).write_text(json.dumps(document))

    with suppress(ConfigError):  # either is right, as long as nothing runs
        asyncio.run(start_and_close(TransformersEngine(config_of(model), PROMPTS["shapes-1"], model)))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"model_cfg": {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}},
        {"model_cfg": {"vision_cfg": {"timm_kwargs": {"auto_map": {"a": "evil--b"}}}}},
    ],
    ids=json.dumps,
)
def test_an_exported_clip_brings_no_code(tmp_path: Path, config: dict[str, object]):
    store = open_store(str(tmp_path))
    store.write(f"m/{CONFIG}", json.dumps(config).encode())
    store.write(f"m/{WEIGHTS}", b"never looked at")
    with pytest.raises(ConfigError, match=f"{CONFIG} asks to run code of the model's author"):
        ExportedClip(store, "m")


def test_an_exported_clip_without_safetensors_is_none(tmp_path: Path):
    store = open_store(str(tmp_path))
    store.write(f"m/{CONFIG}", b"{}")
    store.write("m/open_clip_pytorch_model.bin", pickle.dumps(Evil(tmp_path / "trace")))
    with pytest.raises(NotFoundError, match="holds no exported model"):
        ExportedClip(store, "m")
    assert not (tmp_path / "trace").exists()
