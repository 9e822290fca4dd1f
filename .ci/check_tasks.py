"""Tasks that plan for machines or launch, each in its image: `python .ci/check_tasks.py OUT`, after a demo in OUT.

A launching task has come far enough when the cluster refuses it: then all that it imports is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from hqclip.stages import LAUNCHABLE
from hqclip.store import open_store
from pipelines.compiling import compile_pipeline
from pipelines.demo import demo_inputs
from pipelines.lint.compiled import Compiled, Task, constant
from tests.tasks import Forbidden, arguments, executor_input, was_refused

EARLIER = {"pool": "pools/p", "annotations": "annotations/a", "dataset": "datasets/d", "model": "runs/r/model"}
STAGES = {
    "refine": LAUNCHABLE,
    "annotate": ("annotate", "score"),
    "sweep": ("train", "evaluate"),
    "evaluate": ("evaluate",),
}


def main(out: Path) -> None:
    """Raises `AssertionError` for a task that ends otherwise than it should."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidden)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch)
        folder.chmod(0o777)
        (folder / "kubeconfig").write_text(kubeconfig(f"http://127.0.0.1:{server.server_port}"))
        for name, stages in STAGES.items():
            check(name, stages, out, folder)


def check(name: str, stages: tuple[str, ...], out: Path, folder: Path) -> None:
    """All tasks of a pipeline that have to do with launching."""
    store = open_store(str(out / "store"))
    values = {**demo_inputs("demo-quick", out, 1), "plan_preset": "demo-quick", "plan_cycle": 0}
    values |= {"train_seed": 77} if "train" in stages else {}
    values |= {
        "curate_dataset": next(key for key in store.list("datasets/") if key.endswith("/dataset.json")),
        "sweep_trials": '[{"name": "t", "settings": {"seed": 7}}]',
        "plan_launch": str(folder / "machines.yaml"),
    }
    machines = {"scheduler": "jobset", "image": "r.example/hqclip@sha256:" + "0" * 64}
    shared = {"volumes": [f"claim:store:{values['store']}"]}
    (folder / "machines.yaml").write_text(yaml.safe_dump({**machines, **shared, **{stage: {} for stage in stages}}))
    plain, launched = (compiled(name, given, folder) for given in ((), stages))
    first = next(task for task in plain.tasks if "launched" in task.parameters)
    assert run(plain, first, values, {}, folder)[0] == 64, f"{name}: machines of stages that are not launched"
    first = next(task for task in launched.tasks if "launched" in task.parameters)
    assert run(launched, first, values, {}, folder)[0] == 0, f"{name}: {first.name} with machines"
    (folder / "earlier").write_text(json.dumps(EARLIER))
    for task in launched.tasks:
        if task.name in stages:
            artifacts = dict.fromkeys(task.artifacts, folder / "earlier")
            artifacts["planned"] = folder / first.name / "planned"
            given = {**values, "trial": {"name": "raw", "settings": {}}, "gpus": "0"}
            code, said = run(launched, task, given, artifacts, folder)
            assert was_refused(code, said), f"{name}: {task.name} ends with {code}"
            print(f"{name}: {task.name} finds all that it needs to launch")


def compiled(name: str, launched: tuple[str, ...], folder: Path) -> Compiled:
    """The pipeline, read."""
    return Compiled(next(yaml.safe_load_all(compile_pipeline(name, folder / "it.yaml", launched).read_text())))


def run(
    pipeline: Compiled, task: Task, values: Mapping[str, Any], artifacts: Mapping[str, Path], folder: Path
) -> tuple[int, str]:
    """The exit code of a task in its image, and what it said."""
    container = pipeline.container(task)
    defaults = {key: told.get("defaultValue") for key, told in pipeline.root.takes().items()}
    parameters = {}
    for key, source in task.parameters.items():
        _, origin = task.origin(source)
        named = origin.get("componentInputParameter", "")
        value = {**defaults, **values}.get(named, values.get(key)) if named else values.get(key, constant(origin))
        parameters[key] = "check" if str(value).startswith("{{$") else value  # Kubeflow fills placeholders in
    outputs = folder / task.name
    outputs.mkdir(exist_ok=True)
    outputs.chmod(0o777)
    words = arguments(container, executor_input(task.component, outputs, parameters, artifacts))
    root = Path(values["store"]).parent
    safely = ["--read-only", "--tmpfs", "/tmp:exec", "--cap-drop", "ALL", "--network", "host"]  # noqa: S108
    seen = ["-v", f"{root}:{root}", "-e", f"KUBECONFIG={folder / 'kubeconfig'}"]
    command = ["docker", "run", "--rm", *safely, *seen, container["image"], *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, end="")
    return done.returncode, done.stdout


def kubeconfig(url: str) -> str:
    """For the cluster at this address."""
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}
    parts = {"contexts": [context], "clusters": [{"name": "c", "cluster": {"server": url}}]}
    about = {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
    return json.dumps({**about, **parts, "users": [{"name": "u", "user": {}}]})


main(Path(sys.argv[1]).resolve())
