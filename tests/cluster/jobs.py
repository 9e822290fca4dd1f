"""Launched jobs of the suite: a namespace as `manifests/base` makes it, machines for two cores, a launcher to watch."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hqclip.presets import PRESETS
from tests.cluster.place import LABEL, ROOT, Place
from tests.cluster.runs import World, flags, until

QUICK = [{"target": "container", "patch": {"resources": {"limits": {"cpu": "2"}}}}]  # half a core imports for a minute
SMALL = {
    "nodes": 2,
    "nproc": 1,
    "cpus": "500m",
    "memory": "3Gi",
    "shm": "256Mi",
    "retries": 4,
    "patches": json.dumps(QUICK),
}
LAUNCHER = "hqclip-launcher"  # whose rights the launcher has here, as in its pod


@contextmanager
def job_namespace(place: Place) -> Iterator[str]:
    """A namespace with what `manifests/base` brings, so it enforces Pod Security restricted; removed at the end.

    One that the environment names has the base, and stays as it is.
    Neither the janitor, which is tried by hand, nor the priority classes, which are of the whole cluster.
    """
    if place.has_namespace:
        yield place.namespace
        return
    text = place.kubectl("kustomize", str(ROOT / "manifests/base")).ok().out
    objects = [each for each in yaml.safe_load_all(text) if each and each["kind"] not in ("CronJob", "PriorityClass")]
    for each in objects:
        each["metadata"].setdefault("labels", {})[LABEL] = place.name
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = place.namespace
        elif "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = place.namespace
        for subject in each.get("subjects", []):
            subject["namespace"] = place.namespace
    place.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects)).ok()
    try:
        yield place.namespace
    finally:
        place.kubectl("delete", "namespace", place.namespace, "--wait=false").ok()


def as_launcher(place: Place, folder: Path) -> Path:
    """A kubeconfig with the rights of the launcher's own account, and no more."""
    config = place.kubectl("config", "view", "--raw", "--minify", "-o", "json").ok().json
    token = place.kubectl("-n", place.namespace, "create", "token", LAUNCHER, "--duration=2h").ok().out.strip()
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = place.namespace
    path = folder / "launcher.kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def launch_file(place: Place, **train: Any) -> str:
    """Machines for two cores, in the store: where."""
    common = {name: SMALL[name] for name in ("cpus", "memory", "shm", "patches")}
    wanted = {
        "scheduler": "jobset",
        "image": place.image("train"),
        "train": {**common, "nodes": 2, "nproc": 1, **train},
        "evaluate": {**common, "nodes": 2, "nproc": 1},
    }
    name = f"machines-{len(train)}.yaml"
    place.run(sys.executable, "-c", _WRITE, place.store, name, stdin=yaml.safe_dump(wanted)).ok()
    return f"{place.store}/{name}"


def job_sets(place: Place, run: str) -> list[Mapping[str, Any]]:
    """Those that a run has started and that are still there."""
    words = ("-n", place.kubeflow_namespace, "get", "jobsets", "-o", "json")
    return [each for each in place.kubectl(*words).ok().json["items"] if run in json.dumps(each["metadata"])]


def served(place: Place, group: str) -> str:
    """The API version that the cluster prefers of a group."""
    return str(place.kubectl("get", "--raw", f"/apis/{group}").ok().json["preferredVersion"]["groupVersion"])


@dataclass(frozen=True)
class Ground:
    """What launches of the suite stand on: a store with a pool and a data set, and the rights of a launcher."""

    place: Place
    store: str
    kubeconfig: Path

    def keys(self, prefix: str) -> list[str]:
        """Those of the store."""
        code = "import sys; from hqclip.store import open_store; print(*open_store(sys.argv[1]).list(sys.argv[2]))"
        return self.place.run(sys.executable, "-c", code, self.store, prefix).ok().out.split()

    @functools.cached_property
    def dataset(self) -> str:
        """The key of the data set."""
        return next(key for key in self.keys("datasets/") if key.endswith("/dataset.json"))

    @functools.cached_property
    def pool(self) -> str:
        """The key of the pool that it was made of."""
        return next(key for key in self.keys("pools/") if key.endswith(".json"))


def make_ground(place: Place, world: World, folder: Path) -> Ground:
    """A data set version, made on this machine in the store of `world`."""
    words = ("run", "annotate", "--local", "--out", str(folder), *flags(world.data(world.store)))
    place.pipelines(*words).ok()
    return Ground(place, world.store, as_launcher(place, folder))


