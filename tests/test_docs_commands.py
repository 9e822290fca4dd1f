"""Every command that a page of this repository shows is one; those of README, lineage and cost do what they say.

Other pages are executed where they are tested: `test_quickstart.py`, `test_evaluation_page.py`,
`test_platform_page.py`, `test_manifest_checks.py`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from hqclip.errors import ConfigError
from hqclip.launch.commands import read_words
from hqclip.stages import STAGES
from pipelines.__main__ import VERBS, _parser
from pipelines.__main__ import main as pipelines
from tests.cycle import Cycle

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "images/*.md", "manifests/**/*.md", "benchmarks/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # which tells of commands as they were
)
STANDS_FOR = {"machines.yaml": str(ROOT / "docs/examples/machines.yaml"), "NAME": "standard"}
PROGRAM = r"(?:hqclip|python -m pipelines)"


def blocks(page: str, kind: str = r"\w*") -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown(page: str) -> Iterator[str]:
    """Every command of a page, in its blocks and in its sentences."""
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(rf"(?:^|\$\(|; |next: ){PROGRAM} [^|)#]*", line)
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(rf"`({PROGRAM} [^`|]*)`", text)


def words_of(command: str) -> list[str]:
    """Without the program, and without what stands for more."""
    command = re.sub(rf"^.*?{PROGRAM} ", "", command).replace("sha256:...", f"sha256:{'0' * 64}")
    words = [word for word in shlex.split(command) if word not in ("...", "…")]
    return [STANDS_FOR.get(word, word) for word in words]


def check_hqclip(words: list[str]) -> None:
    """Raises `ConfigError` for a verb, a flag or a value that is none."""
    if words[0] in ("STAGE", "COMMAND", "--help", "--version"):
        return
    name = cli._name(words)
    if name in cli.GROUPS and len(words) == 1:  # a group that is spoken of
        return
    if name not in cli.COMMANDS:
        raise ConfigError(f"unknown command {name}")
    command, rest = cli.COMMANDS[name], words[len(name.split()) :]
    if "--help" in rest or (not rest and not command.takes_stage):
        return
    if rest and re.fullmatch("--(?!dry-run|delete|origin)[a-z-]+", rest[-1]):
        rest = [*rest, "x"]  # a flag that is spoken of, without its value
    if command.takes_stage:
        if rest:
            assert rest[0] in STAGES
            read_words(name, command.settings, rest, cli.sections())
        return
    given, _ = cli.read_flags(name, [command.settings], rest)
    try:
        command.settings.from_mapping(given[0])
    except ConfigError as error:
        wrong = [line for line in str(error).splitlines() if "is missing" not in line]
        if wrong:
            raise ConfigError("\n".join(wrong)) from error


def check_pipelines(words: list[str]) -> None:
    """Raises `ConfigError` for a verb or a flag that is none."""
    if words[0] == "VERB" or (len(words) == 1 and words[0] in VERBS):
        return
    if "--help" not in words:
        _parser(words[0]).parse_args(words)


@pytest.mark.parametrize("page", [page for page in PAGES if list(shown(page))])
def test_every_command_of_a_page_is_one(page: str):
    for command in shown(page):
        check = check_pipelines if "python -m pipelines" in command else check_hqclip
        try:
            check(words_of(command))
        except ConfigError as error:
            pytest.fail(f"{page}: {command.strip()}\n{error}")


def test_the_check_knows_what_is_none():
    for words in (["trian"], ["train", "--smaples-seen", "1"], ["lineage", "--format", "cake"]):
        with pytest.raises(ConfigError):
            check_hqclip(words)
    with pytest.raises(ConfigError):
        check_pipelines(["run", "refine", "--wiat"])


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `make demo` leaves it, only smaller."""
    monkeypatch.chdir(tmp_path)
    world = make_world(DemoWorldConfig(store=str(tmp_path / "demo-out/world"), images=80, scenes=8))
    for there, wanted in ((Path(world["shards"]).parent, "pool-6000"), (Path(world["suite"]).parent, "suite-500")):
        (tmp_path / "demo-out/world" / wanted).symlink_to(there)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "hqclip").write_text(f'#!/bin/sh\nexec {sys.executable} -m hqclip.cli "$@"\n')
    (programs / "hqclip").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.slow
def test_the_verbs_of_the_readme_hand_on_what_they_find(laptop: Path):
    script = "".join(block for block in blocks("README.md") if "field" in block or "$data" in block)
    assert script.count("hqclip ") == 6
    script = script.replace("--samples-seen 6400", "--samples-seen 128")
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, cwd=laptop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.partition("\n}\n")[0] + "}")["metrics"], "evaluate came to its end"
    assert {path.name for path in laptop.glob("mine/runs/*") if (path / "result.json").is_file()} == {"first", "second"}


def test_the_readme_compiles_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks("README.md") if "pipelines compile" in block)
    (tag,) = re.findall(r"^export HQCLIP_TAG=(\S+)", block, re.MULTILINE)
    monkeypatch.setenv("HQCLIP_TAG", tag)
    commands = re.findall(r"^python -m pipelines (compile .*?)\s*(?:#|$)", block, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert pipelines(shlex.split(command)) == 0
    assert (tmp_path / "refine.yaml").is_file()


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a closed cycle."""
    folder = tmp_path_factory.mktemp("pages")
    world: dict[str, Any] = make_world(DemoWorldConfig(store=str(folder / "world"), images=40, scenes=8))
    Cycle(str(folder / "store"), world, folder / "results").run("hqclip", cycle=1)
    return str(folder / "store")


@pytest.fixture
def named(refined: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pages call their store and shards, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE", refined)
    monkeypatch.setenv("POOL", str(Path(refined).parent / "world/pool-40"))


@pytest.mark.slow
@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("page", ["docs/lineage.md", "docs/cost.md"])
def test_the_commands_of_a_page_do_what_they_say(page: str, refined: str):
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert len(commands) >= 3
    for command in commands:
        words = words_of(os.path.expandvars(command))
        assert cli.main([refined if word == "STORE" else word for word in words]) == 0, command
