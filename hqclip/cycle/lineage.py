"""Where a model comes from: the chain of cycles, data sets and annotators behind it."""

from __future__ import annotations

from typing import Any

from hqclip.config import LineageConfig
from hqclip.cycle.keys import record_key
from hqclip.data.dataset import read_dataset
from hqclip.errors import NotFoundError
from hqclip.records import Champion, CycleRecord
from hqclip.store import open_store


def lineage(config: LineageConfig) -> dict[str, Any]:
    """The chain from the given cycle, or the champion's, to the first. Raises `NotFoundError`.

    Of old cycles `hqclip gc` may have deleted the data set; their records stay.
    """
    store = open_store(config.store)
    cycle = config.cycle
    if not cycle:
        if not store.exists("champion.json"):
            raise NotFoundError(f"{store.uri} has no champion yet; give --cycle, or run a cycle to its end")
        cycle = Champion.from_json(store.read("champion.json"), "champion.json").cycle
    chain = []
    while cycle:
        record = CycleRecord.from_json(store.read(record_key(cycle)), record_key(cycle))
        about = {
            "cycle": cycle,
            "verdict": record.verdict,
            "candidate": record.candidate,
            "runs": [run["run"] for run in record.runs],
        }
        cycle = record.parent
        if not store.exists(record.dataset):
            chain.append({**about, "dataset": record.dataset.split("/")[1], "gone": "its data set was deleted since"})
            continue
        version = read_dataset(store, record.dataset)[0]
        chain.append(
            {
                **about,
                "dataset": version.digest,
                "dataset_parent": version.parent,
                "annotator": version.annotator,
                "score_model": version.score_model,
                "pool": version.pool,
                "code_version": version.code_version,
            }
        )
    return {"chain": chain}
