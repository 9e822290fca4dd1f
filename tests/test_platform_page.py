"""docs/platform.md: its commands are commands, its files are right, and what it shows is what is made."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from hqclip import cli
from hqclip.launch.machines import read_machines
from hqclip.launch.platform import OF_RUNS, OF_STAGES, SHARED, parse_platform, read_platform, read_workers
from hqclip.launch.resolve import make_order
from pipelines.__main__ import VERBS, _parser
from pipelines.compiling import compile_pipeline
from pipelines.platform_schema import schema
from tests import crd_schemas
from tests.rendering import TRAIN, template
from tests.task_pods import pods

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/platform.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n# ([^\n]*)\n(.*?)```", PAGE, re.DOTALL)
OWN = {about.split(": ")[1]: text for about, text in BLOCKS if about.startswith(("platform: ", "machines: "))}
SHOWN = {about: yaml.safe_load(text) for about, text in BLOCKS if about.startswith(("pod of ", "object of "))}


def file(tmp_path: Path, name: str) -> str:
    """A file that the page has, or one that is ready."""
    if name not in OWN:
        return str(ROOT / f"manifests/platforms/{name}.yaml")
    (tmp_path / f"{name}.yaml").write_text(OWN[name])
    return str(tmp_path / f"{name}.yaml")


def lacks(shown: Any, made: Any, where: str = "") -> list[str]:
    """What is shown and not made, by where it stands; of a list each item is part of one that is made."""
    if isinstance(shown, dict) and isinstance(made, dict):
        return [told for key, value in shown.items() for told in lacks(value, made.get(key), f"{where}.{key}")]
    if isinstance(shown, list) and isinstance(made, list):
        parts = [min((lacks(one, other, f"{where}[]") for other in made), key=len, default=[where]) for one in shown]
        return [told for part in parts for told in part]
    return [] if shown == made else [f"{where}: {shown!r} is not {made!r}"]


def test_the_page_covers_what_it_promises() -> None:
    heads = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    promised = ["GKE", "Own machines", "Profiles of several users", "A private registry", "Behind a proxy"]
    assert heads[1:] == [*promised, "Volcano", "Kueue"]
    for head in heads[1:]:
        section = PAGE.split(f"\n## {head}\n")[1].split("\n## ")[0]
        assert re.search(r"```yaml\n# (pod|object) of ", section), head
    assert len(BLOCKS) == len(OWN) + len(SHOWN) == PAGE.count("```yaml")


@pytest.mark.parametrize("about", [about for about in SHOWN if " and " not in about])
def test_what_pods_of_tasks_are_shown_to_have_they_have(about: str, tmp_path: Path) -> None:
    task, name = re.fullmatch(r"pod of (\w+), with (\S+)", about).groups()
    path = compile_pipeline("refine", tmp_path / "refine.yaml", platform=file(tmp_path, name))
    made = pods(path)[task]
    kubernetes_validate.validate(made, "1.32", strict=True)
    assert lacks(SHOWN[about], made) == []


@pytest.mark.parametrize("about", [about for about in SHOWN if " and " in about])
def test_what_workers_are_shown_to_have_they_have(about: str, tmp_path: Path) -> None:
    kind, stage, name, machines = re.fullmatch(r"(.*) of (\w+), with (\S+) and (\S+)", about).groups()
    beneath = read_workers(read_platform(file(tmp_path, name)).workers([stage]))
    spec = read_machines(file(tmp_path, machines)).over(beneath).spec(stage)
    body = make_order(spec, stage, TRAIN).body
    assert crd_schemas.check(body["kind"], body) == []
    assert lacks(SHOWN[about], body if kind == "object" else template(body)) == []


@pytest.mark.parametrize("name", [about.split(": ")[1] for about, _ in BLOCKS if about.startswith("platform: ")])
def test_its_own_files_are_right(name: str) -> None:
    parse_platform(OWN[name], name)
    jsonschema.validate(yaml.safe_load(OWN[name]), schema(), cls=jsonschema.Draft7Validator)


def test_the_table_has_every_setting() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {*SHARED, *OF_RUNS}
    (only,) = re.findall(r"^\| (`cpus`.*?) \| only in a section", PAGE, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", only)) == OF_STAGES


def test_its_commands_are_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    ours = [line[3:] for line in lines if line[:3] == ["python", "-m", "pipelines"]]
    promised = {"lint", "compile", "upload", "run", "sweep", "schedule", "doctor"}
    assert {words[0] for words in ours} == promised <= set(VERBS)
    for words in ours:
        assert isinstance(_parser(words[0]).parse_args(words), argparse.Namespace)
        assert "--platform" in words
        platform = Path(words[words.index("--platform") + 1])
        assert platform.stem in OWN or (ROOT / platform).is_file()
    (launch,) = [line for line in lines if line[0] == "hqclip"]
    monkeypatch.chdir(ROOT)
    assert cli.main(launch[1:]) == 0
    assert "hqclip-registry" in capsys.readouterr().out, "of the platform"
