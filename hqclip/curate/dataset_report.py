"""A data set version in, the page about its texts out: what was found, how texts are distributed, samples, costs.

Counts are of all rows. Samples and examples are drawn among the rows of up to `MAX_SHARDS` shards, drawn by the
digest of the version, so the same version shows the same samples; only these shards are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hqclip.curate.annotator import read_annotator
from hqclip.curate.distributions import distributions, similarity
from hqclip.curate.examples import Pictures
from hqclip.curate.gate import Checked
from hqclip.curate.rules import RULES, Effect
from hqclip.curate.sampling import SampledRows, sample_rows
from hqclip.curate.statistics import Statistics
from hqclip.curate.work_cost import work_cost
from hqclip.data.dataset import DatasetShard, read_dataset
from hqclip.data.shards import REPAIRS
from hqclip.records import DatasetVersion, Pool, Status
from hqclip.report import Provenance
from hqclip.report.dataset_report import render_dataset_report
from hqclip.report.links import history_of, links, sheet_of
from hqclip.report.refinement import DatasetReport, RuleCount, Tags
from hqclip.store import Store
from hqclip.store.documents import read_if_there

TEXTS_LOST = "no texts; the image keeps its alt-text"


@dataclass(frozen=True)
class Version:
    """A version and what lies beside it; the parent has no shards here."""

    version: DatasetVersion
    tags: Mapping[str, int]
    statistics: Statistics | None = None
    shards: tuple[DatasetShard, ...] = ()


def write_dataset_report(store: Store, dataset: str, checked: Checked) -> str:
    """Write the page about the version at the key `dataset` beside it; its key. Raises `NotFoundError`, `DataError`."""
    here = _read(store, dataset)
    parent = _read(store, f"datasets/{here.version.parent}/dataset.json") if here.version.parent else None
    key = f"{dataset.rpartition('/')[0]}/sheet.html"
    data = render_dataset_report(_report(store, here, parent, checked)).encode()
    if not store.exists(key) or store.read(key) != data:
        store.write(key, data, create_only=False)
    return key


def _report(store: Store, here: Version, parent: Version | None, checked: Checked) -> DatasetReport:
    version = here.version
    sampled = sample_rows(store, version, here.shards)
    pictures = Pictures(store, version)
    pictures.fetch([*sampled.random, *sampled.worst, *(pick for picks in sampled.examples.values() for pick in picks)])
    before = parent.statistics if parent else None
    histograms = [*distributions(here.statistics, before, checked.drift), *similarity(sampled.similarities)]
    before_it = [("parent data set", sheet_of(version.parent))] if version.parent else []
    return DatasetReport(
        title=version.name,
        links=links(store.uri, sheet_of(version.digest), [*history_of(store), *before_it]),
        rows=version.rows,
        usable_rows=version.usable_rows,
        parent=f"{parent.version.name} ({parent.version.digest})" if parent else "",
        samples=tuple(map(pictures.sample, sampled.random)),
        worst=tuple(map(pictures.sample, sampled.worst)),
        looked_at=sampled.looked_at,
        rules=_rules(version, parent, checked, sampled, pictures),
        histograms=tuple(histograms),
        drift=checked.drift,
        drifted=tuple(name.removeprefix("drift ") for name in checked.over if name.startswith("drift ")),
        shares=here.statistics.shares if here.statistics else {},
        openings=dict(here.statistics.openings) if here.statistics else {},
        tags=Tags(here.tags, version.usable_rows, parent.tags if parent else {}),
        cost=work_cost(store, version.annotator, here.shards),
        run=_provenance(store, version),
    )


def _read(store: Store, dataset: str) -> Version:
    version, shards, tags = read_dataset(store, dataset)
    key = f"{dataset.rpartition('/')[0]}/statistics.json"
    return Version(version, tags, read_if_there(store, key, Statistics), shards)


def _rules(
    version: DatasetVersion, parent: Version | None, checked: Checked, sampled: SampledRows, pictures: Pictures
) -> tuple[RuleCount, ...]:
    """Statuses but `ok`, then the rules; what has the name of both is counted once."""
    known = {rule.name: (rule.meaning, str(rule.effect)) for rule in RULES}
    statuses = {str(s): ("", TEXTS_LOST) for s in Status if s != Status.OK and str(s) not in known}
    others = {name: ("", "") for name in (*version.flags, *version.counts) if name != Status.OK}
    counts = {**version.counts, **version.flags}
    before = {**parent.version.counts, **parent.version.flags} if parent and parent.version.rows else {}
    return tuple(
        RuleCount(
            name=name,
            count=counts.get(name, 0),
            meaning=meaning,
            effect=effect if effect != Effect.NOTED else "noted, nothing is taken out",
            limit=limit if (limit := checked.allowed.get(name, 1.0)) < 1 else None,
            is_exceeded=name in checked.over,
            before=before.get(name, 0) / parent.version.rows if parent and before else None,
            examples=tuple(pictures.finding(name, pick) for pick in sampled.examples.get(name, ())),
        )
        for name, (meaning, effect) in {**others, **statuses, **known}.items()
    )


def _provenance(store: Store, version: DatasetVersion) -> Provenance:
    digests = {
        "data set": version.digest,
        "parent": version.parent,
        "pool": version.pool,
        "annotator": version.annotator,
        "policy": version.policy,
        "judged by model": version.score_model,
    }
    pool = Pool.from_json(store.read(f"pools/{version.pool}.json"), f"pools/{version.pool}.json")
    refused = {f"{fault} at download": number for fault, number in pool.refused.items() if fault not in REPAIRS}
    annotator = read_annotator(store, f"annotations/{version.annotator}")
    return Provenance(
        settings={"annotate": annotator} if annotator else {},
        digests={name: digest for name, digest in digests.items() if digest},
        counts={"images": version.rows, "shards": len(pool.shards), **refused},
        code_version=version.code_version,
    )
