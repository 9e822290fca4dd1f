"""What a cluster refuses, misreads or drops in silence is found in pipelines that the SDK compiles without a word."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Dict, List  # noqa: UP035 - by these words the SDK knows what a list holds

import pytest
import yaml
from kfp import compiler, dsl

from hqclip.errors import ConfigError
from pipelines.__main__ import main
from pipelines.lint import BACKEND, check
from pipelines.lint.compiled import Compiled

IMAGE = {"base_image": "registry.example/base@sha256:0123", "install_kfp_package": False}
BIG = "x" * 60_000


@dsl.component(**IMAGE)
def bare() -> list:
    return []


@dsl.component(**IMAGE)
def points() -> List[Dict[str, str]]:  # noqa: UP006
    return []


@dsl.component(**IMAGE)
def use(point: dict) -> str:
    return str(point)


@dsl.component(**IMAGE)
def number(n: int) -> int:
    return n


@dsl.component(**IMAGE)
def text(t: str = "", more: str = "") -> str:
    return t + more


@dsl.component(**IMAGE)
def reduce(results: List[str] = []):  # noqa: UP006, B006 - no task of it changes it
    print(results)


@dsl.component(**IMAGE)
def make(made: dsl.Output[dsl.Dataset], copy: dsl.Output[dsl.Dataset]) -> bool:
    return bool(made and copy)


@dsl.component(**IMAGE)
def pair(one: dsl.Input[dsl.Dataset], other: dsl.Input[dsl.Dataset]):
    print(one, other)


@dsl.component(**IMAGE)
def last(status: dsl.PipelineTaskFinalStatus):
    print(status)


@dsl.component(**IMAGE)
def at_the_end(owner: str):
    print(owner)


def items_of_a_bare_list():
    with dsl.ParallelFor(bare().output) as item:
        use(point=item)


def items_of_mappings():
    with dsl.ParallelFor(points().output) as item:
        use(point=item)


def numbers_of_a_bare_list():
    with dsl.ParallelFor(bare().output) as item:
        number(n=item)


def texts_of_a_bare_list():
    with dsl.ParallelFor(bare().output) as item:
        text(t=item)


def one_artifact_twice():
    made = make().outputs["made"]
    pair(one=made, other=made)


def one_artifact_twice_below_an_if():
    task = make()
    with dsl.If(task.outputs["Output"] == True):  # noqa: E712
        pair(one=task.outputs["made"], other=task.outputs["made"])


def a_copy():
    task = make()
    with dsl.If(task.outputs["Output"] == True):  # noqa: E712
        pair(one=task.outputs["made"], other=task.outputs["copy"])


@dsl.pipeline
def inner(one: dsl.Input[dsl.Dataset], other: dsl.Input[dsl.Dataset]):
    pair(one=one, other=other)


def one_artifact_twice_by_way_of_a_pipeline():
    made = make().outputs["made"]
    inner(one=made, other=made)


def a_copy_by_way_of_a_pipeline():
    task = make()
    inner(one=task.outputs["made"], other=task.outputs["copy"])


def cores_below_an_if(cpu: str = "1", go: bool = True):
    with dsl.If(go == True):  # noqa: E712
        text(t="a").set_cpu_limit(cpu)


def memory_in_a_loop(memory: str = "1Gi"):
    with dsl.ParallelFor(["a", "b"]) as item:
        text(t=item).set_memory_request(memory)


def cores_below_an_if_handed_on(cpu: str = "1", go: bool = True):
    with dsl.If(go == True):  # noqa: E712
        text(t=cpu).set_cpu_limit(cpu)


def gpus_as_a_number(gpus: int = 1):
    text(t="a").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)


def gpus_as_a_text(gpus: str = "1"):
    text(t="a").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)


def cores_of_a_task():
    text(t="a").set_cpu_request(number(n=1).output)


def environment_of_an_input(shards: str = "a"):
    text(t="a").set_env_variable("SHARDS", f"{shards}/pool")


def environment_that_is_constant():
    text(t="a").set_env_variable("SHARDS", "gs://bucket/{00..07}.tar")


def ignored_after_a_loop():
    with dsl.ParallelFor([1, 2]) as item:
        done = number(n=item)
    text(t="b", more="").after(done).ignore_upstream_failure()


def reduced_whatever_failed():
    with dsl.ParallelFor(["a", "b"]) as item:
        done = text(t=item)
    reduce(results=dsl.Collected(done.output)).ignore_upstream_failure()


def ignored_after_a_task():
    text(t="b", more="").after(number(n=1)).ignore_upstream_failure()


def waits_for_one_that_ignores():
    ignoring = text(t="b", more="").after(number(n=1)).ignore_upstream_failure()
    text(t="c", more="").after(ignoring)


def two_ignore_one():
    first = number(n=1)
    text(t="b", more="").after(first).ignore_upstream_failure()
    text(t="c", more="").after(first).ignore_upstream_failure()


def collected_of_what_may_be_nothing():
    with dsl.ParallelFor(points().output) as item:
        used = use(point=item)
    reduce(results=dsl.Collected(used.output))


def collected_of_an_input(trials: List[str] = ["a"]):  # noqa: UP006, B006
    with dsl.ParallelFor(trials) as item:
        used = text(t=item)
    reduce(results=dsl.Collected(used.output))


def collected_of_something():
    with dsl.ParallelFor(["a", "b"]) as item:
        used = text(t=item)
    reduce(results=dsl.Collected(used.output))


def collected_if_there_is_work():
    with dsl.If(make().outputs["Output"] == True):  # noqa: E712
        with dsl.ParallelFor(points().output) as item:
            used = use(point=item)
        reduce(results=dsl.Collected(used.output))


def key_called_name():
    with dsl.ParallelFor(points().output) as item:
        text(t=item.name)


def key_called_name_of_an_input(trials: List[Dict[str, str]] = [{"name": "a"}]):  # noqa: UP006, B006
    with dsl.ParallelFor(trials) as item, dsl.If(item.other == "b"):
        text(t=item.name)


def key_called_otherwise():
    with dsl.ParallelFor(points().output) as item:
        text(t=item.trial)


def told_how_it_ended():
    with dsl.ExitHandler(last()):
        text(t="a")


def told_whose_it_was():
    with dsl.ExitHandler(at_the_end(owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER)):
        text(t="a")


def constants_that_are_too_large():
    text(t=BIG, more=BIG)


def defaults_that_are_too_large(shards: str = BIG, go: bool = True):
    with dsl.If(go == True):  # noqa: E712
        text(t=shards, more=shards)


def items_that_are_too_large():
    with dsl.ParallelFor(["a", BIG]) as item:
        text(t=item, more=BIG)


def inputs_that_fit(shards: str = BIG):
    text(t=shards)
    text(more=shards)


def compiled(function: Callable[..., None], folder: Path) -> Path:
    path = folder / f"{function.__name__}.yaml"
    pipeline = dsl.pipeline(name=function.__name__.replace("_", "-"))(function)
    compiler.Compiler().compile(pipeline, str(path))
    return path


def found(path: Path) -> list[str]:
    spec = Compiled(next(yaml.safe_load_all(path.read_text())))
    return [problem for rule in BACKEND for problem in rule(spec)]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (items_of_a_bare_list, "for-loop-1/use: point takes STRUCT and is given STRING.*List\\[Dict"),
        (numbers_of_a_bare_list, "for-loop-1/number: n takes NUMBER_INTEGER and is given STRING"),
        (one_artifact_twice, r"pair is given one artifact twice \(one, other\)"),
        (one_artifact_twice_below_an_if, "condition-1/pair is given one artifact twice"),
        (one_artifact_twice_by_way_of_a_pipeline, "inner/pair is given one artifact twice"),
        (cores_below_an_if, "condition-1/text takes cpu for its pod, but condition-1 is not given it"),
        (memory_in_a_loop, "for-loop-2/text takes memory for its pod, but for-loop-2 is not given it"),
        (gpus_as_a_number, "text: resourceCount is an input of type NUMBER_INTEGER, which a cluster drops"),
        (cores_of_a_task, "text: resourceCpuRequest is an input of type NUMBER_INTEGER"),
        (environment_of_an_input, "exec-text: environment variable SHARDS is made of an input"),
        (ignored_after_a_loop, "text ignores failures of the loop for-loop-2, after which a cluster never runs it"),
        (reduced_whatever_failed, "reduce ignores failures of the loop for-loop-2"),
        (waits_for_one_that_ignores, "text-2 waits for text, which ignores failures"),
        (two_ignore_one, "number: 2 tasks ignore its failure, of which a cluster runs one"),
        (collected_of_what_may_be_nothing, "reduce collects what the loop for-loop-1 makes"),
        (collected_of_an_input, "reduce collects what the loop for-loop-1 makes"),
        (key_called_name, "text: t is given 'Output-loop-item', the name of the loop's item"),
        (key_called_name_of_an_input, "text: t is given 'trials-loop-item', the name of the loop's item"),
        (told_how_it_ended, "last takes PipelineTaskFinalStatus"),
        (constants_that_are_too_large, "text: its inputs are 120,000 bytes"),
        (defaults_that_are_too_large, "condition-1/text: its inputs are 120,000 bytes"),
        (items_that_are_too_large, "for-loop-2/text: its inputs are 120,000 bytes"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_a_cluster_would_not_run_as_it_is_meant_is_found(
    function: Callable[..., None], said: str, tmp_path: Path
) -> None:
    (problem,) = found(compiled(function, tmp_path))
    assert re.search(said, problem), problem


@pytest.mark.parametrize(
    "function",
    [
        *(items_of_mappings, texts_of_a_bare_list, a_copy, a_copy_by_way_of_a_pipeline),
        *(cores_below_an_if_handed_on, gpus_as_a_text, environment_that_is_constant, ignored_after_a_task),
        *(collected_of_something, collected_if_there_is_work, key_called_otherwise, told_whose_it_was, inputs_that_fit),
    ],
    ids=lambda given: given.__name__,
)
def test_what_a_cluster_runs_is_let_through(function: Callable[..., None], tmp_path: Path) -> None:
    assert found(compiled(function, tmp_path)) == []


def test_what_is_given_to_a_run_counts_as_what_was_compiled(tmp_path: Path) -> None:
    spec = next(yaml.safe_load_all(compiled(inputs_that_fit, tmp_path).read_text()))
    check(spec, "it", {"shards": "x" * 100_000})
    with pytest.raises(ConfigError, match="it: the inputs of the run are 100,001 bytes"):
        check(spec, "it", {"shards": "x" * 100_001})


@pytest.mark.parametrize("verb", ["upload", "run"])
def test_such_a_pipeline_is_neither_uploaded_nor_run(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = compiled(items_of_a_bare_list, tmp_path)
    assert main([verb, str(path), "--host", "http://127.0.0.1:1"]) == 64
    assert "point takes STRUCT and is given STRING" in capsys.readouterr().err


def test_such_a_pipeline_is_not_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.evaluate.evaluate", lambda settings: items_of_a_bare_list())
    assert main(["compile", "evaluate", "-o", str(tmp_path / "it.yaml"), "--allow-tags"]) == 64
    assert "evaluate: for-loop-1/use: point takes STRUCT" in capsys.readouterr().err
    assert not (tmp_path / "it.yaml").exists()
