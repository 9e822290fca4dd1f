"""What tests of schedules share: a small pipeline, a nightly run of it, and the verb as from a shell.

A plugin of pytest (see `conftest.py`), so that its fixture is everywhere; kfp, which is slow to import and not
everywhere, is imported on use only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hqclip.flags import Parser
from tests.fakes.kubeflow import FakeKubeflow

if TYPE_CHECKING:
    from pipelines.client.versions import Package

NIGHTLY: dict[str, Any] = {
    "name": "nightly",
    "pipeline": "hqclip-try",
    "cron": "0 0 2 * * *",
    "inputs": {"store": "gs://b/s", "cycles": 2},
}
SPEC = {
    "pipelineInfo": {"name": "hqclip-try"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.17.0",
    "root": {
        "dag": {"tasks": {}},
        "inputDefinitions": {
            "parameters": {
                "store": {"parameterType": "STRING"},
                "cycles": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1},
                "version": {"parameterType": "STRING", "defaultValue": ""},
            }
        },
    },
    "components": {},
    "deploymentSpec": {"executors": {}},
}


def package(**changed: Any) -> Package:
    """It, with these parts of the specification."""
    from pipelines.client.versions import parse_package

    return parse_package(yaml.safe_dump({**SPEC, **changed}).encode(), "try.yaml")


class Shell:
    """`python -m pipelines schedule ...` on a file that the test writes."""

    def __init__(self, url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url, self.file, self.capsys = url, file, capsys
        self.code, self.said = 0, ""

    def write(self, *listed: dict[str, Any], **more: Any) -> None:
        self.file.write_text(yaml.safe_dump({"schedules": list(listed), **more}))

    def __call__(self, action: str, *words: str) -> Any:
        from pipelines.client import schedules

        parser = Parser()
        schedules.add_arguments(parser)
        named = [str(self.file)] if action in ("diff", "apply") else []
        flags = ["--host", self.url, "--patience-s", "2", "-o", "json"]
        self.capsys.readouterr()  # of what was refused before
        self.code = schedules.run(parser.parse_args([action, *named, *words, *flags]))
        out, self.said = self.capsys.readouterr()
        return json.loads(out) if out else None


@pytest.fixture
def shell(kubeflow: FakeKubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """For a Kubeflow that has the pipeline; every fault that a test scripts must have happened by its end."""
    upload(kubeflow, package())
    yield Shell(kubeflow.url, tmp_path / "schedule.yaml", capsys)
    kubeflow.assert_all_faults_fired()


def upload(kubeflow: FakeKubeflow, made: Package, namespace: str = "") -> str:
    """A version of the pipeline as if somebody had uploaded it, and promoted one of ours; its name."""
    from pipelines.client.channels import promote
    from pipelines.client.connect import connect
    from pipelines.client.versions import ensure_uploaded, find_version, our_names

    given = argparse.Namespace(host=kubeflow.url, namespace=namespace, patience_s=2.0)
    there = connect(given)
    version, _ = ensure_uploaded(there, made)
    if made.name in our_names():
        promote(there, made.name, find_version(there, made.name, str(version.display_name)))
    return str(version.display_name)


def actions(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["name"], row["action"]) for row in rows]
