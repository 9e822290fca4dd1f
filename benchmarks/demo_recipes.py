"""What each part of the method brings, over several seeds: `python benchmarks/demo_recipes.py STORE SUITE [SEEDS]`.

STORE is that of a finished `make demo` (demo-out/store) and SUITE its suite.json. Every recipe of cycle 1 is trained
again with other seeds on the same data, with the same budget, two runs at a time; prints a Markdown table of means
and standard deviations over the seeds, and of the paired differences to raw.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from hqclip.recipes import RECIPES
from hqclip.records import CyclePlan, CycleRecord
from hqclip.store import open_store

ROWS = {
    "classification, known pairs": ("classification_acc1 known pairs",),
    "classification, new pairs": ("classification_acc1 new pairs",),
    "retrieval R@1, mean of both ways": ("retrieval_main",),
    "retrieval R@5, mean of both ways": ("retrieval_image_to_text_r5", "retrieval_text_to_image_r5"),
    "compositional choice": ("composition_accuracy",),
    "- swap attribute": ("composition_accuracy swap attribute",),
    "- swap object": ("composition_accuracy swap object",),
    "- replace attribute": ("composition_accuracy replace attribute",),
    "- replace object": ("composition_accuracy replace object",),
    "- replace relation": ("composition_accuracy replace relation",),
    "average of the benchmarks": ("average",),
}


def hqclip(*words: str) -> dict[str, float]:
    """One command of the command line, its result."""
    done = subprocess.run([sys.executable, "-m", "hqclip.cli", *words], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def measure(store: str, suite: str, recipe: str, seed: int) -> dict[str, float]:
    """Train by one recipe with one seed as the first cycle did, and judge it."""
    opened = open_store(store)
    plan = CyclePlan.from_json(opened.read("cycles/000001.plan.json"), "plan")
    dataset = CycleRecord.from_json(opened.read("cycles/000001.json"), "record").dataset
    settings = {**plan.settings["train"], **RECIPES[recipe].settings, "seed": seed, "run": f"bench-{recipe}-{seed}"}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    model = hqclip("train", f"--store={store}", f"--dataset={dataset}", *flags)["model"]
    judged = hqclip("evaluate", f"--store={store}", f"--model={model}", f"--suite={suite}", "--threads=1")
    return {**judged["metrics"], "average": judged["average"]}  # type: ignore[dict-item]


def main(store: str, suite: str, seeds: str = "5") -> None:
    """Print the table."""
    jobs = list(product(range(1, int(seeds) + 1), RECIPES))
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(lambda job: measure(store, suite, job[1], job[0]), jobs), strict=True))
    print(f"| {seeds} seeds | " + " | ".join(RECIPES) + " | hqclip - raw | hqclip - mixed |")
    print("|---" * (len(RECIPES) + 3) + "|")
    for name, metrics in ROWS.items():
        values = {
            recipe: np.array([100 * np.mean([results[job][m] for m in metrics]) for job in jobs if job[1] == recipe])
            for recipe in RECIPES
        }
        gains = [values["hqclip"] - values[other] for other in ("raw", "mixed")]
        cells = [f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" for v in values.values()]
        print(f"| {name} | " + " | ".join(cells + [f"{g.mean():+.1f} ± {g.std(ddof=1):.1f}" for g in gains]) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
