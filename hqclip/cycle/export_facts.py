"""A training run of a closed cycle in, what a registry of models is told of it out: facts and scores by their names."""

from __future__ import annotations

from hqclip.cycle.crown import read_champion
from hqclip.cycle.links import Document, Link
from hqclip.records import Evaluation
from hqclip.store import Store

COMMIT = "commit"  # the fact that MLflow has a tag of its own for


def facts_of(store: Store, link: Link, run: Document) -> dict[str, str | int]:
    """Where the model of a run comes from, and what became of it. What nobody said is left out."""
    record, version = link.record, link.version
    made = link.results.get(run["name"], {}).get("provenance") or {}
    lvlm = (link.annotator.get("provenance") or {}).get("lvlm", {})
    evaluation = link.evaluations.get(run["name"])
    is_candidate = f"{run['run']}/model" == record.candidate
    facts = {
        "run": f"{store.uri}/{run['run']}",
        "cycle": record.cycle,
        "parent": record.parent,
        "verdict": record.verdict if is_candidate else "not the candidate",
        "reason": record.reason if is_candidate else "",
        "model_digest": run["model_digest"],
        "suite": evaluation.suite_digest if evaluation else "",
        "dataset": version.digest,
        "annotator": version.annotator,
        "pool": version.pool,
        "lvlm": link.annotator.get("model", ""),
        "lvlm_revision": lvlm.get("revision", ""),
        "code_version": made.get("code_version", ""),
        "image": made.get("image", ""),
        "kubeflow_run": made.get("run", ""),
        COMMIT: made.get("commit", ""),
    }
    return {name: fact for name, fact in facts.items() if fact != ""}


def scores_of(evaluation: Evaluation | None) -> dict[str, float]:
    """`evaluate/average`, and each metric as `evaluate/{benchmark}/{metric}`; nothing of what was not judged."""
    if evaluation is None:
        return {}
    each = {
        f"evaluate/{score.name}/{name}": value
        for score in evaluation.benchmarks
        for name, value in score.metrics.items()
    }
    return {"evaluate/average": evaluation.average, **each}


def is_in_force(store: Store, link: Link) -> bool:
    """Whether the candidate of this cycle is the champion now."""
    champion = read_champion(store)
    return champion is not None and (champion.cycle, champion.model) == (link.record.cycle, link.record.candidate)
