"""Launched jobs of the suite: a namespace as `manifests/base` makes it, machines for two cores, a launcher to watch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hqclip.presets import PRESETS
from tests.cluster.place import LABEL, ROOT, Place
from tests.cluster.runs import World, flags, until

SMALL = {"nodes": 2, "nproc": 1, "cpus": "500m", "memory": "3Gi", "shm": "256Mi", "retries": 4}
LAUNCHER = "hqclip-launcher"  # whose rights the launcher has here, as in its pod


@contextmanager
def job_namespace(place: Place) -> Iterator[str]:
    """A namespace with what `manifests/base` brings, Pod Security restricted among it; removed at the end."""
    text = place.kubectl("kustomize", str(ROOT / "manifests/base")).ok().out
    objects = [each for each in yaml.safe_load_all(text) if each and each["kind"] != "CronJob"]
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


def a_dataset(place: Place, world: World, folder: Path) -> str:
    """The key of a data set version, made on this machine in the store of the suite."""
    inputs = {name: value for name, value in world.refine.items() if not name.startswith(("train", "evaluate"))}
    words = ("run", "annotate", "--local", "--out", str(folder), *flags(inputs))
    place.pipelines(*words).ok()
    code = (
        "import sys; from hqclip.store import open_store; print(*open_store(sys.argv[1]).list('datasets/'), sep='\\n')"
    )
    keys = place.run(sys.executable, "-c", code, world.store).ok().out.split()
    return next(key for key in keys if key.endswith("/dataset.json"))


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

    def says(self, text: str, patience_s: float = 300) -> Launch:
        """Wait until it has said this; the test fails if it ends before, or does not."""
        until(lambda: text in self.said or self.process.poll() is not None, patience_s)
        assert text in self.said, self.said
        return self

    def ended(self, code: int, patience_s: float = 600) -> Launch:
        """Wait for its end, with this code."""
        assert self.process.wait(patience_s) == code, self.said
        return self


@dataclass
class Launcher:
    """Launches trainings of one scheduler."""

    place: Place
    scheduler: str
    store: str
    dataset: str
    kubeconfig: Path
    folder: Path
    started: list[Launch] = field(default_factory=list)

    def train(self, run: str, settings: Mapping[str, Any] | None = None, **machines: Any) -> Launch:
        """A training with these settings, on small machines changed by `machines`."""
        where = {"scheduler": self.scheduler, "image": self.place.image("train"), "namespace": self.place.namespace}
        path = self.folder / f"{run}.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **where, **machines}))
        work = {
            "store": self.store,
            "dataset": self.dataset,
            "run": f"{self.scheduler}-{run}",
            **SHORT,
            **(settings or {}),
        }
        words = [word for name, value in work.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        log = self.folder / f"{run}-{len(self.started)}.log"
        command = (sys.executable, "-m", "hqclip.cli", "launch", "run", "train", "--spec", str(path), *words)
        launch = Launch(self.place, log, self.place.start(*command, log=log, KUBECONFIG=str(self.kubeconfig)))
        self.started.append(launch)
        return launch

    def jobs(self) -> list[dict[str, Any]]:
        """Those of the namespace, as the operator's verb lists them."""
        return list(self.place.hqclip("jobs", "list", "--namespace", self.place.namespace).ok().json["jobs"])

    def pods(self, job: str = "") -> list[str]:
        """Names of pods that run."""
        chosen = (
            "-n",
            self.place.namespace,
            "-l",
            "app.kubernetes.io/name=hqclip",
            "--field-selector=status.phase=Running",
        )
        pods = self.place.kubectl("get", "pods", *chosen, "-o", "json").ok().json["items"]
        return sorted(pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].startswith(job))

    def clear(self) -> None:
        """End what is left of launchers and jobs, and wait until it is gone."""
        for launch in self.started:
            if launch.process.poll() is None:
                launch.process.kill()
                launch.process.wait()
        for job in self.jobs():
            self.place.hqclip("jobs", "cancel", "--namespace", self.place.namespace, "--job", job["job"]).ok()
        until(lambda: not self.jobs(), 120)
        end = time.monotonic() + 120
        while self.pods() and time.monotonic() < end:
            time.sleep(2)


SHORT = {**PRESETS["demo-quick"]["train"], "samples_seen": 640, "checkpoint_every": 5, "log_every": 5}
LONG = {"samples_seen": 640_000}
