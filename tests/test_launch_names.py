"""Names: short enough, the same for the same work whatever its machines, and what a job is bears a digest."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hqclip.errors import ConfigError
from hqclip.launch.registry import KUBERNETES
from hqclip.stages import STAGES
from tests.rendering import ANNOTATE, TRAIN, Json, order, rendered


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stage", STAGES)
def test_the_longest_names_are_short_enough_for_hosts(stage: str, scheduler: str) -> None:
    known = {"store": "gs://bucket", "evaluations": ["a"], "run": "r" * 63}
    wanted = {name: known.get(name, "x") for name in required(stage)}
    nodes = 4096 if stage in ("train", "annotate") else 1
    body = rendered(scheduler, stage, wanted, nodes=nodes, launch_id="9" * 63)
    name = body["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), "a Service has this name too"
    pod = f"{name}-node-{nodes - 1}" if scheduler == "volcano" else f"{name}-node-0-{nodes - 1}-x7k2p"
    assert len(pod) <= 63


def required(stage: str) -> list[str]:
    try:
        STAGES[stage].settings.from_mapping({})
    except ConfigError as error:
        return re.findall(r"^(\w+) is missing", str(error), re.MULTILINE)
    return []


def named(settings: Json | None = None, stage: str = "train", **flags: Any) -> tuple[str, str]:
    """Name and digest of a job."""
    base = TRAIN if stage == "train" else ANNOTATE
    job = order("volcano", stage, {**base, **(settings or {})}, **flags).job
    return job.name, job.digest


def test_the_same_work_is_found_under_the_same_name_whatever_its_machines() -> None:
    name, digest = named()
    assert named() == (name, digest)
    for other in ({"nodes": 4}, {"gpus": 8}, {"queue": "vision"}, {"env": ["A=1"]}, {"retries": 7}):
        assert named(**other)[0] == name and named(**other)[1] != digest
    same_run = named({"learning_rate": 1e-3})
    assert same_run[0] == name and same_run[1] != digest, "two trainings of one run must not go on at a time"
    assert named({"store": "gs://bucket/hqclip/"})[0] == name


def test_one_annotator_and_several_that_share_the_work_have_one_name() -> None:
    alone, shared = named(stage="annotate", nodes=1), named(stage="annotate", nodes=4)
    assert alone[0] == shared[0] and alone[1] != shared[1]


def test_other_work_has_another_name() -> None:
    others = [
        named({"run": "000002-hqclip"}),
        named({"store": "gs://other"}),
        named(stage="annotate", launch_id="b"),
        named(stage="annotate", launch_id="c"),
    ]
    others += [named(stage="annotate"), named({"prompt": "shapes-1"}, "annotate"), named()]
    assert len({name for name, _ in others}) == len(others)


def test_a_run_has_one_name_whoever_asks_for_it() -> None:
    names = {named(launch_id=launch_id)[0] for launch_id in ("", "b", "c")}
    assert len(names) == 1


def test_how_a_job_is_watched_does_not_change_what_it_is() -> None:
    watched = {
        "follow": "none",
        "on_termination": "detach",
        "pending_timeout_s": 5,
        "stall_timeout_s": 7,
        "again": True,
    }
    assert named(**watched) == named()
