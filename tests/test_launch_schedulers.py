"""The table of schedulers: each has all that launching asks of it, and is there for users of TorchX, too."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchx.runner import Runner
from torchx.specs import AppState

from hqclip.errors import ConfigError
from hqclip.launch import component
from hqclip.launch.kube import connect
from hqclip.launch.registry import KUBERNETES, SCHEDULERS, load
from hqclip.launch.resolve import make_order
from hqclip.launch.schedulers.protocol import Scheduler
from hqclip.launch.spec import LaunchSpec
from hqclip.launch.submit import submit
from hqclip.store import open_store
from tests import rendering
from tests.fakes.kubernetes import FakeCluster
from tests.launching import IMAGE, PLURAL, SETTINGS, Pods, write_kubeconfig

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        yield cluster


def test_each_file_of_a_scheduler_is_in_the_table() -> None:
    files = {path.stem for path in (ROOT / "hqclip/launch/schedulers").glob("[!_]*.py")} - {"protocol"}
    assert files == set(SCHEDULERS)


def test_each_scheduler_knows_all_that_is_asked_of_one(scheduler: str) -> None:
    loaded = load(scheduler)
    assert loaded.name == scheduler
    methods = {name for name, _ in inspect.getmembers(Scheduler, inspect.isfunction) if not name.startswith("_")}
    own = vars(type(loaded))
    assert {*Scheduler.__annotations__, *methods} <= set(own), "nothing is left to the protocol"
    body = rendering.rendered(scheduler)
    assert body["apiVersion"] == loaded.kind[0]
    fields = [
        item["valueFrom"]["fieldRef"]["fieldPath"] for item in rendering.worker(body)["env"] if "valueFrom" in item
    ]
    assert f"metadata.annotations['{loaded.node_label}']" in fields


def test_machines_are_planned_and_objects_rendered_without_the_kubernetes_client(scheduler: str) -> None:
    made = f"rendered({scheduler!r})"
    without = "import sys; sys.modules |= dict.fromkeys(('kubernetes', 'torchx', 'torch'))"
    code = f"{without}; from tests.rendering import rendered; print({made}['metadata']['name'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hqclip-train-")


def test_torchx_finds_each_of_them_by_its_entry_point() -> None:
    found = {}
    for name, where in ENTRY_POINTS["torchx.schedulers"].items():
        module, _, factory = where.partition(":")
        found[name] = getattr(importlib.import_module(module), factory)("session").backend
    assert found == {f"hqclip_{name}": f"hqclip_{name}" for name in KUBERNETES}
    (components,) = ENTRY_POINTS["torchx.components"].values()
    assert importlib.import_module(components) is component


def machines(tmp_path: Path) -> str:
    path = tmp_path / "launch.yaml"
    path.write_text(f"image: {IMAGE}\nnodes: 2\ncpus: 1\nvolumes: ['claim:shared:{tmp_path}']\n")
    return str(path)


def runner(scheduler: str) -> tuple[Runner, str]:
    name = f"hqclip_{scheduler}"
    module, _, factory = ENTRY_POINTS["torchx.schedulers"][name].partition(":")
    return Runner("session", {name: getattr(importlib.import_module(module), factory)}), name


def test_a_stage_is_launched_followed_and_cancelled_by_torchx(
    cluster: FakeCluster, scheduler: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "store")
    torchx, name = runner(scheduler)
    app = component.stage("train", machines(tmp_path), json.dumps({"store": uri, **SETTINGS}), scheduler)
    shown = torchx.dryrun(app, name)
    assert json.loads(str(shown))["metadata"]["name"] == app.name and not cluster.requests
    handle = torchx.schedule(shown)
    assert torchx.schedule(torchx.dryrun(app, name)) == handle, "which adopts the job that is there"
    pods = Pods(cluster, uri, scheduler)
    assert pods.key == f"{app.name}/1"
    cluster.log(pods.start()[0], "step 1")
    assert list(torchx.log_lines(handle, "node", 0)) == ["step 1\n"]
    status = torchx.status(handle)
    assert status is not None and status.state == AppState.RUNNING
    assert [job.app_id for job in torchx.list(name)] == [app.name]
    torchx.cancel(handle)
    assert cluster.names(PLURAL[scheduler]) == [] and torchx.status(handle) is None


def test_an_application_of_somebody_else_is_refused(scheduler: str, tmp_path: Path) -> None:
    torchx, name = runner(scheduler)
    other = next(kind for kind in KUBERNETES if kind != scheduler)
    app = component.stage("train", machines(tmp_path), json.dumps({"store": str(tmp_path), **SETTINGS}), other)
    with pytest.raises(ConfigError, match=re.escape(f"is for the scheduler {other}, not for {scheduler}")):
        torchx.dryrun(app, name)
    app.metadata.clear()
    with pytest.raises(ConfigError, match="is no application of hqclip"):
        torchx.dryrun(app, name)


def test_patches_that_leave_no_object_are_refused_with_the_settings(scheduler: str) -> None:
    patches = json.dumps([{"target": "pod", "patch": {"spec": None}}])
    with pytest.raises(ConfigError, match=f"with its patches this is no {scheduler} object any more"):
        rendering.order(scheduler, patches=patches)


def test_the_object_of_an_order_is_rendered_once(
    cluster: FakeCluster, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[str] = []
    render = type(load(scheduler)).render

    def count(self: Any, spec: Any, job: Any) -> Any:
        times.append(job.key)
        return render(self, spec, job)

    monkeypatch.setattr(type(load(scheduler)), "render", count)
    uri = str(tmp_path / "store")
    spec = LaunchSpec(scheduler=scheduler, image=IMAGE, nodes=2, cpus="1", volumes=(f"claim:shared:{tmp_path}",))
    order = make_order(spec, "train", {"store": uri, **SETTINGS})
    job = submit(connect(), order, open_store(uri))
    assert times == [order.job.key] and job.key == f"{job.name}/1"
    worker = rendering.worker(cluster.get(PLURAL[scheduler], job.name))
    assert worker["args"] == [uri, job.key], "the number is known once it is published"
