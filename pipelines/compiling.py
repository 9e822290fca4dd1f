"""`python -m pipelines compile`: a pipeline as the YAML that Kubeflow takes; the same source gives the same bytes."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl

from components.images import check_pinned
from hqclip.errors import ConfigError
from hqclip.launch.platform import read_platform
from hqclip.presets import PRESETS
from hqclip.settings import did_you_mean
from hqclip.stages import LAUNCHABLE
from hqclip.store.leftovers import scratch_folder
from pipelines.hardware import REQUESTS, STANDARD, Choice, composing
from pipelines.inputs import INPUTS, with_inputs
from pipelines.lines import described, line_name
from pipelines.lint import check

PIPELINES = tuple(INPUTS)
CHOICES = {"plan_preset": tuple(PRESETS)}  # inputs that are one of a few words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("-o", "--output", type=Path, help="YAML file (default: PIPELINE.yaml)")
    parser.add_argument(
        "--launched",
        default="",
        metavar="STAGES",
        help=f"stages that start a job and wait for it, out of {','.join(LAUNCHABLE)}: runs want the input plan_launch",
    )
    add_requests_argument(parser)
    add_platform_argument(parser)
    add_tags_argument(parser)
    parser.add_argument(
        "--drop-downs",
        action="store_true",
        help="let the UI offer what a named setting may be; older backends than 2.17 refuse such a pipeline",
    )


def run(given: argparse.Namespace) -> int:
    """Compile, and say where. What is refused leaves the file as it was."""
    output = given.output or Path(f"{given.pipeline}.yaml")
    if output.suffix not in (".yaml", ".yml") or output.is_dir():
        raise ConfigError(f"-o {output}: give the name of a YAML file, such as {given.pipeline}.yaml")
    with scratch_folder() as folder:
        path = folder / f"made{output.suffix}"
        made = compile_pipeline(given.pipeline, path, stages(given.launched), given.requests, given.platform)
        spec = next(yaml.safe_load_all(made.read_text(encoding="utf-8")))
        check(spec, given.pipeline)
        if not given.allow_tags:
            check_pinned(images_of(spec))
        if given.drop_downs:
            offer_choices(made)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, output)
        except OSError as error:
            raise ConfigError(f"-o {output}: cannot be written: {error.strerror}") from error
    print(output)
    tell_account(given.platform)
    return 0


def add_requests_argument(parser: argparse.ArgumentParser) -> None:
    """The flag that says what tasks ask their nodes for."""
    parser.add_argument(
        "--requests",
        choices=tuple(REQUESTS),
        default="",
        help=f"CPUs, memory and GPUs that tasks ask for: small is for laptops and kind, without a GPU ({STANDARD})",
    )


def add_platform_argument(parser: argparse.ArgumentParser) -> None:
    """The flag that says what the pods of tasks carry."""
    parser.add_argument(
        "--platform",
        default="",
        metavar="FILE",
        help="volumes, secrets, nodes, environment and more of all pods, see docs/platform.md; part of the version",
    )


def add_tags_argument(parser: argparse.ArgumentParser) -> None:
    """The flag for images without a digest, which are refused without it."""
    parser.add_argument(
        "--allow-tags", action="store_true", help="accept images named by tags, which may name others tomorrow"
    )


def tell_account(platform: str) -> None:
    """Say what of a platform file is not in the compiled YAML."""
    if account := read_platform(platform).of_runs.get("service_account"):
        print(
            f"service account {account}: Kubeflow sets it for a run, never for a task; give `run` and schedules the "
            f"same --platform, or --service-account {account}",
            file=sys.stderr,
        )


def compile_pipeline(
    name: str, output: Path, launched: Collection[str] = (), requests: str = "", platform: str = ""
) -> Path:
    """Write the compiled pipeline. The stages `launched` start jobs, the tasks of others ask as `requests` says.

    All pods carry what the file `platform` says.
    """
    module = importlib.import_module(f"pipelines.{name}")
    where = read_platform(platform)
    if (named := where.of_runs.get("requests", STANDARD)) not in REQUESTS:
        raise ConfigError(
            f"platform {platform}: requests is {named!r}{did_you_mean(named, REQUESTS)}; one of {', '.join(REQUESTS)}"
        )
    with composing(Choice(frozenset(launched), requests, where)):
        composed = with_inputs(name, getattr(module, name), where.open_names)
        line = line_name(launched, platform if where.digest else "", "" if requests == named else requests)
        pipeline = dsl.pipeline(name=module.NAME, description=described(module.DESCRIPTION, line))(composed)
    compiler.Compiler().compile(pipeline, str(output))
    return output


def images_of(spec: Mapping[str, Any]) -> list[str]:
    """The images of a compiled pipeline."""
    executors = spec.get("deploymentSpec", {}).get("executors", {}).values()
    return sorted({str(executor.get("container", {}).get("image", "")) for executor in executors} - {""})


def offer_choices(path: Path) -> None:
    """Say in a compiled pipeline what its enumerations may be: the SDK cannot, the API and the UI of 2.17 can."""
    text = path.read_text(encoding="utf-8")
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    spec, *platform = yaml.safe_load_all(text)
    for name, values in CHOICES.items():
        if name in spec["root"]["inputDefinitions"]["parameters"]:
            spec["root"]["inputDefinitions"]["parameters"][name]["literals"] = list(values)
    path.write_text(comments + yaml.safe_dump_all([spec, *platform], sort_keys=True), encoding="utf-8")


def stages(text: str) -> list[str]:
    """Stages of a comma separated list. Raises `ConfigError`."""
    named = [stage.strip() for stage in text.split(",") if stage.strip()]
    for stage in named:
        if stage not in LAUNCHABLE:
            known = ", ".join(LAUNCHABLE)
            raise ConfigError(
                f"--launched: {stage!r} cannot be launched{did_you_mean(stage, LAUNCHABLE)}; one of {known}"
            )
    return named
