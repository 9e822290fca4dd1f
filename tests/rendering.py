"""What tests of rendered objects share: a stage and flags in, the object out, and its parts by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hqclip.launch.machines import read_spec
from hqclip.launch.profiles import read_profiles
from hqclip.launch.resolve import Order, make_order

Json = dict[str, Any]
IMAGE = "registry.example/hqclip/train@sha256:" + "0123456789abcdef" * 4
TRAIN = {"store": "gs://bucket/hqclip", "dataset": "datasets/0123456789abcdef/dataset.json", "run": "000001-hqclip"}
ANNOTATE = {"store": "gs://bucket/hqclip", "pool": "pools/0123456789abcdef/pool.json"}
PROFILES, NETWORKS = read_profiles()["profiles"], read_profiles()["networks"]
TOPOLOGY = {"volcano": "2", "jobset": "cloud.google.com/gce-topology-block"}
RICH = {
    "gpus": 8,
    "nproc": 4,
    "launch_id": "Run 4f1c/β",
    "queue": "vision",
    "priority_class": "hqclip-train",
    "topology_mode": "required",
    "spot": True,
    "disk": "200Gi",
    "devices": ["rdma/ib=8"],
    "node_selector": ["gpu=h100"],
    "tolerations": ["dedicated=vision:NoSchedule", "maintenance"],
    "labels": ["team=vision"],
    "job_annotations": ["owner=jane@example.com, room 3"],
    "image_pull_secrets": ["registry"],
    "volumes": ["claim:data:/data:ro", "gcs:pool:/pool", "secret:hub:/hub", "config:notes:/notes", "empty:more:/more"],
    "env": ["GREETING=it costs $(PRICE) or $$5", "EMPTY="],
    "secret_env": ["HF_TOKEN=hub/token"],
    "patches": json.dumps(
        [
            {"target": "container:worker", "patch": {"env": [{"name": "TEAM", "value": "vision"}]}},
            {"target": "pod", "patch": {"spec": {"tolerations": [{"key": "more", "operator": "Exists"}]}}},
            {"target": "job", "patch": {"metadata": {"annotations": {"example.com/cost-centre": "1234"}}}},
        ]
    ),
}


def order(scheduler: str, stage: str = "train", settings: Json | None = None, **flags: Any) -> Order:
    """What is asked for, of two nodes if nothing else is said."""
    settings = settings or (TRAIN if stage == "train" else ANNOTATE)
    spec = read_spec({"scheduler": scheduler, "image": IMAGE, "nodes": 2, **flags})
    made = make_order(spec, stage, settings)
    return replace(made, job=replace(made.job, launch=1))


def rendered(scheduler: str, stage: str = "train", settings: Json | None = None, **flags: Any) -> Json:
    """The object for it."""
    return order(scheduler, stage, settings, **flags).body


def rich(scheduler: str) -> Json:
    """With everything that can be asked for."""
    return rendered(scheduler, topology=TOPOLOGY[scheduler], **RICH)


def indexed_job(body: Json) -> Json:
    """The Job inside a JobSet."""
    (replicated,) = body["spec"]["replicatedJobs"]
    return dict(replicated["template"]["spec"])


def template(body: Json) -> Json:
    """The pods of a job of either kind."""
    return dict(body["spec"]["tasks"][0]["template"] if body["kind"] == "Job" else indexed_job(body)["template"])


def worker(body: Json) -> Json:
    (container,) = template(body)["spec"]["containers"]
    return dict(container)


def env(body: Json) -> dict[str, str]:
    return {item["name"]: item["value"] for item in worker(body)["env"] if "value" in item}
