"""What the pods of tasks ask for and carry: Pod Security, where they are, CPUs, memory, GPUs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip import task_records
from hqclip.stages import LAUNCHABLE
from pipelines.client.versions import parse_package
from pipelines.compiling import PIPELINES, compile_pipeline

Documents = tuple[dict[str, Any], dict[str, Any]]


def documents(tmp_path: Path, name: str, launched: Collection[str] = ()) -> Documents:
    """The executors of a compiled pipeline, and what their pods have besides; by name."""
    spec, platform = yaml.safe_load_all(compile_pipeline(name, tmp_path / f"{name}.yaml", launched).read_text())
    return spec["deploymentSpec"]["executors"], platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("launched", [(), LAUNCHABLE], ids=["here", "launched"])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_task_may_run_where_pod_security_is_restricted_and_knows_where_it_is(
    name: str, launched: Collection[str], tmp_path: Path
):
    executors, pods = documents(tmp_path, name, launched)
    assert set(pods) == set(executors), "ordinary tasks, those of loops and the exit task"
    for name, pod in pods.items():
        assert pod["securityContext"] == {"runAsNonRoot": True}, name
        fields = {field["name"]: field["fieldPath"] for field in pod["fieldPathAsEnv"]}
        assert fields == {
            "HQCLIP_RUN": "metadata.labels['pipeline/runid']",
            "HQCLIP_POD": "metadata.name",
            "HQCLIP_NODE": "spec.nodeName",
        }
        container = executors[name]["container"]
        assert container["env"] == [{"name": task_records.IMAGE, "value": container["image"]}]


def test_what_pods_carry_is_part_of_the_version(tmp_path: Path):
    text = compile_pipeline("evaluate", tmp_path / "evaluate.yaml").read_bytes()
    assert b"runAsNonRoot: true" in text
    other = text.replace(b"runAsNonRoot: true", b"runAsNonRoot: false")
    assert parse_package(text, "it").version != parse_package(other, "it").version
