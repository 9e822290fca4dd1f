"""Runs of the suite: the world they work on, a run until its end, its tasks by name."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tests.cluster.place import LABEL, PLATFORM, Done, Place

PICTURES, SCENES, SAMPLES = 128, 16, 320  # the least that all stages still have work with
_ID = re.compile(r"started run ([0-9a-f-]{36})")


@dataclass(frozen=True)
class World:
    """The shapes world in the store, and the inputs of a small refinement of it."""

    store: str
    shards: str
    suite: str

    @property
    def refine(self) -> dict[str, Any]:
        """Inputs of a first cycle."""
        return {
            "store": self.store,
            "download_shards": self.shards,
            "evaluate_suite": self.suite,
            "plan_preset": "demo-quick",
            "plan_cycle": 1,
            "train_trials": "hqclip",
            "train_samples_seen": SAMPLES,
        }

    def data(self, store: str) -> dict[str, Any]:
        """Inputs of a cycle of data alone, in a store of its own."""
        inputs = {name: value for name, value in self.refine.items() if not name.startswith(("train", "evaluate"))}
        return {**inputs, "store": store}


def draw_world(place: Place) -> World:
    """Draw it, in the part of the store that is this suite's."""
    words = ("demo", "world", "--store", f"{place.store}/world", "--images", str(PICTURES), "--scenes", str(SCENES))
    drawn = place.hqclip(*words).ok().json
    return World(f"{place.store}/store", drawn["shards"], drawn["suite"])


def flags(inputs: Mapping[str, Any]) -> list[str]:
    """Inputs as the words of a command."""
    return [word for name, value in inputs.items() for word in ("--set", f"{name}={value}")]


def started(place: Place, pipeline: str, inputs: Mapping[str, Any], *words: str) -> str:
    """The id of a run that was started and goes on."""
    return str(place.pipelines(*_command(place, pipeline, inputs, words), "-o", "json").ok().json["run_id"])


def ended(place: Place, pipeline: str, inputs: Mapping[str, Any], *words: str) -> Done:
    """A run, waited for."""
    return place.pipelines(*_command(place, pipeline, inputs, words), "--wait", "--poll-s", "5")


def _command(place: Place, pipeline: str, inputs: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    needed = [] if "--platform" in words else small(place)
    return ["run", pipeline, "--experiment", place.name, *needed, *flags(inputs), *words]


def small(place: Place) -> list[str]:
    """What a compiled pipeline needs to run on two cores of this cluster, as words of a command."""
    given = place.environment.get(PLATFORM)
    return ["--requests", "small", *(["--platform", given] if given else [])]


def run_id(done: Done) -> str:
    """Of a run that was waited for."""
    found = _ID.search(done.err)
    assert found, done.err
    return found[1]


def tasks(place: Place, run: str) -> dict[str, str]:
    """The states of the tasks of a run by their names."""
    told = place.pipelines("status", run, "-o", "json").ok().json
    return {task["task"]: task["state"] for task in told["tasks"]}


def state(place: Place, run: str) -> str:
    """Where a run is."""
    return str(place.pipelines("status", run, "-o", "json").ok().json["state"])


def pods_of(place: Place, run: str, task: str) -> list[str]:
    """Names of the pods that run a task just now."""
    pods = [pod for pod in pods_with(place, run, {}) if pod["status"]["phase"] == "Running"]
    return [pod["metadata"]["name"] for pod in pods if _is_of(pod, task)]


def pods_with(place: Place, run: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those of the run that are there and have these labels."""
    chosen = ",".join(f"{name}={value}" for name, value in {"pipeline/runid": run, **labels}.items())
    words = ("get", "pods", "-n", place.kubeflow_namespace, "-l", chosen, "-o", "json")
    return list(place.kubectl(*words).ok().json["items"])


@contextlib.contextmanager
def applied(place: Place, namespace: str, *objects: dict[str, Any]) -> Iterator[None]:
    """Objects of the suite, as long as a case wants them."""
    for each in objects:
        each["metadata"]["labels"] = {LABEL: place.name}
    text = yaml.safe_dump_all(objects)
    place.kubectl("-n", namespace, "apply", "-f", "-", stdin=text).ok()
    try:
        yield
    finally:
        place.kubectl("-n", namespace, "delete", "-f", "-", "--wait=false", stdin=text).ok()


def _is_of(pod: dict[str, Any], task: str) -> bool:
    """Whether a pod runs the user's code of this task, which is in its command; a driver's never is."""
    parts = [part for each in pod["spec"]["containers"] for part in each.get("command", []) + each.get("args", [])]
    return any(f"def {task}(" in part for part in parts)


def terminate(place: Place, run: str) -> None:
    """By Kubeflow's API alone, as its page does; one that has ended is let be."""
    url = f"{place.environment['HQCLIP_KFP_HOST'].rstrip('/')}/apis/v2beta1/runs/{run}:terminate"
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, method="POST", data=b""), timeout=60).close()


def remove_all(place: Place) -> None:
    """Runs and experiments of the suite, and all that it has in the store."""
    if place.has("kubeflow"):
        for experiment in (place.name, f"{place.name}-nightly", f"{place.name}-channels"):
            place.run(sys.executable, "-c", _FORGET, experiment).ok()
    if place.has("store"):
        code = "import sys; from hqclip.store import open_store; store = open_store(sys.argv[1])"
        place.run(
            sys.executable, "-c", f"{code}; [store.delete(key) for key in list(store.list(''))]", place.store
        ).ok()


_FORGET = """
import os, sys, kfp
client = kfp.Client(host=os.environ["HQCLIP_KFP_HOST"])
try:
    experiment = client.get_experiment(experiment_name=sys.argv[1]).experiment_id
except ValueError:
    sys.exit()
for run in client.list_runs(experiment_id=experiment, page_size=100).runs or []:
    client.delete_run(run.run_id)
client.delete_experiment(experiment)
"""


def is_free(place: Place, store: str) -> bool:
    """Whether another run would be let in, which this one is for a moment."""
    return not place.run(sys.executable, "-c", _LOOK_IN, store).ok().out.strip()


_LOOK_IN = """
import sys; from hqclip.cycle.lock import release, take; from hqclip.store import open_store
store = open_store(sys.argv[1])
print(take(store, "whoever comes next", 1) or "")
release(store, "whoever comes next")
"""


def until(happened: Callable[[], object], patience_s: float, told: Callable[[], str] = str) -> None:
    """Wait for something; the test fails if it has not happened by then, and shows what was `told`."""
    end = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < end, f"it did not happen within {patience_s:.0f} s\n{told()}"
        time.sleep(3)
