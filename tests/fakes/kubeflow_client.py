"""What tests of `python -m pipelines` on a cluster share: a small pipeline, and verbs called as from a shell."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from pipelines.client import channels, patience
from pipelines.client.connect import Kubeflow, add_arguments, connect
from tests.fakes.kubeflow import FakeKubeflow

INPUTS = {
    "store": {"parameterType": "STRING"},
    "release": {"parameterType": "STRING", "defaultValue": "1.0"},
    "plan_preset": {"parameterType": "STRING", "defaultValue": "small", "literals": ["small", "large"]},
    "plan_overrides": {"parameterType": "STRING", "defaultValue": "{}"},
    "plan_launch": {"parameterType": "STRING", "defaultValue": ""},
    "train_seed": {"parameterType": "NUMBER_INTEGER", "defaultValue": 0.0},
    "train_rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
    "again": {"parameterType": "BOOLEAN", "defaultValue": False},
    "trials": {"parameterType": "LIST", "defaultValue": []},
    "extra": {"parameterType": "STRUCT", "isOptional": True},
}
NAME = "hqclip-refine"


def write_package(folder: Path, image: str = "registry.example/hqclip/base@sha256:0123", name: str = NAME) -> Path:
    """A compiled pipeline of one task that takes inputs of every type."""
    spec = {
        "components": {"comp-plan": {"executorLabel": "exec-plan"}},
        "deploymentSpec": {"executors": {"exec-plan": {"container": {"image": image, "command": ["true"]}}}},
        "pipelineInfo": {"name": name, "description": "A small one."},
        "root": {
            "dag": {"tasks": {"plan": {"componentRef": {"name": "comp-plan"}, "taskInfo": {"name": "plan"}}}},
            "inputDefinitions": {"parameters": INPUTS},
        },
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def call(verb: ModuleType, *words: object) -> int:
    """The exit code of a verb that is given these words."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    verb.add_arguments(parser)
    code: int = verb.run(parser.parse_args([str(word) for word in words]))
    return code


def connected(fake: FakeKubeflow, *words: object) -> Kubeflow:
    """A connection as flags ask for one."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return connect(parser.parse_args(["--host", fake.url, *(str(word) for word in words)]))


def look_at_once(environment: Any) -> None:
    """What was not heard of is looked for at once, and the fake's clock needs no time between two versions."""
    environment.setattr(patience, "LOOKS_S", (0.0, 0.0))
    environment.setattr(channels, "TICK_S", 0.0)
