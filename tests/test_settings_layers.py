"""A flag wins over a variable, that over hqclip.yaml, that over a preset, and that over the default."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipelines.__main__ as pipelines
from hqclip import __version__, cli, project
from hqclip.config import CostConfig, PlanConfig
from hqclip.errors import ConfigError, NotFoundError
from hqclip.flags import choose_config
from hqclip.peek.config import PeekConfig
from pipelines.client import compare, cost, doctor
from pipelines.client.connect import _login, _said, _way_there
from pipelines.client.finding import Check, Finding
from pipelines.client.project_inputs import with_project
from pipelines.inputs import INPUTS

Write = Callable[[str], Path]
TEXT = {"parameterType": "STRING"}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(text)`: the project file of the working directory, which a folder above the tests does not reach."""
    here = tmp_path / "repository" / "deep" / "down"
    here.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HQCLIP_CONFIG")
    monkeypatch.chdir(here)

    def to(text: str) -> Path:
        path = tmp_path / "repository" / "hqclip.yaml"
        path.write_text(text)
        return path

    return to


def dry(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = cli.main([*words, "--dry-run"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return dict(json.loads(out))


TRAIN = ("train", "--dataset", "d", "--run", "r")


def test_each_layer_wins_over_those_below(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: of-the-file\n")
    assert dry(capsys, *TRAIN)["samples_seen"] == 12_800_000  # the default
    write("store: of-the-file\npreset: medium\n")
    assert dry(capsys, *TRAIN)["samples_seen"] == 128_000_000
    write("store: of-the-file\npreset: medium\ntrain: {samples_seen: 3}\n")
    assert dry(capsys, *TRAIN)["samples_seen"] == 3
    monkeypatch.setenv("HQCLIP_TRAIN_SAMPLES_SEEN", "2")
    assert dry(capsys, *TRAIN)["samples_seen"] == 2
    found = dry(capsys, *TRAIN, "--samples-seen", "1")
    assert (found["samples_seen"], found["store"]) == (1, "of-the-file")


def test_what_a_section_says_is_more_than_what_all_share_but_less_than_a_variable(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: shared\ntrain: {store: own}\n")
    assert dry(capsys, *TRAIN)["store"] == "own"
    monkeypatch.setenv("HQCLIP_STORE", "variable")
    assert dry(capsys, *TRAIN)["store"] == "variable"


def test_settings_of_stages_become_those_of_a_plan(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: s\nshards: x\ntrain: {warmup: 1, seed: 5, dataset: d}\ncurate: {name: n}\n")
    monkeypatch.setenv("HQCLIP_CURATE_NAME", "m")
    overrides = json.loads(dry(capsys, "plan")["overrides"])
    assert overrides == {"train.warmup": 1, "train.seed": 5, "curate.name": "m"}
    given = ["--overrides", '{"train.warmup": 2}', "--train-seed", "6"]
    overrides = json.loads(dry(capsys, "plan", *given)["overrides"])
    assert overrides == {"train.warmup": 2, "curate.name": "m"}  # the flag says the seed
    overrides = json.loads(dry(capsys, "plan", "--data-only", "true")["overrides"])
    assert overrides == {"curate.name": "m"}
    trials = ["--suite", "s", "--trials", '{"train.warmup": [1, 2]}']
    assert json.loads(dry(capsys, "sweep", *trials)["overrides"]) == {"train.seed": 5}


@pytest.mark.parametrize("words", [("plan",), ("sweep", "--suite", "s", "--trials", "{}"), ("cost",)])
def test_what_is_for_runs_by_hand_is_left_out_of_plans_with_a_word(
    write: Write, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    path = write("store: s\nshards: x\nevaluate: {limit: 8, batch_size: 4}\n")
    assert cli.main([*words, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(json.loads(out)["overrides"]) == {"evaluate.batch_size": 4}
    assert f"{path}:3: evaluate.limit is for `hqclip evaluate` by hand, and left out here" in err
    assert dry(capsys, "evaluate", "--model", "m", "--suite", "s")["limit"] == 8


def test_what_is_about_training_is_left_out_where_nothing_is_trained(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: s\nshards: x\nsuite: t\nplan: {train_seed: 4}\n")
    monkeypatch.setenv("HQCLIP_PLAN_TRAIN_SAMPLES_SEEN", "5")
    assert {name: dry(capsys, "plan")[name] for name in ("suite", "train_seed", "train_samples_seen")} == {
        "suite": "t",
        "train_seed": 4,
        "train_samples_seen": 5,
    }
    found = dry(capsys, "plan", "--data-only", "true")
    assert (found["suite"], found["train_seed"], found["train_samples_seen"]) == ("", 0, 0)
    assert dry(capsys, "plan", "--data-only", "true", "--train-seed", "3")["train_seed"] == 3  # `plan` refuses it


def test_a_launched_stage_takes_them_too(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hqclip.launch.commands import read_words
    from hqclip.launch.config import LaunchRunConfig

    write("store: s\ntrain: {warmup: 1}\n")
    words = ["train", "--dataset", "d", "--run", "r", "--seed", "2"]
    settings = read_words("launch run", LaunchRunConfig, words, cli.sections())[2]
    assert {name: settings[name] for name in ("store", "warmup", "seed")} == {"store": "s", "warmup": 1, "seed": "2"}


def test_what_deletes_decides_or_draws_a_demo_is_said_each_time(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: s\n")
    monkeypatch.setenv("HQCLIP_GC_DELETE", "true")
    monkeypatch.setenv("HQCLIP_GC_DAYS", "3")
    assert project.load(cli.sections()).under("gc", cli.COMMANDS["gc"].settings, {}) == {"store": "s", "days": "3"}
    for words in (["approve", "--cycle", "1"], ["demo", "world"]):
        assert cli.main([*words, "--dry-run"]) == ConfigError.exit_code
        assert "store is missing" in capsys.readouterr().err
    write("approve: {reject: true}\n")
    assert cli.main(["gc"]) == ConfigError.exit_code
    assert "unknown section 'approve'" in capsys.readouterr().err


def test_another_file_or_none_may_be_named(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("store: found\n")
    other = tmp_path / "other.yaml"
    other.write_text("store: other\n")
    monkeypatch.setenv("HQCLIP_CONFIG", str(other))
    assert dry(capsys, *TRAIN)["store"] == "other"
    assert cli.main([*TRAIN, "--config", "none", "--dry-run"]) == ConfigError.exit_code
    assert "store is missing" in capsys.readouterr().err
    monkeypatch.setenv("HQCLIP_CONFIG", "nowhere.yaml")
    with pytest.raises(NotFoundError, match=r"HQCLIP_CONFIG \(--config\) names nowhere.yaml: there is no such file"):
        project.load(cli.sections())


def test_a_file_above_the_repository_or_the_home_folder_is_not_looked_for(write: Write, tmp_path: Path) -> None:
    (tmp_path / "hqclip.yaml").write_text("store: of somebody else\n")
    assert project.find_file() is None
    found = write("")
    assert project.find_file() == found
    found.unlink()
    (tmp_path / "repository" / ".git").rmdir()
    assert project.find_file() == tmp_path / "hqclip.yaml"


def test_the_home_folder_ends_the_search(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("store: s\n")
    monkeypatch.setenv("HOME", str(tmp_path / "repository" / "deep"))
    assert project.find_file() is None


def test_a_name_of_before_and_an_empty_section_are_read(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("store: s\nshards: x\ntrain:\nplan: {points: [raw]}\n")
    assert dry(capsys, "plan")["trials"] == ["raw"]


def test_without_a_home_the_search_ends_at_the_root(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("store: s\n")
    monkeypatch.delenv("HOME")
    assert project.find_file() == path


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("train:\n  learnin_rate: 1\n", 2, "unknown setting 'train.learnin_rate'; did you mean 'learning_rate'?"),
        ("stroe: s\n", 1, "unknown setting 'stroe'; did you mean 'store'?"),
        ("trian: {seed: 1}\n", 1, "unknown section 'trian'; did you mean 'train'?"),
        ("store: s\ntrain: {seed: -1}\n", 2, "train.seed is -1; give 0 or more"),
        ("store: s\n\ntrain: {seed: many}\n", 3, "train.seed must be a number, got 'many'"),
        ("kfp: {host: 7}\n", 1, "kfp.host must be text, got 7"),
        ("plan:\n  points: [raw]\n  trials: [mixed]\n", 3, "plan.trials is given twice, by two of its names"),
        ("gc: {delete: true}\n", 1, "unknown setting 'gc.delete'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, text: str, line: int, why: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as fault:
        project.load(cli.sections())
    assert str(fault.value).startswith(f"{path}:{line}: {why}")


def test_the_page_shows_a_file_that_is_right_and_all_names_of_kubeflow(write: Write) -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    write(example)
    found = project.load(cli.sections())
    assert {name for section, name in found.file if not section} == set(project.SHARED)
    assert all(f"`{name}`" in page for name in project.KFP_NAMES)


@pytest.mark.parametrize(
    "text", ["kfp: {token: hunter2}\n", "kfp:\n  cookie: hunter2\n", "annotate: {server: 'http://me:hunter2@host'}\n"]
)
def test_secrets_are_never_in_the_file_nor_printed(write: Write, text: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match="secrets are never in this file") as fault:
        project.load(cli.sections())
    assert "hunter2" not in str(fault.value)


def test_a_variable_that_is_wrong_is_named(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HQCLIP_TRAIN_SEED", "many")
    assert cli.main([*TRAIN, "--store", "s", "--dry-run"]) == ConfigError.exit_code
    assert "HQCLIP_TRAIN_SEED: seed must be a number, got 'many'" in capsys.readouterr().err


def test_config_show_says_each_value_and_where_it_is_from(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("preset: medium\nannotate:\n  prompt: web-1\nkfp: {host: 'http://kubeflow'}\n")
    monkeypatch.setenv("HQCLIP_ANNOTATE_SERVER", "http://me:hunter2@host")
    monkeypatch.setenv("HQCLIP_KFP_TOKEN", "hunter3")
    assert cli.main(["config", "show", "--origin", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["setting"]: (row["value"], row["origin"]) for row in shown["settings"]}
    assert shown["file"] == str(path)
    assert rows["preset"] == ("medium", f"{path}:1")
    assert rows["annotate.prompt"] == ("web-1", f"{path}:3")
    assert rows["annotate.server"] == ("http://me:***@host", "HQCLIP_ANNOTATE_SERVER")
    assert rows["annotate.engine"] == ("vllm", "preset medium")
    assert rows["annotate.attempts"] == (3, "default")
    assert rows["train.dataset"] == (None, "not set")
    assert rows["kfp.host"] == ("http://kubeflow", f"{path}:4")
    assert set(rows) >= {f"{name}.store" for name in ("train", "plan", "gc")}
    assert cli.main(["config", "show", "--section", "kfp"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f"project file: {path}"
    assert [line.split() for line in table if line.startswith("kfp.host")] == [["kfp.host", "http://kubeflow"]]
    assert "hunter" not in json.dumps(shown) + "".join(table)


# the pipelines


def known(pipeline: str) -> dict[str, dict[str, str]]:
    return dict.fromkeys(INPUTS[pipeline].settings, TEXT)


def test_inputs_of_pipelines_are_settings_of_their_first_task(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("store: s\nshards: a\npreset: large\nplan: {trials: [raw, mixed], train_seed: 7}\ntrain: {warmup: 1}\n")
    monkeypatch.setenv("HQCLIP_SHARDS", "b")
    found = with_project("hqclip-refine", known("refine"), {"evaluate_suite": "given", "train_seed": "8"})
    assert found == {
        "store": "s",
        "evaluate_suite": "given",
        "download_shards": "b",
        "plan_preset": "large",
        "plan_overrides": '{"train.warmup": 1}',
        "train_trials": "raw,mixed",
        "train_seed": "8",
    }
    assert with_project("evaluate", known("evaluate"), {}) == {"store": "s", "plan_preset": "large"}
    assert "plan_overrides" not in with_project("annotate", known("annotate"), {})  # it trains nothing
    assert with_project("somebody-elses", {"store": TEXT}, {"a": 1}) == {"a": 1}


def test_a_demo_keeps_its_own_world(write: Write) -> None:
    write("store: production\nsuite: s\nshards: a\nplan: {trials: [raw]}\n")
    assert with_project("refine", known("refine"), {}, demo=True) == {"train_trials": "raw"}


def test_an_input_that_an_older_version_has_not_is_left_out(write: Write) -> None:
    write("store: s\nplan: {trials: [raw]}\n")
    assert with_project("refine", {"store": TEXT}, {}) == {"store": "s"}


def test_cost_compare_and_doctor_ask_the_project(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[CostConfig] = []
    monkeypatch.setattr(cost, "estimate", lambda config: asked.append(config) or [])
    monkeypatch.setattr(cost, "notes", lambda *_: [])
    monkeypatch.setattr(cost, "check_budget", lambda *_: None)
    write("store: s\nshards: pool\npreset: large\nlaunch: machines.yaml\ncost: {trials: [raw], gpu_prices: [A=1-2]}\n")
    assert pipelines.main(["cost", "--gpu-prices", "B=3,C=4", "-o", "json"]) == 0
    (config,) = asked
    assert (config.store, config.shards, config.preset, config.launch) == ("s", "pool", "large", "machines.yaml")
    assert (config.trials, config.gpu_prices) == (("raw",), ("B=3", "C=4"))

    monkeypatch.setattr(
        doctor, "checks", lambda given: [Check("s", lambda: Finding("ok", f"{given.store}|{given.launch}"))]
    )
    assert [pipelines.main(["doctor", *words]) for words in ([], ["--cluster"], ["--store", "t"])] == [0, 0, 0]
    found = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("ok")]
    assert found == ["s|", "s|machines.yaml", "t|"]

    stores: list[str] = []
    told = {"table": "", "metrics": [], "has_intervals": True}
    monkeypatch.setattr(compare.compare, "run", lambda config: stores.append(config.store) or told)
    assert [pipelines.main(["compare", "1", "2", *words]) for words in ([], ["--store", "t"])] == [0, 0]
    assert stores == ["s", "t"]


def test_without_a_project_they_say_what_is_missing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert [pipelines.main([*words]) for words in (["cost"], ["compare", "1", "2"])] == [64, 64]
    said = capsys.readouterr().err
    assert "store is missing" in said and "shards is missing" in said and "put it into hqclip.yaml" in said


def test_where_kubeflow_is_may_stand_in_the_file_below_variables(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    write(f"kfp: {{host: 'http://file', ui: 'http://ui', token_file: {token}, platform: p.yaml}}\n")
    given = argparse.Namespace(platform="", host=None, ui=None)
    pipelines._fill(given)
    assert (given.platform, _said(given, "ui"), _way_there(given)) == ("p.yaml", "http://ui", ("http://file", ""))
    assert _login(given).method == f"the token of kfp.token_file ({token})"
    monkeypatch.setenv("HQCLIP_KFP_PORT_FORWARD", "kubeflow")  # another way to the same: the file's gives way
    monkeypatch.setenv("HQCLIP_KFP_COOKIE", "c")
    assert _way_there(given) == ("", "kubeflow")
    assert _login(given).method == "the cookie of HQCLIP_KFP_COOKIE"
    given.host = "http://flag"
    assert _way_there(given) == ("http://flag", "")


@pytest.mark.parametrize(
    "elsewhere", [{"local": True}, {"docker": True}, {"version": "v"}, {"pipeline": "refine.yaml"}, {"what": ["r.yml"]}]
)
def test_a_platform_of_the_file_is_for_what_is_compiled_for_a_cluster(write: Write, elsewhere: dict[str, Any]) -> None:
    write("kfp: {platform: p.yaml}\n")
    given = argparse.Namespace(platform="", **elsewhere)
    pipelines._fill(given)
    assert given.platform == ""


def test_a_wrong_file_is_told_by_pipelines_too(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("store: s\nstroe: s\n")
    assert pipelines.main(["list"]) == ConfigError.exit_code
    assert f"pipelines: {path}:2: unknown setting 'stroe'" in capsys.readouterr().err


def test_the_config_flag_reaches_what_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HQCLIP_CONFIG", "none")
    choose_config("")
    assert os.environ["HQCLIP_CONFIG"] == "none"
    choose_config("mine.yaml")
    assert os.environ["HQCLIP_CONFIG"] == str(tmp_path / "mine.yaml")


def test_a_run_is_sent_with_what_the_project_says_or_without_it(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("store: gs://b/c\nsuite: gs://b/suite.json\nshards: gs://b/0.tar\npreset: medium\ntrain: {warmup: 3}\n")
    monkeypatch.setenv("HQCLIP_TRAIN_WARMUP", "4")
    monkeypatch.setenv("HQCLIP_TAG", __version__)  # images of a checkout have no digests
    words = ["run", "refine", "--dry-run", "-o", "json", "--set", "train_seed=5"]
    assert pipelines.main(words) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == {
        "store": "gs://b/c",
        "evaluate_suite": "gs://b/suite.json",
        "download_shards": "gs://b/0.tar",
        "plan_preset": "medium",
        "plan_overrides": '{"train.warmup": "4"}',
        "train_seed": "5",
    }
    assert (
        pipelines.main([*words, "--preset", "small", "--set", "store=mine", "--config", "none"])
        == ConfigError.exit_code
    )
    assert "pipeline inputs are missing" in capsys.readouterr().err


def test_a_demo_on_this_machine_has_its_world_and_the_rest_of_the_project(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("store: production\npreset: medium\ncurate: {name: mine}\n")
    ran: list[dict[str, Any]] = []
    monkeypatch.setattr("pipelines.local.Runner.run", lambda _, inputs: ran.append(inputs) or 1)
    monkeypatch.setattr("pipelines.demo.SIZES", {"demo-quick": (2, 8)})
    words = ["run", "annotate", "--local", "--out", str(tmp_path / "out")]
    assert pipelines.main([*words, "--preset", "demo-quick"]) == 1
    assert ran[0]["store"] == str(tmp_path / "out" / "store")
    assert (ran[0]["plan_preset"], ran[0]["plan_overrides"]) == ("demo-quick", '{"curate.name": "mine"}')
    assert pipelines.main([*words, "--set", "download_shards=s.tar"]) == 1
    assert (ran[1]["store"], ran[1]["plan_preset"]) == ("production", "medium")


def test_a_variable_of_a_stage_is_known_or_left_alone_and_a_wrong_value_is_told_by_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("")
    monkeypatch.setenv("HQCLIP_TRAIN_LEARNIN_RATE", "1")  # no setting has that name: it may be for something else
    given = {"shards": "p", "suite": "s", "store": "s"}
    found = project.load(cli.sections()).under("plan", PlanConfig, given)
    assert "overrides" not in found
    monkeypatch.setenv("HQCLIP_TRAIN_LEARNING_RATE", "fast")
    with pytest.raises(ConfigError, match="^HQCLIP_TRAIN_LEARNING_RATE: "):
        project.load(cli.sections()).under("plan", PlanConfig, given)


def test_what_peek_looks_at_is_not_what_the_project_trains_on(write: Write) -> None:
    write("store: s\nshards: pool.tar\n")
    assert "shards" not in project.load(cli.sections()).under("peek", PeekConfig, {"pool": "p.json"})