@dataclass
class Launch:
    """A launcher as a process of this machine; what it says is in `log`."""

    place: Place
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        """All that it said so far."""
        return self.log.read_text(errors="replace")

    def says(self, text: str, patience_s: float = 240, *, times: int = 1) -> Launch:
        """Wait until it has said this, so many times; the test fails if it ends before, or does not."""
        until(lambda: self.said.count(text) >= times or self.process.poll() is not None, patience_s, lambda: self.said)
        assert self.said.count(text) >= times, self.said
        return self

    def ended(self, code: int, patience_s: float = 240) -> Launch:
        """Wait for its end, with this code."""
        until(lambda: self.process.poll() is not None, patience_s, lambda: self.said)
        assert self.process.returncode == code, self.said
        return self


@dataclass
class Launcher:
    """Launches stages by one scheduler."""

    ground: Ground
    scheduler: str
    folder: Path
    started: list[Launch] = field(default_factory=list)
    training: Launch | None = None

    @property
    def place(self) -> Place:
        """Where."""
        return self.ground.place

    def train(self, run: str, settings: Mapping[str, Any] | None = None, **machines: Any) -> Launch:
        """A training with these settings, on small machines changed by `machines`."""
        work = {"dataset": self.ground.dataset, "run": f"{self.scheduler}-{run}", **SHORT, **(settings or {})}
        return self.launch("train", run, work, machines)

    def annotate(self) -> Launch:
        """The pool annotated anew by two replicas: other than before, and than by another scheduler."""
        tokens = ANNOTATE["max_new_tokens"] + 1 + len(self.scheduler)
        return self.launch("annotate", "replicas", {"pool": self.ground.pool, **ANNOTATE, "max_new_tokens": tokens}, {})

    def launch(self, stage: str, name: str, settings: Mapping[str, Any], machines: Mapping[str, Any]) -> Launch:
        """A stage."""
        where = {"scheduler": self.scheduler, "image": self.place.image(stage), "namespace": self.place.namespace}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **where, **machines}))
        given = {"store": self.ground.store, **settings}
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        log = self.folder / f"{name}-{len(self.started)}.log"
        command = (sys.executable, "-m", "hqclip.cli", "launch", "run", stage, "--spec", str(path), *words)
        launch = Launch(self.place, log, self.place.start(*command, log=log, KUBECONFIG=str(self.ground.kubeconfig)))
        self.started.append(launch)
        return launch

    def watched(self) -> Launch:
        """The long training that cases disturb one after the other, or its next launch if nobody watches it."""
        if self.training is None or self.training.process.poll() is not None:
            self.training = self.train("long", LONG, lease_stale_s=60)
        return self.training

    def jobs(self) -> list[dict[str, Any]]:
        """Those of the namespace, as the operator's verb lists them."""
        return list(self.place.hqclip("jobs", "list", "--namespace", self.place.namespace).ok().json["jobs"])

    def job(self) -> dict[str, Any]:
        """The one that runs, or will in a moment: a scheduler's word of a job follows its pods."""
        until(self._running, 60, lambda: str(self.jobs()))
        return self._running()[0]

    def _running(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs() if job["phase"] == "running"]

    def pods(self) -> list[str]:
        """Names of those that run, by node."""
        chosen = ("-l", "app.kubernetes.io/name=hqclip", "--field-selector=status.phase=Running")
        pods = self.place.kubectl("-n", self.place.namespace, "get", "pods", *chosen, "-o", "json").ok().json["items"]
        return sorted(pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp"))

    def clear(self) -> None:
        """End what is left of launchers and jobs, and wait until it is gone."""
        for launch in self.started:
            if launch.process.poll() is None:
                launch.process.kill()
                launch.process.wait()
        for job in self.jobs():
            self.place.hqclip("jobs", "cancel", "--namespace", self.place.namespace, "--job", job["job"]).ok()
        until(lambda: not self.jobs() and not self.pods(), 120)


def kill_a_rank(place: Place, pod: str) -> None:
    """As a fault of its machine would, from inside the pod: its image has no pkill."""
    place.kubectl("-n", place.namespace, "exec", pod, "--", "python", "-c", _KILL).ok()


_KILL = """
import os, pathlib, signal
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if b"hqclip.agent.rank" in (process / "cmdline").read_bytes().split(b"\\0"):
        os.kill(int(process.name), signal.SIGKILL)
        print(process.name)
"""
ANNOTATE = PRESETS["demo-quick"]["annotate"]
SHORT = {**PRESETS["demo-quick"]["train"], "samples_seen": 640, "checkpoint_every": 5, "log_every": 5}
LONG = {"samples_seen": 6_400_000}  # hours
_WRITE = """
import sys; from hqclip.store import open_store
open_store(sys.argv[1]).write(sys.argv[2], sys.stdin.buffer.read())
"""
