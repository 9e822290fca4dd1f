"""First tasks and launching tasks of every pipeline, run with nothing but the packages of their images."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from hqclip.stages import LAUNCHABLE, STAGES
from pipelines.compiling import compile_pipeline
from tests.fakes.gcs import FakeGcs
from tests.launching import write_kubeconfig
from tests.tasks import Forbidden, arguments, executor_input, was_refused
from tests.test_containers import ROOT

pytestmark = pytest.mark.slow
STORE = "gs://bucket/store"
PIN = "r.example/hqclip@sha256:" + "0" * 64
MACHINES = f"scheduler: jobset\nimage: {PIN}\n"
EARLIER = {"pool": "pools/p", "annotations": "annotations/a", "dataset": "datasets/d", "model": "runs/r/model"}


class Tasks:
    """The tasks of a pipeline, each as in its image, on a store in a bucket."""

    def __init__(self, name: str, launched: tuple[str, ...], folder: Path) -> None:
        self.spec = next(yaml.safe_load_all(compile_pipeline(name, folder / "it.yaml", launched).read_text()))
        self.folder, self.said = folder, ""

    def run(self, task: str, parameters: Mapping[str, Any], artifacts: Mapping[str, Path]) -> int:
        """Its exit code; what it printed is in `said`."""
        container = self.spec["deploymentSpec"]["executors"][f"exec-{task.replace('_', '-')}"]["container"]
        component = self.spec["components"][f"comp-{task.replace('_', '-')}"]
        out = self.folder / task
        out.mkdir(exist_ok=True)
        given = arguments(container, executor_input(component, out, parameters, artifacts))
        program = out / "ephemeral_component.py"
        program.write_text(container["command"][-1])
        role = container["image"].rpartition("/")[2].partition(":")[0]
        locks = ",".join(str(ROOT / "images" / lock) for lock in (f"{role}/requirements.lock", "kfp.lock"))
        words = ["--component_module_path", str(program), *given[len(container["command"]) :]]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.in_image", locks, "kfp.dsl.executor_main", *words],
            cwd=ROOT,
            env={**os.environ, "_KFP_RUNTIME": "true", "KUBECONFIG": str(self.folder / "kubeconfig")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.said = ended.stdout + ended.stderr
        return ended.returncode


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))


@pytest.fixture
def cluster_that_refuses(tmp_path: Path) -> Iterator[None]:
    """A kubeconfig of it. One that does not answer would be asked for two minutes, by every task."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidden)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def given_to_plan(world: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    defaults = {"preset": "demo-quick", "trials": "raw", "data_only": False, "cycle": 0, "annotate_model": ""}
    rest = {"train_samples_seen": 0, "train_seed": 0, "overrides": "", "owner": "one"}
    machines = {"launch": "", "launched": "", "workers": "", "budget": -1.0, "budget_dollars": -1.0, "gpu_prices": ""}
    return {"store": STORE, "shards": world["shards"], "suite": world["suite"], **defaults, **rest, **machines, **more}


def test_the_first_task_plans_with_the_packages_of_its_image(
    fake_gcs: FakeGcs, world: dict[str, Any], tmp_path: Path
) -> None:
    tasks = Tasks("refine", (), tmp_path)
    assert tasks.run("plan", given_to_plan(world), {}) == 0, tasks.said
    assert json.loads((tmp_path / "plan" / "planned").read_text())["has_work"]
    fake_gcs.put("bucket", "machines.yaml", f"{MACHINES}train: {{gpus: 1}}\n".encode())
    assert tasks.run("plan", given_to_plan(world, launch="gs://bucket/machines.yaml"), {}) == 64
    assert "train: the launch file has a section for it, and this pipeline was not compiled" in tasks.said


@pytest.mark.usefixtures("cluster_that_refuses")
def test_what_is_launched_asks_a_cluster_with_the_packages_of_its_image(
    fake_gcs: FakeGcs, world: dict[str, Any], tmp_path: Path
) -> None:
    tasks = Tasks("refine", LAUNCHABLE, tmp_path)
    sections = "".join(f"{stage}: {{gpus: 1}}\n" for stage in LAUNCHABLE)
    fake_gcs.put("bucket", "machines.yaml", (MACHINES + sections).encode())
    given = given_to_plan(world, launch="gs://bucket/machines.yaml", launched=",".join(LAUNCHABLE))
    assert tasks.run("plan", given, {}) == 0, tasks.said
    (tmp_path / "earlier").write_text(json.dumps(EARLIER))
    for stage in LAUNCHABLE:
        takes = tasks.spec["components"][f"comp-{stage}"]["inputDefinitions"]
        artifacts = dict.fromkeys(takes["artifacts"], tmp_path / "earlier")
        artifacts["planned"] = tmp_path / "plan" / "planned"
        known = {"trial": {"name": "raw", "settings": {}}, "gpus": "0"}
        code = tasks.run(stage, {name: known[name] for name in takes.get("parameters", ())}, artifacts)
        is_right = code == 0 if stage == "score" else was_refused(code, tasks.said)  # no champion: no job for scores
        assert is_right, f"{stage}: {code}\n{tasks.said}"
        assert not re.search("No module named|ImportError", tasks.said), stage


def test_a_package_that_an_image_lacks_is_not_there(tmp_path: Path) -> None:
    """The guard guards: torch is installed here, and in no image of the small tasks."""
    locks = ",".join(str(ROOT / "images" / lock) for lock in ("base/requirements.lock", "kfp.lock"))
    assert STAGES["plan"].image == "base"
    program = tmp_path / "program.py"
    program.write_text("import numpy, yaml, google.cloud.storage\nimport torch\n")
    words = [sys.executable, "-m", "tests.in_image", locks, "program"]
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    ended = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=ROOT)
    assert "No module named 'torch'" in ended.stderr
