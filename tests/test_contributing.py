"""CONTRIBUTING.md says truly where one adds what: its files are there, and what it lists is what is registered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hqclip.annotate.engines.registry import ENGINES
from hqclip.data.sources import SOURCES
from hqclip.evaluate.benchmarks import KINDS
from hqclip.launch.registry import KUBERNETES
from hqclip.recipes import LOSSES
from hqclip.train.losses import FUNCTIONS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### An? (.+?)\n(.*?)(?=^###|\Z)", PAGE, re.MULTILINE | re.DOTALL))
REGISTERED = {  # the names, and the file and word of each table
    "loss": (LOSSES, ("hqclip/recipes.py", "LOSSES"), ("hqclip/train/losses.py", "FUNCTIONS")),
    "benchmark": (KINDS, ("hqclip/evaluate/benchmarks/__init__.py", "KINDS")),
    "source of shards": ({name for name in SOURCES if name}, ("hqclip/data/sources/__init__.py", "SOURCES")),
    "engine": (ENGINES, ("hqclip/annotate/engines/registry.py", "ENGINES")),
    "scheduler": (KUBERNETES, ("hqclip/launch/registry.py", "KUBERNETES")),
}


def steps(section: str) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", SECTIONS[section], re.MULTILINE)


def test_every_table_has_its_section() -> None:
    assert set(SECTIONS) == {*REGISTERED, "setting", "pipeline input"}
    assert set(LOSSES) == set(FUNCTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_at_most_two_files_besides_its_own(section: str) -> None:
    assert 1 <= len(steps(section)) <= 3


@pytest.mark.parametrize("section", SECTIONS)
def test_the_files_that_are_named_are_there(section: str) -> None:
    named = re.findall(
        r"`((?:hqclip|components|pipelines|manifests|tests)/[\w./]+|pyproject\.toml)`", SECTIONS[section]
    )
    assert named
    for path in named:
        folder, _, file = path.rpartition("/")
        assert (ROOT / folder).is_dir() if file.startswith("NAME") else (ROOT / path).is_file(), path


@pytest.mark.parametrize("section", REGISTERED)
def test_what_it_lists_is_what_is_registered(section: str) -> None:
    names, *tables = REGISTERED[section]
    (today,) = re.findall(r"^Today: (.*?)\. ", SECTIONS[section], re.MULTILINE)
    assert re.findall(r"`(\w+)`", today) == sorted(names)
    for path, table in tables:
        (step,) = [step for step in steps(section) if f"`{path}`" in step]
        assert f"`{table}`" in step
        assert re.search(rf"^{table}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("section", ["benchmark", "engine", "scheduler"])
def test_each_of_them_has_a_file_of_its_own(section: str) -> None:
    (own,) = re.findall(r"`([\w/]+)/NAME\.py`", steps(section)[0])
    files = {path.stem for path in (ROOT / own).glob("[!_]*.py")}
    assert set(REGISTERED[section][0]) <= files
