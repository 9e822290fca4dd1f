"""Where a model comes from: the chain of cycles, as a tree for people, as JSON, or as OpenLineage events."""

from __future__ import annotations

import json
from typing import Any

from hqclip.cycle.config import LineageConfig
from hqclip.cycle.crown import read_approval, words_of
from hqclip.cycle.lineage_tree import draw
from hqclip.cycle.links import Gone, Link, champion_cycle, read_chain
from hqclip.cycle.openlineage import events
from hqclip.store import Store, open_store


def lineage(config: LineageConfig) -> str | dict[str, Any]:
    """The chain from the given cycle, or the champion's, to the first, as the format says. Raises `NotFoundError`."""
    store = open_store(config.store)
    chain = read_chain(store, config.cycle or champion_cycle(store))
    if config.format == "json":
        return {"chain": [_document(store, link) for link in chain]}
    if config.format == "openlineage":
        return "\n".join(json.dumps(event) for event in events(store, chain))
    return draw(chain)


def _document(store: Store, link: Link | Gone) -> dict[str, Any]:
    record = link.record
    approval = read_approval(store, record.cycle)
    about = {
        "cycle": record.cycle,
        "verdict": record.verdict,
        "reason": record.reason,
        **({"approval": words_of(approval)} if approval else {}),
        "candidate": record.candidate,
        "runs": [run["run"] for run in record.runs],
    }
    if isinstance(link, Gone):
        return {**about, "dataset": link.dataset, "gone": "its data set was deleted since"}
    version = link.version
    made = {
        "plan": link.plan and link.plan.provenance,
        "pool": link.pool and link.pool.provenance,
        "annotator": link.annotator.get("provenance"),
        "dataset": version.provenance,
        **{f"train {name}": result.get("provenance") for name, result in link.results.items()},
        **{f"evaluate {name}": evaluation.provenance for name, evaluation in link.evaluations.items()},
        "record": record.provenance,
    }
    return {
        **about,
        "dataset": version.digest,
        "dataset_parent": version.parent,
        "annotator": version.annotator,
        "score_model": version.score_model,
        "pool": version.pool,
        "shards": [shard.key for shard in link.pool.shards] if link.pool else [],
        "code_version": version.code_version,
        "provenance": {what: provenance for what, provenance in made.items() if provenance},
    }
