"""`hqclip models fetch`: a model of a hub in a store of one's own, complete or not there, and how its name is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.vllm import engine_arguments
from hqclip.cli import main
from hqclip.config import AnnotateConfig
from hqclip.demo.lvlm import folder
from hqclip.errors import ConfigError, ConflictError, NotFoundError, UnavailableError
from hqclip.models.config import ModelsFetchConfig
from hqclip.models.contents import folder_digest
from hqclip.models.fetch import run
from hqclip.models.find import find
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from tests.fakes.gcs import FakeGcs
from tests.fakes.hub import FakeHub
from tests.test_models import FILES, FIRST

LVLM = {path.name: path.read_bytes() for path in folder().iterdir()}


def test_a_model_is_mirrored_and_used_by_the_name_that_is_printed(
    hub: FakeHub, fake_gcs: FakeGcs, models_cache: Path, capsys: pytest.CaptureFixture[str]
):
    commit = hub.push("org/lvlm", {**LVLM, "pytorch_model.bin": b"a pickle", "modeling_evil.py": b"raise SystemExit"})
    assert main(["models", "fetch", "--model", "org/lvlm", "--to", "gs://bucket/store"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == f"gs://bucket/store/models/org--lvlm/{commit}"
    assert (told["revision"], told["digest"]) == (commit, folder_digest(folder()))
    assert told["brought"] == told["files"] == len(LVLM) - 1  # not its README
    stored = set(open_store("gs://bucket/store/models/org--lvlm").list())
    assert stored == {f"{commit}.json", *(f"{commit}/{name}" for name in LVLM if name != "README.md")}
    assert "hf_" not in open_store("gs://bucket/store/models/org--lvlm").read(f"{commit}.json").decode()

    hub.down = True
    config = AnnotateConfig(store="s", pool="p", prompt="shapes-1", model=told["model"])
    annotator = Annotator.of(config)
    assert annotator.lvlm == {"model": told["model"], "revision": "", "digest": told["digest"]}
    assert annotator.digest == Annotator.of(AnnotateConfig(store="s", pool="p", prompt="shapes-1")).digest
    arguments = engine_arguments(config, annotator.folder, {}, on_cpu=False)
    assert Path(arguments["model"]).is_relative_to(models_cache)
    assert "revision" not in arguments


def test_an_lvlm_of_a_hub_is_on_record_with_its_commit(hub: FakeHub):
    commit = hub.push("org/lvlm", LVLM)
    annotator = Annotator.of(AnnotateConfig(store="s", pool="p", prompt="shapes-1", model="org/lvlm"))
    assert annotator.lvlm == {"model": "org/lvlm", "revision": commit, "digest": folder_digest(folder())}


def test_without_a_store_only_the_cache_is_filled(hub: FakeHub, models_cache: Path):
    commit = hub.push("org/lvlm", FILES)
    told = run(ModelsFetchConfig(model="org/lvlm"))
    assert (told["brought"], told["revision"]) == (0, commit)
    assert Path(told["model"]).is_relative_to(models_cache)
    assert folder_digest(Path(told["model"])) == told["digest"]


def test_what_breaks_off_is_no_model_and_goes_on_with_the_rest(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commit = hub.push("org/lvlm", FILES)
    root, write, left = tmp_path / "store", LocalStore.write, [3]

    def failing(store: LocalStore, key: str, data: Path) -> object:
        if not left[0]:
            raise UnavailableError("gone")
        left[0] -= 1
        return write(store, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", failing)
        with pytest.raises(UnavailableError, match="gone"):
            run(ModelsFetchConfig(model="org/lvlm", to=str(root)))
    part = root / "models" / "org--lvlm" / commit
    assert part.is_dir()
    assert not (part / "config.json").exists()
    assert not part.with_suffix(".json").exists()
    there = len(list(part.iterdir()))
    assert run(ModelsFetchConfig(model="org/lvlm", to=str(root)))["brought"] == len(FILES) - there
    assert run(ModelsFetchConfig(model="org/lvlm", to=str(root)))["brought"] == 0
    assert find(str(part)).digest == find("org/lvlm").digest


def test_nothing_is_overwritten(hub: FakeHub, tmp_path: Path):
    commit = hub.push("org/lvlm", FILES)
    taken = tmp_path / "models" / "org--lvlm" / commit / FIRST
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"something else")
    with pytest.raises(ConflictError, match=f"{FIRST} exists with other content, and is left alone"):
        run(ModelsFetchConfig(model="org/lvlm", to=str(tmp_path)))
    assert taken.read_bytes() == b"something else"


def test_a_model_of_pickles_is_not_fetched(hub: FakeHub):
    hub.push("org/old", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    with pytest.raises(ConfigError, match="'org/old' has no weights in safetensors.*save_pretrained"):
        run(ModelsFetchConfig(model="org/old"))
    assert "pytorch_model.bin" not in hub.fetched


def test_a_name_that_nobody_knows_has_its_exit_code(hub: FakeHub, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "fetch", "--model", "org/none"]) == NotFoundError.exit_code
    assert "hqclip models fetch: model org/none of the hub: " in capsys.readouterr().err


def test_a_token_is_shown_to_the_hub_alone(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    hub.push("org/gated", FILES)
    hub.gated.add("org/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    told = run(ModelsFetchConfig(model="org/gated", to=str(tmp_path / "store")))
    assert hub.tokens == {"hf_secret"}
    assert hub.tokens_elsewhere == set()
    assert "hf_secret" not in Path(f"{told['model']}.json").read_text()


def test_a_bucket_is_mirrored_into_another(fake_gcs: FakeGcs, models_cache: Path):
    for name, content in FILES.items():
        open_store("gs://elsewhere/own").write(name, content)
    told = run(ModelsFetchConfig(model="gs://elsewhere/own/", to="gs://bucket/store"))
    assert told["model"] == f"gs://bucket/store/models/own/{told['digest'][:16]}"
    assert find(told["model"]).digest == told["digest"]
