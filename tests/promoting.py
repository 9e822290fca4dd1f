"""A cycle with everything that `promote` reads, made by hand; as a program, a `promote` that is killed at a write.

`python -m tests.promoting STORE KILL_AT` promotes in that store and dies like kill -9 before the KILL_AT-th object is
published (0: never).
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hqclip import exported
from hqclip.config import DemoWorldConfig, PlanConfig, PromoteConfig
from hqclip.cycle import plan, promote
from hqclip.cycle.keys import notes_prefix, plan_key
from hqclip.data.outcomes import Outcomes, write_outcomes
from hqclip.demo.world import make_world
from hqclip.records import BenchmarkScore, CyclePlan, Evaluation, Sample
from hqclip.store import Store, open_store
from tests.fakes.cut_short import die_at_change
from tests.training import tiny_run

SUITE = "suite"
RIGHT = {"raw": 80, "hqclip": 120}  # of 200 items


def make_cycle(folder: Path, samples: list[Sample]) -> str:
    """A first cycle that is refined, trained and judged, all but promoted; the root of its store."""
    given = tiny_run(folder, samples)
    store = open_store(given.store)
    plan = CyclePlan(
        cycle=1,
        fingerprint="f",
        champion=None,
        settings={"promote": {"margin": 0.005}, "train": {"model": "shapes"}},
        trials=tuple({"name": name, "settings": {}} for name in RIGHT),
    )
    store.write(plan_key(1), plan.to_json())
    _note(store, "curate", {"dataset": given.dataset})
    for name, right in RIGHT.items():
        _note(store, f"evaluate-{name}", {"evaluation": judge(store, train(store, f"000001-{name}"), right)})
    return given.store


def make_waiting(folder: Path, samples: list[Sample]) -> str:
    """Such a cycle, promoted as far as it goes: its winner waits for a person."""
    root = make_cycle(folder, samples)
    promote.run(replace(config_of(root), approval=True))
    return root


def copy_of(store: str, to: Path) -> str:
    """The same store at another place."""
    shutil.copytree(store, to)
    return str(to)


def draw_world(folder: Path) -> dict[str, Any]:
    """Shards and a suite for another cycle."""
    return make_world(DemoWorldConfig(store=str(folder), images=12, scenes=8))


def next_plan(root: str, world: dict[str, Any]) -> dict[str, Any]:
    """Another cycle, with other data than the first; it trains nothing, since the champion was judged by no suite."""
    given = {"shards": world["shards"], "preset": "demo-quick", "trials": "", "data_only": True}
    return plan.run(PlanConfig.from_mapping({"store": root, **given}))


def config_of(root: str) -> PromoteConfig:
    """What the pipeline gives to `promote`."""
    store = open_store(root)
    said = {name: json.loads(store.read(f"{notes_prefix(1)}{name}.json")) for name in ("curate", "evaluate-raw")}
    other = json.loads(store.read(f"{notes_prefix(1)}evaluate-hqclip.json"))["evaluation"]
    evaluations = (said["evaluate-raw"]["evaluation"], other)
    return PromoteConfig(store=root, plan=plan_key(1), dataset=said["curate"]["dataset"], evaluations=evaluations)


def train(store: Store, run: str) -> str:
    """The folder of a run as `train` leaves it, with weights of its own."""
    config, weights = b'{"preprocess_cfg": {}}', run.encode()
    digest = exported.model_digest(io.BytesIO(config), io.BytesIO(weights))
    store.write(f"runs/{run}/model/{exported.CONFIG}", config)
    store.write(f"runs/{run}/model/{exported.WEIGHTS}", weights)
    store.write(f"runs/{run}/config.json", b'{"negative_weight": 0.5}')
    store.write(f"runs/{run}/metrics.jsonl", b'{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n')
    store.write(f"runs/{run}/result.json", json.dumps({"model_digest": digest}).encode())
    return run


def judge(store: Store, run: str, right: int, suite: str = SUITE) -> str:
    """The key of an evaluation of a run that was right on that many of 200 items."""
    values = np.array([1.0] * right + [0.0] * (200 - right))
    digest = json.loads(store.read(f"runs/{run}/result.json"))["model_digest"]
    outcomes = f"evaluations/{digest}/{suite}.outcomes.parquet"
    written = write_outcomes(
        store, outcomes, Outcomes({"quiz/accuracy": values}, {"quiz/accuracy": np.full(200, "all")})
    )
    evaluation = Evaluation(
        model=f"runs/{run}/model",
        model_digest=digest,
        suite="quiz",
        suite_digest=suite,
        benchmarks=(BenchmarkScore("quiz", "choice", {"main": right / 200}, "main", 200, (0.0, 1.0)),),
        average=right / 200,
        outcomes=outcomes,
        outcomes_crc32c=written.crc32c,
    )
    key = f"evaluations/{digest}/{suite}.json"
    store.write(key, evaluation.to_json())
    return key


def _note(store: Store, task: str, result: dict[str, Any]) -> None:
    store.write(f"{notes_prefix(1)}{task}.json", json.dumps(result).encode())


def main(root: str, kill_at: str) -> None:
    """Promote, or die."""
    die_at_change(int(kill_at))
    promote.run(config_of(root))


if __name__ == "__main__":
    main(*sys.argv[1:])
