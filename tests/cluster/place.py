"""Where the suite runs: what the environment names, and what is there; a case that wants more is skipped by name."""

from __future__ import annotations

import functools
import json
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.alone import GIVEN

ROOT = Path(__file__).parents[2]
LABEL = "hqclip.test"  # on all objects that the suite makes in Kubernetes
STORE, NAMESPACE = "HQCLIP_CLUSTER_STORE", "HQCLIP_CLUSTER_NAMESPACE"
PLATFORM = "HQCLIP_CLUSTER_PLATFORM"
WANTED = {
    "kubernetes": "KUBECONFIG names a cluster that answers kubectl",
    "kubeflow": "HQCLIP_KFP_HOST names Kubeflow Pipelines' API",
    "store": f"{STORE} names a bucket that this machine and the pods reach, such as gs://bucket/prefix",
    "images": "HQCLIP_REGISTRY and HQCLIP_TAG name images that the nodes can pull, or have",
    "jobset": "JobSet's kinds are served",
    "volcano": "Volcano's kinds are served",
    "kueue": "Kueue's kinds are served",
    "gpus": "a node has nvidia.com/gpu",
    "overlay": "manifests/overlays/kubeflow is applied: the account hqclip-worker is there",
    "restricted": "the namespace of Kubeflow enforces Pod Security restricted",
}
_GROUPS = {"jobset": "jobset.x-k8s.io", "volcano": "batch.volcano.sh", "kueue": "kueue.x-k8s.io"}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    command: Sequence[str]
    code: int
    out: str
    err: str

    def ok(self) -> Done:
        """Itself, if it ended with 0; else the test fails and shows what was said."""
        return self.ended(0)

    def ended(self, code: int) -> Done:
        """Itself, if it ended with this code."""
        assert self.code == code, (
            f"{' '.join(self.command)}\nended with {self.code}, not {code}\n{self.out}\n{self.err}"
        )
        return self

    @property
    def json(self) -> Any:
        """What it printed, read."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Place:
    """A cluster, Kubeflow on it, and a store; `name` is on everything that this run of the suite makes."""

    name: str = field(default_factory=lambda: f"hqclip-test-{secrets.token_hex(3)}")
    environment: Mapping[str, str] = field(default_factory=lambda: GIVEN)

    @property
    def store(self) -> str:
        """The part of the bucket that is this run's alone."""
        return f"{self.environment[STORE].rstrip('/')}/{self.name}"

    @property
    def has_namespace(self) -> bool:
        """Whether the environment names where jobs are launched."""
        return bool(self.environment.get(NAMESPACE))

    @property
    def namespace(self) -> str:
        """Where jobs are launched: made and removed by the suite if nothing names one."""
        return self.environment.get(NAMESPACE) or self.name

    def platform(self, file: Path, **more: Any) -> Path:
        """The environment's platform file, if it names one, with small requests and `more`, written to `file`."""
        given = self.environment.get(PLATFORM)
        said = (yaml.safe_load(Path(given).read_text()) if given else {}) or {}
        for name, value in {"requests": "small", **more}.items():
            if isinstance(value, dict):
                said[name] = {**said.get(name, {}), **value}
            else:
                said[name] = [*said.get(name, []), *value] if isinstance(value, list) else value
        file.write_text(yaml.safe_dump(said))
        return file

    def image(self, role: str) -> str:
        """The image of a role, as `components/images.py` names it."""
        return f"{self.environment.get('HQCLIP_REGISTRY') or 'hqclip'}/{role}:{self.environment['HQCLIP_TAG']}"

    @property
    def kubeflow_namespace(self) -> str:
        """Where the pods of runs are."""
        return self.environment.get("HQCLIP_KFP_NAMESPACE") or "kubeflow"

    def run(self, *command: str, timeout_s: float = 900, stdin: str = "", **more: str) -> Done:
        """A command with the shell's environment and `more`, until it ends."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT), **more}
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            cwd=ROOT,
            check=False,
        )
        return Done(command, done.returncode, done.stdout, done.stderr)

    def start(self, *command: str, log: Path, **more: str) -> subprocess.Popen[bytes]:
        """A command that goes on, with the shell's environment and `more`; what it says is in `log`."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT), **more}
        with log.open("wb") as file:
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)

    def pipelines(self, *words: str, **more: Any) -> Done:
        """`python -m pipelines ...`."""
        return self.run(*PIPELINES, *words, **more)

    def hqclip(self, *words: str, **more: Any) -> Done:
        """`hqclip ...`."""
        return self.run(*HQCLIP, *words, **more)

    def kubectl(self, *words: str, **more: Any) -> Done:
        """`kubectl ...`."""
        return self.run("kubectl", *words, **more)

    def missing(self, wanted: Sequence[str]) -> list[str]:
        """Names of what of the `wanted` is not here."""
        return [each for each in wanted if not self.has(each)]

    def has(self, what: str) -> bool:
        """Whether this is here; it is looked for once."""
        return _has(self, what)

    def __hash__(self) -> int:
        return hash(self.name)


