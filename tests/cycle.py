"""The stages of a cycle as the pipeline runs them, with their results in files; as a program, killed at a write.

`python -m tests.cycle ROOT WORLD FOLDER KILL_AT` runs a first cycle and dies like kill -9 before the KILL_AT-th
object is published (0: never).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hqclip.task import run_named, run_planned
from tests.fakes.cut_short import die_at_change

STEPS = ("download", "annotate", "score", "curate")
TINY = {
    "annotate.batch_size": 20,
    "train.samples_seen": 96,
    "train.batch_size": 16,
    "train.checkpoint_every": 2,
    "train.log_every": 2,
}


class Cycle:
    """Runs the stages in the order of the pipeline, with their results in files as Kubeflow hands them on."""

    def __init__(self, root: str, world: dict[str, Any], folder: Path) -> None:
        self.root, self.world, self.folder = root, world, folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.json")

    def result(self, name: str) -> dict[str, Any]:
        return dict(json.loads(Path(self.path(name)).read_text()))

    def plan(self, trials: str, cycle: int = 0, **more: Any) -> dict[str, Any]:
        given = {
            "store": self.root,
            "shards": self.world["shards"],
            "suite": self.world["suite"],
            "preset": "demo-quick",
            "trials": trials,
            "cycle": cycle,
            "overrides": json.dumps({**TINY, **more}),
        }
        return run_named("plan", given, write_to=self.path("plan"))

    def run(self, trials: str, cycle: int = 0) -> dict[str, Any]:
        self.plan(trials, cycle)
        done: list[str] = []
        for name in STEPS:
            run_planned(name, self.path("plan"), done, write_to=self.path(name))
            done.append(self.path(name))
        evaluated = []
        for trial in self.result("plan")["trials"]:
            trained, judged = self.path(f"train-{trial['name']}"), self.path(f"evaluate-{trial['name']}")
            run_planned("train", self.path("plan"), [self.path("curate")], trial=trial, write_to=trained)
            run_planned("evaluate", self.path("plan"), [trained], write_to=judged)
            evaluated.append(judged)
        run_planned("promote", self.path("plan"), [self.path("curate"), *evaluated], write_to=self.path("promote"))
        return self.result("promote")


def main(root: str, world: str, folder: str, kill_at: str) -> None:
    """Run a first cycle with one trial."""
    die_at_change(int(kill_at))
    Cycle(root, json.loads(world), Path(folder)).run("hqclip", cycle=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
