"""A store and a cycle in, that cycle and those behind it out, each with all that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from hqclip.curate.annotator import read_annotator
from hqclip.cycle.crown import read_champion, read_record
from hqclip.cycle.keys import plan_key
from hqclip.data.dataset import read_dataset
from hqclip.errors import NotFoundError
from hqclip.provenance import Provenance
from hqclip.records import CyclePlan, CycleRecord, DatasetVersion, Evaluation, Pool
from hqclip.store import Store
from hqclip.store.documents import read_if_there, read_json_or_warn

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Link:
    """A closed cycle with what stands behind it. What the store no longer has is None, or missing from its mapping.

    `annotator` is empty if nothing spells it out. `results` are what the training runs wrote down and `evaluations`
    how their models did, both by the name of the run in the cycle.
    """

    record: CycleRecord
    plan: CyclePlan | None
    version: DatasetVersion
    pool: Pool | None
    annotator: Document
    results: Mapping[str, Document]
    evaluations: Mapping[str, Evaluation]

    @property
    def annotations(self) -> str:
        """The folder of the texts."""
        return f"annotations/{self.version.annotator}"

    @property
    def candidate(self) -> Document:
        """The run, of those that the cycle judged, whose model it would put in force."""
        return self.record.chosen


@dataclass(frozen=True)
class Gone:
    """A closed cycle whose data set was deleted since, as `hqclip gc` does with old ones; its record stays."""

    record: CycleRecord

    @property
    def dataset(self) -> str:
        """The digest of what is no longer there."""
        return self.record.dataset.split("/")[1]


def read_chain(store: Store, cycle: int) -> list[Link | Gone]:
    """From this cycle to the first. Raises `NotFoundError` if one of them is not closed."""
    chain: list[Link | Gone] = []
    while cycle:
        record = read_record(store, cycle)
        try:
            chain.append(read_link(store, cycle))
        except NotFoundError:
            if store.exists(record.dataset):
                raise
            chain.append(Gone(record))
        cycle = record.parent
    return chain


class _Result(TypedDict, total=False):
    """Of what a training run wrote down, what is asked here."""

    provenance: Provenance


def champion_cycle(store: Store) -> int:
    """The cycle whose model is in force. Raises `NotFoundError` if there is none."""
    champion = read_champion(store)
    if champion is None:
        raise NotFoundError(f"{store.uri} has no champion yet; give --cycle, or run a cycle to its end")
    return champion.cycle


def read_link(store: Store, cycle: int) -> Link:
    """One closed cycle. Raises `NotFoundError` if it is not closed or has no data set."""
    record = read_record(store, cycle)
    version = read_dataset(store, record.dataset)[0]
    keys = {run["name"]: f"{run['run']}/result.json" for run in record.runs}
    results = {name: read_json_or_warn(store, key, "lineage", _Result) for name, key in keys.items()}
    evaluations = {run["name"]: read_if_there(store, run["evaluation"], Evaluation) for run in record.runs}
    return Link(
        record=record,
        plan=read_if_there(store, plan_key(cycle), CyclePlan),
        version=version,
        pool=read_if_there(store, f"pools/{version.pool}.json", Pool),
        annotator=read_annotator(store, f"annotations/{version.annotator}"),
        results={name: result for name, result in results.items() if result},
        evaluations={name: evaluation for name, evaluation in evaluations.items() if evaluation},
    )
