"""What looks after a store between runs: janitor, its gc and the watcher, started as their CronJobs start them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.place import LABEL, ROOT, Place
from tests.cluster.runs import World, until

pytestmark = pytest.mark.needs("kubernetes", "store", "images")
COMPONENTS = ("store-gc", "notify")
CONTAINERS = {"hqclip-janitor": "janitor", "hqclip-janitor-gc": "janitor", "hqclip-notify": "notify"}  # by CronJob
PORT = 6443  # which the watcher's network policy lets through
RECEIVER = """
import http.server
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("received", self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("", {port}), Receiver).serve_forever()
"""


@pytest.fixture(scope="module")
def namespace(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With the base, both components and a receiver of messages; it enforces Pod Security restricted."""
    name = f"{place.name}-guards"
    folder = tmp_path_factory.mktemp("guards")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization(place, name, folder)))
    text = place.kubectl("kustomize", str(folder)).ok().out
    kept = [each for each in yaml.safe_load_all(text) if each and each["kind"] != "PriorityClass"]
    place.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(kept)).ok()
    try:
        place.kubectl("-n", name, "apply", "-f", "-", stdin=yaml.safe_dump_all(receiver(place))).ok()
        wait = ("wait", "pod/receiver", "--for=condition=Ready", "--timeout=120s")
        place.kubectl("-n", name, *wait).ok()
        address = place.kubectl("-n", name, "get", "pod", "receiver", "-o", "jsonpath={.status.podIP}").ok().out
        url = f"--from-literal=HQCLIP_NOTIFY_WEBHOOK_URL=http://{address}:{PORT}/"
        place.kubectl("-n", name, "create", "secret", "generic", "hqclip-notify", url).ok()
        yield name
    finally:
        place.kubectl("delete", "namespace", name, "--wait=false").ok()


def kustomization(place: Place, namespace: str, folder: Path) -> dict[str, object]:
    """The base and its components in a namespace of the suite's own, with the suite's store and images."""
    manifests = Path(os.path.relpath(ROOT / "manifests", folder))
    image, _, tag = place.image("launch").rpartition(":")
    variables = {"STORE": place.store, "EXPECT_EVERY_HOURS": "1"}
    env = [{"name": name, "value": value} for name, value in variables.items()]
    patches = [
        {"target": {"kind": "CronJob", "name": name}, "patch": yaml.safe_dump(only_by_hand(name, container, env))}
        for name, container in CONTAINERS.items()
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [str(manifests / "base")],
        "components": [str(manifests / "components" / each) for each in COMPONENTS],
        "labels": [{"pairs": {LABEL: place.name}}],
        "images": [{"name": "hqclip/launch", "newName": image, "newTag": tag}],
        "patches": patches,
    }


def only_by_hand(name: str, container: str, env: list[dict[str, str]]) -> dict[str, object]:
    """A patch of a CronJob: these variables, and no rounds by itself."""
    template = {"spec": {"template": {"spec": {"containers": [{"name": container, "env": env}]}}}}
    spec = {"suspend": True, "jobTemplate": template}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def receiver(place: Place) -> list[dict[str, object]]:
    """A pod that prints the messages which it gets, and the policy that lets them in."""
    named = {"name": "receiver", "labels": {LABEL: place.name, "receiver": "messages"}}
    chosen = {"podSelector": {"matchLabels": {"receiver": "messages"}}}
    container = {
        "name": "receiver",
        "image": place.image("launch"),
        "command": ["python", "-c", RECEIVER.format(port=PORT)],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": named,
            "spec": {"containers": [container], "securityContext": security, "automountServiceAccountToken": False},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "receiver"},
            "spec": {**chosen, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": PORT}]}]},
        },
    ]


def round_of(place: Place, namespace: str, name: str) -> str:
    """One round of a CronJob, waited for: what it said."""
    job = f"{name}-now"
    place.kubectl("-n", namespace, "create", "job", job, f"--from=cronjob/{name}").ok()

    def ended() -> str:
        return place.kubectl("-n", namespace, "get", "job", job, "-o", "jsonpath={.status.conditions[*].type}").ok().out

    def said() -> str:
        return place.kubectl("-n", namespace, "logs", f"job/{job}").out

    until(lambda: "Complete" in ended() or "Failed" in ended(), 180, said)
    assert "Complete" in ended(), said()
    return said()


def test_the_janitor(place: Place, namespace: str) -> None:
    """The janitor's round ends well with its own rights."""
    assert '"deleted": {}' in round_of(place, namespace, "hqclip-janitor")


def test_old_data(place: Place, world: World, namespace: str) -> None:
    """The round of hqclip gc says what would go, and deletes nothing."""
    said = round_of(place, namespace, "hqclip-janitor-gc")
    assert f'"store": "{place.store}"' in said and '"deleted": false' in said


def test_a_night_without_a_run(place: Place, world: World, namespace: str) -> None:
    """The watcher tells a webhook that no run began when one was expected, with its own rights."""
    place.run(sys.executable, "-c", _LAST_NIGHT, place.store).ok()
    said = round_of(place, namespace, "hqclip-notify")
    assert '"never_started": "the last run, last-night, began 5 hours ago' in said
    received = place.kubectl("-n", namespace, "logs", "receiver").ok().out
    assert received.count("no run began when one was expected") == 1


_LAST_NIGHT = """
import sys, time; from hqclip.store import open_store; from hqclip.task_records import TaskRecord, write_record
began = time.time() - 5 * 3600
last = {"run": "last-night", "started": began, "ended": began + 60, "exit_code": 0}
nothing = {"has_work": False, "reason": "nothing is new"}
write_record(open_store(sys.argv[1]), TaskRecord(stage="plan", decided=nothing, **last))
write_record(open_store(sys.argv[1]), TaskRecord(stage="finish", **last))
"""
