"""A budget: what passes it is stopped, and what would is refused."""

from __future__ import annotations

import pytest

from tests.cluster.jobs import job_sets, launch_file
from tests.cluster.place import Place
from tests.cluster.runs import World, ended, run_id, until

pytestmark = pytest.mark.needs("kubernetes", "kubeflow", "store", "images", "jobset", "overlay", "gpus")
LONG = 640_000  # samples: hours on a small cluster


def test_a_budget(place: Place, world: World) -> None:
    """A training that passes the budget of its cycle is stopped (76) and its job removed; the next run of the cycle is
    refused by plan, with the figures, before anything begins."""
    inputs = {
        **world.refine,
        "store": f"{world.store}-budget",
        "train_samples_seen": LONG,
        "plan_launch": launch_file(place, nodes=1, gpus=1),
    }
    words = ("--launched", "train,evaluate", "--budget", "0.01")
    first = ended(place, "refine", inputs, *words).ended(1)
    why, *_ = place.pipelines("explain", run_id(first), "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("train-hqclip", "budget")
    assert "GPU-hours are more than its budget of 0.01" in why["line"]
    until(lambda: not job_sets(place, run_id(first)), 60)
    again = ended(place, "refine", inputs, *words).ended(1)
    (why,) = place.pipelines("explain", run_id(again), "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("plan", "budget")
    assert "GPU-hours are more than its budget of 0.01" in why["line"]
