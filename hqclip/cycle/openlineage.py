"""A chain of cycles in, OpenLineage events out: one for each task that made something, the first cycle first.

As https://openlineage.io/docs/spec/ says: a COMPLETE event names a run of a job, the datasets that it read and those
that it wrote. Here these are places in the store, by the naming rules of object stores and folders, and a dataset's
version is the digest of its content.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hqclip import __version__
from hqclip.cycle.keys import record_key
from hqclip.cycle.links import Document, Gone, Link
from hqclip.provenance import completed
from hqclip.records import Evaluation
from hqclip.store import Store

SPEC = "https://openlineage.io/spec"
CORE = f"{SPEC}/2-0-2/OpenLineage.json#/$defs"
PRODUCER = f"pkg:pypi/hqclip@{__version__}"
NAMESPACE = "hqclip"  # of jobs


@dataclass(frozen=True)
class _Task:
    """One task: what it made, by the key of its manifest, and what of."""

    stage: str
    made: str
    provenance: Document | None
    inputs: Sequence[dict[str, Any]]
    output: dict[str, Any]


def events(store: Store, chain: Sequence[Link | Gone]) -> Iterator[dict[str, Any]]:
    """The events of all cycles whose data is there, oldest first. What several share, such as a pool, was made once.

    A document of version 0.1 does not say when it was made: the store says when it was written.
    """
    told = set()
    for link in reversed([each for each in chain if not isinstance(each, Gone)]):
        for task in _tasks(_Places(store), link):
            if task.made not in told:
                told.add(task.made)
                yield _event(store, task)


def _tasks(at: _Places, link: Link) -> Iterator[_Task]:
    """The tasks of a cycle, in their order."""
    version, record, pool = link.version, link.record, link.pool
    pool_data = at.stored(f"pools/{version.pool}.json", version.pool)
    annotations = at.stored(link.annotations, version.annotator)
    dataset = at.stored(record.dataset, version.digest)
    if pool:
        shards = [{"name": s.name, "size": s.size, "crc32c": s.crc32c, "rows": s.rows} for s in pool.shards]
        made = {**pool_data, **_written(pool.rows, sum(s.size for s in pool.shards))}
        made["facets"] = {**made["facets"], "hqclip_shards": _facet("Dataset", shards=shards)}
        yield _Task("download", pool_data["key"], pool.provenance, [_source(pool.source)], made)
    if link.annotator:
        key = f"{link.annotations}/annotator.json"
        yield _Task("annotate", key, link.annotator.get("provenance"), [pool_data], annotations)
    before = [at.stored(f"datasets/{version.parent}/dataset.json", version.parent)] if version.parent else []
    before += [at.model(link.plan.champion)] if link.plan and link.plan.champion else []
    data = {**dataset, **_written(version.usable_rows)}
    yield _Task("curate", record.dataset, version.provenance, [pool_data, annotations, *before], data)
    for run in record.runs:
        model = at.model({"model": f"{run['run']}/model", "model_digest": run["model_digest"]})
        result = link.results.get(run["name"])
        if result:
            yield _Task("train", f"{run['run']}/result.json", result.get("provenance"), [dataset], model)
        evaluation = link.evaluations.get(run["name"])
        if evaluation:
            scores = at.stored(run["evaluation"], evaluation.suite_digest)
            yield _Task("evaluate", run["evaluation"], evaluation.provenance, [model, *_suite(evaluation)], scores)
    judged = [at.stored(run["evaluation"]) for run in record.runs]
    key = record_key(record.cycle)
    yield _Task("promote", key, record.provenance, [dataset, *judged], at.stored(key))


def _event(store: Store, task: _Task) -> dict[str, Any]:
    provenance = task.provenance or {}
    return {
        "eventType": "COMPLETE",
        "eventTime": provenance.get("time") or _time(store.changed_at(task.made)),
        "producer": PRODUCER,
        "schemaURL": f"{CORE}/RunEvent",
        "run": {"runId": _uuid(store.uri, task.made), "facets": _run_facets(provenance)},
        "job": {"namespace": NAMESPACE, "name": task.stage, "facets": _job_facets()},
        "inputs": [_public(each) for each in task.inputs],
        "outputs": [_public(task.output)],
    }


def _run_facets(provenance: Document) -> dict[str, Any]:
    """With the run of the pipeline as the parent, and all that is known of the task as a facet of our own."""
    if not provenance:
        return {}
    provenance = completed(provenance)
    facets = {
        "processing_engine": _facet("ProcessingEngineRun", "1-1-1", name="hqclip", version=provenance["code_version"]),
        "hqclip_provenance": _facet("Run", **provenance),
    }
    if provenance["run"]:
        run = {"runId": _uuid(provenance["run"])}
        job = {"namespace": NAMESPACE, "name": "pipeline"}
        facets["parent"] = _facet("ParentRun", "1-2-0", run=run, job=job)
    return facets


def _job_facets() -> dict[str, Any]:
    kind = {"processingType": "BATCH", "integration": "HQCLIP", "jobType": "STAGE"}
    return {"jobType": _facet("JobTypeJob", "2-0-4", **kind)}


class _Places:
    """Datasets of a store, as events name them; `key` is for us."""

    def __init__(self, store: Store) -> None:
        self._root = store.uri

    def stored(self, key: str, version: str = "") -> dict[str, Any]:
        """What lies at a key, and the digest of its content, where it has one."""
        namespace, name = _split(f"{self._root}/{key}")
        return {"key": key, "namespace": namespace, "name": name, "facets": _version(version)}

    def model(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A model with its digest."""
        return self.stored(model["model"], model["model_digest"])


def _source(pattern: str) -> dict[str, Any]:
    """The shards where they come from, by the pattern that named them."""
    namespace, name = _split(pattern)
    facets = {"dataSource": _facet("DatasourceDataset", "1-0-1", name=pattern)}
    return {"namespace": namespace, "name": name, "facets": facets}


def _suite(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """What the model was judged by; version 0.1 did not say where that is."""
    suite = completed(evaluation.provenance or {})["settings"].get("suite")
    if suite:
        namespace, name = _split(str(suite))
        yield {"namespace": namespace, "name": name, "facets": _version(evaluation.suite_digest)}


def _version(digest: str) -> dict[str, Any]:
    return {"version": _facet("DatasetVersionDataset", "1-0-1", datasetVersion=digest)} if digest else {}


def _written(rows: int, size: int | None = None) -> dict[str, Any]:
    statistics = {"rowCount": rows, **({"size": size} if size is not None else {})}
    return {"outputFacets": {"outputStatistics": _facet("OutputStatisticsOutputDataset", "1-0-2", **statistics)}}


def _public(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dataset.items() if name != "key"}


def _split(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> `gs://bucket`, `a/b`; a path -> `file`, the path."""
    scheme, colon, rest = uri.partition("://")
    if not colon or scheme == "file":
        return "file", rest or uri
    bucket, _, name = rest.partition("/")
    return f"{scheme}://{bucket}", name


def _facet(name: str, version: str = "", /, **fields: Any) -> dict[str, Any]:
    """One of the published facets; without a version one of our own."""
    if not version:
        return {"_producer": PRODUCER, "_schemaURL": f"{CORE}/{name}Facet", **fields}
    schema = f"{SPEC}/facets/{version}/{name}Facet.json#/$defs/{name}Facet"
    return {"_producer": PRODUCER, "_schemaURL": schema, **fields}


def _uuid(*parts: str) -> str:
    """The same for the same parts; a part that is one is itself."""
    try:
        return str(uuid.UUID(parts[-1]))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).isoformat(timespec="seconds")
