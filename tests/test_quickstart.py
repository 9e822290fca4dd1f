"""The page for a first cluster: every command of it, in order, against fakes of Kubeflow and Kubernetes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip import cli
from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from pipelines.__main__ import main
from pipelines.compiling import images_of
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import look_at_once
from tests.fakes.kubernetes import FakeCluster
from tests.launching import write_kubeconfig

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/quickstart-cluster.md"
EXPECTED = {"doctor": (0, 78)}  # the fake cluster has no service accounts, and doctor says so


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("export ")]


def exported() -> dict[str, str]:
    """What the page says of images."""
    return dict(re.findall(r"^export (HQCLIP_REGISTRY|HQCLIP_TAG)=(\S+)$", PAGE.read_text(), re.MULTILINE))


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path / "world"), images=12, scenes=8))


@pytest.fixture
def kubeflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: dict[str, Any]) -> Iterator[FakeKubeflow]:
    """Both APIs, and what the page exports."""
    look_at_once(monkeypatch)
    with FakeKubeflow() as fake, FakeCluster() as cluster:
        monkeypatch.setenv("HQCLIP_KFP_HOST", fake.url)
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        monkeypatch.setenv("STORE", str(tmp_path / "store"))
        monkeypatch.setenv("POOL", world["shards"])
        monkeypatch.setenv("SUITE", world["suite"])
        for name, value in exported().items():
            monkeypatch.setenv(name, value)
        (tmp_path / "docs").symlink_to(ROOT / "docs")
        (tmp_path / "manifests").symlink_to(ROOT / "manifests")
        (tmp_path / "build").mkdir()
        monkeypatch.chdir(tmp_path)
        yield fake


def call(fake: FakeKubeflow, words: list[str]) -> int:
    """The exit code of one command."""
    if words[:3] == ["python", "-m", "pipelines"]:
        if "--wait" in words:
            fake.on_polls(fake.finish)
            words = [*words, "--poll-s", "0.01"]
        return main(words[3:])
    if words[0] == "hqclip":
        return cli.main(words[1:])
    assert words[:2] == ["kubectl", "kustomize"], words
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    print(done.stdout)
    return done.returncode


def test_no_image_is_pulled_from_where_nobody_put_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "compile", "evaluate", "-o", str(tmp_path / "it.yaml")]
    subprocess.run(command, env={**os.environ, **exported()}, cwd=ROOT, check=True)  # a shell after the page's exports
    made = next(yaml.safe_load_all((tmp_path / "it.yaml").read_text()))
    assert all(name.startswith("registry.example.com/hqclip/") for name in images_of(made))


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(
    kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = {}
    for command in commands():
        words = shlex.split(os.path.expandvars(command))
        code = call(kubeflow, words)
        out, err = capsys.readouterr()
        verb = words[3] if words[0] == "python" else words[0]
        assert code in EXPECTED.get(verb, (0,)), f"{command}\n{out}\n{err}"
        told[command] = out + err
    assert len(told) >= 15
    assert (tmp_path / "build/refine.yaml").exists()
    rendered = told["kubectl kustomize manifests/overlays/kubeflow"]
    assert re.findall(r"image: (\S+)", rendered) == ["REGISTRY/hqclip/launch:0.1.0"]
    created, cancelled, swept = list(kubeflow.runs.values())[:3]
    assert created["state"] == "SUCCEEDED"
    assert cancelled["state"] in ("CANCELING", "FAILED")
    assert swept["display_name"].startswith("hqclip-sweep")
    recurring = {row["display_name"]: row for row in kubeflow.recurring.values()}
    assert {name: row["status"] for name, row in recurring.items()} == {
        "refine-nightly": "ENABLED",
        "judge-weekly": "DISABLED",
    }
    assert recurring["refine-nightly"]["no_catchup"] and recurring["refine-nightly"]["max_concurrency"] == "1"
