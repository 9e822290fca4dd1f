"""Every task of every pipeline finds in its image what its code imports, also deep inside and late.

Read from the source: the code of the compiled component, the stage behind it, and all that these import, whether at the
top or within a function; held against the lock of the image that the compiled pipeline names.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from hqclip.annotate.engines.registry import ENGINES
from hqclip.launch.registry import KUBERNETES
from hqclip.stages import LAUNCHABLE, STAGES
from pipelines.compiling import PIPELINES, compile_pipeline
from tests.test_containers import ROOT, locked

INSTALLED = {**importlib.metadata.packages_distributions(), "vllm": ["vllm"], "pynvml": ["nvidia-ml-py"]}
WORKER = "hqclip.agent.__main__"  # in the pods of a job
# (who, what): imports within functions that a task in these images does not come to, and why
NOT_REACHED: Mapping[tuple[str, str], Set[str]] = {
    # only a task that was compiled to launch is given machines: `misplaced` in hqclip/launch/resolve.py
    ("hqclip.task", "hqclip.launch.run"): {"base", "train", "annotate"},
    # processes of the task's own machine: the same refusal
    ("hqclip.launch.run", "hqclip.launch.schedulers.local"): {"launch"},
    # a benchmark is measured by `evaluate` alone; the others ask it for its names
    ("hqclip.evaluate.benchmarks.choice", "torch"): {"base"},
    ("hqclip.evaluate.benchmarks.classification", "torch"): {"base"},
    ("hqclip.evaluate.benchmarks.retrieval", "torch"): {"base"},
}


def module(name: str) -> Path | None:
    """The file of a module of ours."""
    path = ROOT / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(source: str) -> Iterator[str]:
    """The modules that a source imports anywhere but for the type checker."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.module and child.level == 0, "imports are absolute here"
                yield child.module
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            else:
                yield from walk(child)

    return walk(ast.parse(source))


@functools.cache
def imports_of(name: str) -> frozenset[str]:
    file = module(name)
    assert file is not None
    return frozenset(imports(file.read_text()))


def parts(name: str) -> list[str]:
    """`a.b.c`, `a.b` and `a`."""
    words = name.split(".")
    return [".".join(words[:number]) for number in range(len(words), 0, -1)]


def wanted(starts: Set[str], role: str) -> dict[str, str]:
    """The packages that code imports which begins with these modules, and by which way."""
    todo, ways, found = list(starts), dict.fromkeys(starts, ""), {}
    while todo:
        name = todo.pop(0)
        top = name.partition(".")[0]
        if top != "hqclip":
            if top not in sys.stdlib_module_names:
                package = "google-cloud-storage" if name.startswith("google.cloud") else top
                found.setdefault(package, ways[name])
            continue
        if module(name) is None:  # a name out of a module
            continue
        way = f"{ways[name]} > {name}"
        for one in {*imports_of(name), name.rpartition(".")[0] or name}:
            if one not in ways and not any(role in NOT_REACHED.get((name, part), ()) for part in parts(one)):
                ways[one] = way
                todo.append(one)
    return found


def held(role: str) -> set[str]:
    """The packages of an image, by the names of their distributions."""
    images = ROOT / "images"
    return {*locked(images / role / "requirements.lock"), *locked(images / "kfp.lock")}


def lacking(starts: Set[str], role: str, packages: Set[str]) -> dict[str, str]:
    """What is imported and not in the image, and by which way."""
    return {
        name: way
        for name, way in wanted(starts, role).items()
        if not {str(canonicalize_name(one)) for one in INSTALLED.get(name, [name])} & packages
    }


def tasks(name: str, launched: tuple[str, ...], folder: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Each task of a compiled pipeline: its name, the role of its image, and the modules that it begins with."""
    spec = next(yaml.safe_load_all(compile_pipeline(name, folder / "it.yaml", launched).read_text()))
    for label, executor in spec["deploymentSpec"]["executors"].items():
        stage, container = label.removeprefix("exec-").replace("-", "_"), executor["container"]
        role = container["image"].rpartition("/")[2].partition(":")[0]
        starts = set(imports(container["command"][-1]))
        if role == "launch":
            starts |= {path.partition(":")[0] for path in KUBERNETES.values()}
        elif stage in STAGES:
            starts |= {STAGES[stage].module}
        if role == "annotate":
            starts |= {ENGINES[engine][0] for engine in ("vllm", "openai", "replay")}
        yield stage, role, starts


@pytest.mark.parametrize("launched", [(), LAUNCHABLE], ids=["by themselves", "launched"])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_task_finds_in_its_image_what_it_imports(name: str, launched: tuple[str, ...], tmp_path: Path) -> None:
    stages = []
    for stage, role, starts in tasks(name, launched, tmp_path):
        assert lacking(starts, role, held(role)) == {}, f"{stage} in the image {role}"
        stages.append((stage, role))
    assert stages and (("launch" in dict(stages).values()) == bool(launched))


@pytest.mark.parametrize("stage", LAUNCHABLE)
def test_every_worker_of_a_job_finds_in_its_image_what_it_imports(stage: str) -> None:
    role = STAGES[stage].image
    assert lacking({WORKER, STAGES[stage].module}, role, held(role)) == {}


def test_what_the_images_once_lacked_would_be_found() -> None:
    without_yaml = held("base") - {"pyyaml"}
    for stage in ("plan", "sweep", "plan_evaluation"):
        found = lacking({"hqclip.task", STAGES[stage].module}, "base", without_yaml)
        assert "hqclip.strict_yaml" in found["yaml"], "plan_launch is read there"
    assert set(lacking({"hqclip.launch.run"}, "train", held("train"))) >= {"kubernetes", "torchx"}
    assert "vllm" in lacking({"hqclip.annotate.engines.vllm"}, "train", held("train"))


def test_every_gap_that_is_allowed_is_one() -> None:
    for who, what in NOT_REACHED:
        assert any(one == what or one.startswith(f"{what}.") for one in imports_of(who)), (
            f"{who} imports {what} no more"
        )
