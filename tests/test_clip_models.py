"""What a user may call a model: a folder of the store or elsewhere, one of a hub, of open_clip, of transformers."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, SiglipConfig

from hqclip.clip import ExportedClip
from hqclip.clip.export import run as export
from hqclip.config import ExportTransformersConfig
from hqclip.errors import ConfigError, ConflictError, DataError, HQClipError, NotFoundError
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.store import open_store
from hqclip.train.model import HQClip
from tests.clips import COLOURS, TEXTS, TOWERS, pictures, write_clip
from tests.fakes.hub import FakeHub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with exports, with and without quick GELU, and both of them as transformers has them."""
    folder = tmp_path_factory.mktemp("models")
    for name, quick_gelu in (("gelu", False), ("quick", True)):
        write_clip(folder / name, {**TOWERS, "quick_gelu": quick_gelu}, seed=3)
        export(ExportTransformersConfig(store=str(folder), model=name, out=str(folder / f"{name}-hf")))
    return folder


def clip_of(folder: Path, name: str) -> ExportedClip:
    return ExportedClip(open_store(str(folder)), name, device="cpu")


def texts_of(folder: Path, name: str) -> torch.Tensor:
    return clip_of(folder, name).texts(TEXTS)


@pytest.mark.parametrize("name", ["gelu", "quick"])
def test_an_export_gives_the_same_logits_in_transformers(folder: Path, name: str):
    theirs = CLIPModel.from_pretrained(folder / f"{name}-hf").eval()
    tokens = CLIPTokenizer.from_pretrained(folder / f"{name}-hf")(TEXTS, padding=True, return_tensors="pt")
    pixels = torch.rand(5, 3, 32, 32)
    stock = open_clip.create_model(f"local-dir:{folder / name}").eval()
    with torch.no_grad():
        logits = theirs(**tokens, pixel_values=pixels).logits_per_image
        image, text, scale = stock(pixels, open_clip.get_tokenizer("ViT-B-32")(TEXTS))[:3]
    assert torch.allclose(logits, scale * image @ text.T, atol=1e-4)
    assert logits.std() > 1e-2


def test_the_two_kinds_of_gelu_are_two(folder: Path):
    assert not torch.allclose(texts_of(folder, "gelu"), texts_of(folder, "quick"), atol=1e-4)


def test_the_processor_of_an_export_reads_texts_and_pictures_as_we_do(folder: Path):
    tokenizer = CLIPTokenizer.from_pretrained(folder / "gelu-hf")
    texts = [*TEXTS, "It's a déjà-vu, 3 of them!", "dog " * 100]
    ours = open_clip.get_tokenizer("ViT-B-32")(texts)
    theirs = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    for own, other in zip(ours, theirs, strict=True):
        end = int(own.argmax()) + 1
        assert own[:end].tolist() == other[:end].tolist()
    processor = CLIPImageProcessor.from_pretrained(folder / "gelu-hf")
    assert [list(processor.image_mean), list(processor.image_std)] == [COLOURS["mean"], COLOURS["std"]]
    assert processor(images=pictures(1)[0], return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)


@pytest.mark.parametrize("name", ["gelu", "quick"])
def test_a_model_of_transformers_is_what_it_was_made_from(folder: Path, name: str):
    assert torch.equal(texts_of(folder, f"{name}-hf"), texts_of(folder, name))
    images = pictures(3)
    ours, theirs = clip_of(folder, name).images(images, 2), clip_of(folder, f"{name}-hf").images(images, 2)
    assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that transformers itself made and saved, without a processor."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(1)
    tower = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        projection_dim=24, text_config=tower, vision_config={**tower, "image_size": 32, "patch_size": 16}
    )
    CLIPModel(config).save_pretrained(folder / "m")
    return folder


def test_a_folder_that_transformers_saved_gives_what_it_gives_there(saved: Path):
    theirs = CLIPModel.from_pretrained(saved / "m").eval()
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(theirs.get_text_features(tokens).pooler_output, dim=-1)
    assert torch.allclose(texts_of(saved, "m"), expected, atol=1e-6)
    assert torch.allclose(texts_of(saved, str(saved / "m")), expected, atol=1e-6)


