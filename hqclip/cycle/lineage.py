"""Where a model comes from: the chain of cycles, data sets and annotators behind it."""

from __future__ import annotations

from typing import Any

from hqclip.cycle.config import LineageConfig
from hqclip.cycle.crown import read_approval, read_record, words_of
from hqclip.data.dataset import read_dataset
from hqclip.errors import NotFoundError
from hqclip.records import Champion
from hqclip.store import open_store


def lineage(config: LineageConfig) -> dict[str, Any]:
    """The chain from the given cycle, or the champion's, to the first. Raises `NotFoundError`."""
    store = open_store(config.store)
    cycle = config.cycle
    if not cycle:
        if not store.exists("champion.json"):
            raise NotFoundError(f"{store.uri} has no champion yet; give --cycle, or run a cycle to its end")
        cycle = Champion.from_json(store.read("champion.json"), "champion.json").cycle
    chain = []
    while cycle:
        record, approval = read_record(store, cycle), read_approval(store, cycle)
        version = read_dataset(store, record.dataset)[0]
        chain.append(
            {
                "cycle": cycle,
                "verdict": record.verdict,
                "reason": record.reason,
                **({"approval": words_of(approval)} if approval else {}),
                "candidate": record.candidate,
                "runs": [run["run"] for run in record.runs],
                "dataset": version.digest,
                "dataset_parent": version.parent,
                "annotator": version.annotator,
                "score_model": version.score_model,
                "pool": version.pool,
                "code_version": version.code_version,
            }
        )
        cycle = record.parent
    return {"chain": chain}