PIPELINES = (str(Path(sys.executable)), "-m", "pipelines")
HQCLIP = (str(Path(sys.executable)), "-m", "hqclip.cli")


@functools.cache
def _has(place: Place, what: str) -> bool:
    return _PROBES[what](place)


def _kubernetes(place: Place) -> bool:
    given = place.environment.get("KUBECONFIG", "")
    return bool(given and shutil.which("kubectl")) and place.kubectl("version", "-o", "json", timeout_s=60).code == 0


def _kubeflow(place: Place) -> bool:
    host = place.environment.get("HQCLIP_KFP_HOST", "")
    if not host:
        return False
    try:
        with urllib.request.urlopen(f"{host.rstrip('/')}/apis/v2beta1/healthz", timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _gpus(place: Place) -> bool:
    query = r"jsonpath={.items[*].status.allocatable.nvidia\.com/gpu}"
    counts = place.kubectl("get", "nodes", "-o", query).out.split() if place.has("kubernetes") else []
    return any(int(count) for count in counts)


def _overlay(place: Place) -> bool:
    there = ("-n", place.kubeflow_namespace, "get", "serviceaccount", "hqclip-worker")
    return place.has("kubernetes") and place.kubectl(*there).code == 0


def _serves(group: str) -> Callable[[Place], bool]:
    return lambda place: place.has("kubernetes") and place.kubectl("get", "--raw", f"/apis/{group}").code == 0


def _restricted(place: Place) -> bool:
    if not place.has("kubernetes"):
        return False
    query = r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}"
    return place.kubectl("get", "namespace", place.kubeflow_namespace, "-o", query).out == "restricted"


_PROBES: dict[str, Callable[[Place], bool]] = {
    "kubernetes": _kubernetes,
    "kubeflow": _kubeflow,
    "store": lambda place: bool(place.environment.get(STORE)),
    "images": lambda place: bool(place.environment.get("HQCLIP_TAG")),
    "restricted": _restricted,
    "gpus": _gpus,
    "overlay": _overlay,
    **{name: _serves(group) for name, group in _GROUPS.items()},
}


def versions(place: Place) -> dict[str, str]:
    """What is there, as far as it says itself; controllers that are no Deployments of the cluster do not."""
    told: dict[str, str] = {}
    if place.has("kubernetes"):
        told["Kubernetes"] = str(place.kubectl("version", "-o", "json").json["serverVersion"]["gitVersion"])
        told |= _controllers(place)
    if place.has("kubeflow"):
        host = place.environment["HQCLIP_KFP_HOST"].rstrip("/")
        with urllib.request.urlopen(f"{host}/apis/v2beta1/healthz", timeout=30) as answer:
            told["Kubeflow Pipelines"] = str(json.load(answer).get("tag_name") or "unknown")
    return told


def _controllers(place: Place) -> dict[str, str]:
    found = place.kubectl("get", "deployments", "--all-namespaces", "-o", "json")
    deployments = found.json["items"] if found.code == 0 else []
    names = {"jobset": "JobSet", "volcano": "Volcano", "kueue": "Kueue", "workflow-controller": "Argo Workflows"}
    told = {
        title: "served, of no known version" for word, title in names.items() if word in _GROUPS and place.has(word)
    }
    for deployment in deployments:
        for word, title in names.items():
            if deployment["metadata"]["name"].startswith(word):
                image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
                told[title] = image.rpartition(":")[2]
    return told