def altered(saved: Path, tmp_path: Path, file: str, changes: Mapping[str, Any]) -> Path:
    """A copy with a JSON file that says something else; `a.b` is b in a."""
    shutil.copytree(saved / "m", tmp_path / "m")
    path = tmp_path / "m" / file
    document = json.loads(path.read_text()) if path.exists() else {}
    for name, value in changes.items():
        part, _, key = name.rpartition(".")
        (document[part] if part else document)[key] = value
    path.write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "siglip"}, "is a 'siglip' of transformers; only its CLIPModel is known here"),
        ({"text_config.hidden_act": "silu"}, "hidden_act 'quick_gelu' and 'silu'"),
        ({"text_config.vocab_size": 30522}, "text_config.vocab_size 30522"),
        ({"text_config.layer_norm_eps": 1e-6}, "text_config.layer_norm_eps 1e-06"),
        ({"vision_config.num_hidden_layers": 3}, "its weights have no vision_model.encoder.layers.2"),
        ({"vision_config.num_hidden_layers": 1}, "its weights have vision_model.encoder.layers.1.* too"),
    ],
)
def test_a_model_of_transformers_that_open_clip_cannot_be_is_refused(
    saved: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        texts_of(altered(saved, tmp_path, "config.json", changes), "m")


@pytest.mark.parametrize("part", [7, [], "x", {"hidden_size": 0}, {"hidden_size": "x"}])
def test_a_damaged_config_of_transformers_is_named(saved: Path, tmp_path: Path, part: Any):
    folder = altered(saved, tmp_path, "config.json", {"vision_config": part})
    with pytest.raises((DataError, ConfigError), match="m"):
        texts_of(folder, "m")


def test_another_vocabulary_is_refused(saved: Path, tmp_path: Path):
    folder = altered(saved, tmp_path, "vocab.json", {"<unk>": 0})
    with pytest.raises(ConfigError, match=r"m/vocab.json is another vocabulary than CLIP's"):
        texts_of(folder, "m")


def test_the_digest_covers_weights_config_and_pictures(saved: Path, tmp_path: Path):
    digest = clip_of(saved, "m").digest
    assert clip_of(saved, str(saved / "m")).digest == digest
    gelu = {"text_config.hidden_act": "gelu", "vision_config.hidden_act": "gelu"}
    changed = [
        altered(saved, tmp_path / "1", "preprocessor_config.json", {"image_mean": [0, 0, 0]}),
        altered(saved, tmp_path / "2", "config.json", gelu),
        altered(saved, tmp_path / "3", "other.json", {}),
    ]
    weights = load_file(saved / "m/model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, changed[2] / "m/model.safetensors", {"format": "pt"})
    assert len({digest, *(clip_of(folder, "m").digest for folder in changed)}) == 4


def test_pickled_weights_are_never_opened(saved: Path, tmp_path: Path):
    folder = altered(saved, tmp_path, "config.json", {})
    (folder / "m/model.safetensors").unlink()
    (folder / "m/pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(NotFoundError, match=r"no model.safetensors: save it in safetensors"):
        texts_of(folder, "m")


def test_a_hub_gives_either_form_at_a_revision(folder: Path, hub: FakeHub, tmp_path: Path):
    def push(name: str, *refs: str) -> None:
        files = {path.name: path.read_bytes() for path in (folder / name).iterdir()}
        hub.push(f"org/{name}", {**files, "pytorch_model.bin": b"a pickle"}, *refs)

    push("gelu")
    push("quick-hf", "v2")
    assert torch.equal(texts_of(tmp_path, "hf-hub:org/gelu"), texts_of(folder, "gelu"))
    assert torch.equal(texts_of(tmp_path, "hf-hub:org/quick-hf@v2"), texts_of(folder, "quick"))
    assert "pytorch_model.bin" not in hub.fetched


def test_a_hub_that_is_not_there_is_said(folder: Path):
    with pytest.raises(NotFoundError, match="model nobody/nothing of the hub: .*offline"):
        texts_of(folder, "hf-hub:nobody/nothing")


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What open_clip downloads: weights of a small model, which it knows under two names."""
    open_clip.add_model_config(tmp_path)
    for name, quick_gelu in (("tiny-clip", False), ("tiny-clip-quickgelu", True)):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, {**TOWERS, "quick_gelu": quick_gelu})
        tag = open_clip.pretrained._pcfg("http://nowhere/weights.pt", quick_gelu=True)
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"web": tag})
    write_clip(tmp_path / "quick", {**TOWERS, "quick_gelu": True}, seed=3)
    path = tmp_path / "weights.safetensors"
    shutil.copy(tmp_path / "quick" / WEIGHTS, path)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda told: str(path))
    return path


def test_a_model_of_open_clip_has_a_tag(folder: Path, weights: Path):
    clip = clip_of(folder, "tiny-clip-quickgelu:web")
    assert torch.equal(clip.texts(TEXTS), texts_of(folder, "quick"))
    assert len(clip.digest) == 16


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ViT-B-33:openai", NotFoundError, "open_clip has no pretrained model 'ViT-B-33'; did you mean 'ViT-B-32'"),
        ("ViT-B-32:laion2b", NotFoundError, "ViT-B-32 has no tag 'laion2b'; did you mean 'laion2b_e16'.*; known: "),
        ("tiny-clip:web", ConfigError, "trained with another GELU; give tiny-clip-quickgelu:web"),
        ("nothing/at/all", NotFoundError, "nothing/at/all holds no exported model and no CLIPModel of transformers"),
        ("/nowhere/at/all", NotFoundError, "/nowhere/at/all holds no exported model"),
        ("s3x://bucket/model", ConfigError, "give gs://bucket/prefix, s3://bucket/prefix or a local folder"),
    ],
)
def test_a_name_that_stands_for_nothing_says_what_could_be_meant(
    folder: Path, weights: Path, name: str, kind: type[HQClipError], message: str
):
    with pytest.raises(kind, match=message):
        clip_of(folder, name)


def test_pickled_weights_of_open_clip_are_refused(folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda told: str(weights.with_suffix(".pt")))
    with pytest.raises(ConfigError, match="its weights are a .pt, which could run code; choose others"):
        clip_of(folder, "tiny-clip-quickgelu:web")


def test_pictures_are_resized_as_the_config_says(folder: Path, tmp_path: Path):
    for name, pixels in (("squash", {"resize_mode": "squash"}), ("bilinear", {"interpolation": "bilinear"})):
        write_clip(tmp_path / name, TOWERS, seed=3, **pixels)
    wide = [torch.arange(40 * 60 * 3).remainder(251).byte().reshape(40, 60, 3).numpy()]
    usual = clip_of(folder, "gelu").images(wide, 1)
    squashed, bilinear = (clip_of(tmp_path, name).images(wide, 1) for name in ("squash", "bilinear"))
    assert not torch.allclose(usual, squashed, atol=1e-3)
    assert not torch.allclose(usual, bilinear, atol=1e-5)
    write_clip(tmp_path / "odd", TOWERS, resize_mode="longest")
    with pytest.raises(ConfigError, match=f"odd/{CONFIG} asks for resize_mode 'longest'; known here: shortest, squash"):
        clip_of(tmp_path, "odd")


def test_a_tokenizer_that_is_not_clips_own_goes_with_the_export(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = {**TOWERS["text_cfg"], "hf_tokenizer_name": str(folder / "gelu-hf")}
    known = {**open_clip.factory._MODEL_CONFIGS, "own-words": {**TOWERS, "text_cfg": text}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known)  # which a rescan replaces, too
    trained = HQClip("own-words", [0.5])
    trained.export(tmp_path / "m")
    with torch.no_grad():
        expected = torch.nn.functional.normalize(trained.clip.encode_text(trained.tokenizer(TEXTS)), dim=-1)
    assert torch.allclose(texts_of(tmp_path, "m"), expected, atol=1e-6)


CUT = '{"version": "1.0", "mod'
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("tokenizer.json", content) for content in ("{}", "[]", CUT, DEEP)),
        *(("tokenizer_config.json", content) for content in ("[]", CUT, DEEP)),
    ],
)
def test_a_damaged_tokenizer_of_a_model_whose_digest_nobody_wrote_down_is_told(
    folder: Path, tmp_path: Path, file: str, content: str
):
    text = {**TOWERS["text_cfg"], "hf_tokenizer_name": str(folder / "gelu-hf")}
    own = write_clip(tmp_path / "own", {**TOWERS, "text_cfg": text})
    for path in (folder / "gelu-hf").glob("*token*"):
        shutil.copy(path, own)
    clip_of(tmp_path, "own")
    (own / file).write_text(content)
    with pytest.raises(ConfigError, match="own does not load in open_clip: .*; bring it back"):
        clip_of(tmp_path, "own")


@pytest.mark.parametrize("length", [None, "x", [], {}, 0, -1, True])
def test_a_length_of_texts_that_is_no_number_is_told(tmp_path: Path, length: Any):
    folder = write_clip(tmp_path / "m", TOWERS)
    told = json.loads((folder / CONFIG).read_bytes())
    told["model_cfg"]["text_cfg"]["context_length"] = length
    (folder / CONFIG).write_text(json.dumps(told))
    with pytest.raises(DataError, match="context_length is .*, no number of tokens; bring it back"):
        clip_of(tmp_path, "m")


RESNET = {**TOWERS, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}}
TIMM = {
    **TOWERS,
    "vision_cfg": {"image_size": 32, "timm_model_name": "test_convnext2", "timm_pool": "avg", "timm_proj": "linear"},
}
POOLED = {**TOWERS, "text_cfg": {**TOWERS["text_cfg"], "pool_type": "last"}}


@pytest.mark.parametrize(
    ("towers", "message"),
    [
        (RESNET, r"layers \[1, 1, 1, 1\]; load it with open_clip"),
        (TIMM, "vision_cfg.timm_model_name, vision_cfg.timm_pool"),
        (POOLED, "text_cfg.pool_type"),
    ],
)
def test_a_model_without_that_form_is_not_exported(tmp_path: Path, towers: Mapping[str, Any], message: str):
    write_clip(tmp_path / "m", towers)
    with pytest.raises(ConfigError, match=f"m has no form as a CLIPModel of transformers.*{message}"):
        export(ExportTransformersConfig(store=str(tmp_path), model="m", out=str(tmp_path / "out")))
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["m"]


def test_an_export_overwrites_nothing(folder: Path):
    with pytest.raises(ConflictError, match="gelu-hf is there already; give another --out"):
        export(ExportTransformersConfig(store=str(folder), model="gelu", out=str(folder / "gelu-hf")))


def test_an_exported_model_of_another_kind_is_refused_by_transformers_name(tmp_path: Path):
    SiglipConfig().save_pretrained(tmp_path / "m")
    save_file({"a": torch.zeros(1)}, tmp_path / "m/model.safetensors")
    with pytest.raises(ConfigError, match="'siglip' of transformers"):
        clip_of(tmp_path, "m")
