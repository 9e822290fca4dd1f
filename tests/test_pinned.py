"""An LVLM of a hub has a commit from the plan on: asked for once a cycle, written down, and used by every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig, PlanConfig
from hqclip.cycle.plan import run
from hqclip.demo.world import make_world
from hqclip.errors import NotFoundError, UnavailableError
from hqclip.models.names import hub_name, is_commit
from hqclip.presets import PRESETS
from hqclip.records import CyclePlan
from tests.fakes.hub import FakeHub
from tests.test_models import FILES


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))


def plan(root: Path, world: dict[str, Any], model: str, **more: Any) -> dict[str, Any]:
    given = {"shards": world["shards"], "suite": world["suite"], "preset": "demo-quick", "annotate_model": model}
    return run(PlanConfig.from_mapping({"store": str(root / "store"), **given, **more}))


def model_of(planned: dict[str, Any]) -> str:
    return str(planned["settings"]["annotate"]["model"])


def test_a_branch_is_resolved_once_and_written_down(tmp_path: Path, world: dict[str, Any], hub: FakeHub):
    commit = hub.push("org/lvlm", FILES)
    first = plan(tmp_path, world, "org/lvlm")
    assert model_of(first) == f"org/lvlm@{commit}"
    written = CyclePlan.from_json((tmp_path / "store" / first["plan"]).read_bytes(), "")
    assert written.settings["annotate"]["model"] == f"org/lvlm@{commit}"
    assert written.provenance is not None
    assert written.provenance["pinned"] == {"org/lvlm": f"org/lvlm@{commit}"}

    hub.push("org/lvlm", {**FILES, "merges.txt": b"other\n"})
    hub.asked.clear()
    assert plan(tmp_path, world, "org/lvlm") == first  # the branch moved: the open cycle keeps what it has
    hub.down = True
    assert plan(tmp_path, world, "org/lvlm") == first
    assert hub.asked == []


def test_another_revision_is_other_work(tmp_path: Path, world: dict[str, Any], hub: FakeHub):
    first = hub.push("org/lvlm", FILES, "v1")
    second = hub.push("org/lvlm", {**FILES, "merges.txt": b"other\n"})
    told = [plan(tmp_path, world, name) for name in ("org/lvlm@v1", "org/lvlm@main", f"org/lvlm@{first}")]
    assert [each["cycle"] for each in told] == [1, 2, 3]
    assert [model_of(each) for each in told] == [f"org/lvlm@{commit}" for commit in (first, second, first)]


def test_a_name_with_its_commit_is_not_asked_about(tmp_path: Path, world: dict[str, Any], hub: FakeHub):
    commit = hub.push("org/lvlm", FILES)
    assert model_of(plan(tmp_path, world, f"org/lvlm@{commit}")) == f"org/lvlm@{commit}"
    assert hub.asked == []


@pytest.mark.parametrize("model", ["gs://bucket/lvlm", "s3://bucket/lvlm", "demo", "/models/qwen", "./lvlms/q"])
def test_what_is_on_no_hub_stays_as_it_is(tmp_path: Path, world: dict[str, Any], hub: FakeHub, model: str):
    assert model_of(plan(tmp_path, world, model)) == model
    assert hub.asked == []


def test_what_a_server_calls_its_model_is_not_asked_about(tmp_path: Path, world: dict[str, Any], hub: FakeHub):
    overrides = json.dumps({"annotate.engine": "openai", "annotate.server": "http://host/v1"})
    assert model_of(plan(tmp_path, world, "org/lvlm", overrides=overrides)) == "org/lvlm"
    assert hub.asked == []


def test_what_the_hub_does_not_tell_opens_no_cycle(
    tmp_path: Path, world: dict[str, Any], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(NotFoundError, match="model org/gone of the hub"):
        plan(tmp_path, world, "org/gone")
    hub.down = True
    with pytest.raises(UnavailableError, match="a name with a commit is not asked about: org/lvlm@COMMIT"):
        plan(tmp_path, world, "org/lvlm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match="this machine is offline"):
        plan(tmp_path, world, "org/lvlm")
    assert not list((tmp_path / "store").glob("cycles/*.plan.json"))


def test_presets_name_a_commit():
    models = {settings["annotate"]["model"] for settings in PRESETS.values()} - {"demo"}
    assert models
    for model in models:
        name = hub_name(model)
        assert name
        assert is_commit(name.revision)
