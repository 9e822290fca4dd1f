"""A store with some cycles and sweeps behind it, made of manifests and of objects that are nothing but their names."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

from hqclip.cycle.keys import notes_prefix, plan_key, record_key
from hqclip.errors import ConflictError, NotFoundError
from hqclip.records import Champion, CyclePlan, CycleRecord, DatasetVersion, Pool, ShardEntry, canonical_json
from hqclip.store import Listed, ObjectInfo, Store

SUITE = "f" * 16


class Memory:
    """A store of a dictionary, for what is done a thousand times; `times` are when its objects were written."""

    def __init__(self) -> None:
        self.uri = "memory"
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.times: dict[str, float] = {}
        self._generations = itertools.count()

    def write(self, key: str, data: bytes, *, create_only: bool = True) -> ObjectInfo:
        there = self.objects.get(key)
        if create_only and there:
            if there[0] != data:
                raise ConflictError(key)
            return self._info(key)
        self.objects[key] = data, str(next(self._generations))
        self.times[key] = time.time()
        return self._info(key)

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        if (self.stat(key) or expected) and self.stat(key) != expected:
            raise ConflictError(key)
        return self.write(key, data, create_only=False)

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFoundError(key)
        return self.objects[key][0]

    def stat(self, key: str) -> ObjectInfo | None:
        return self._info(key) if key in self.objects else None

    def changed_at(self, key: str) -> float | None:
        return self.times.get(key)

    def exists(self, key: str) -> bool:
        return key in self.objects

    def list(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in tuple(self.objects) if key.startswith(prefix)))

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        return (Listed(key, len(self.objects[key][0]), self.times[key]) for key in self.list(prefix))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def _info(self, key: str) -> ObjectInfo:
        data, generation = self.objects[key]
        return ObjectInfo(key, len(data), 0, generation)


SHARED = "shards/shared.tar"  # in all pools


def digest(kind: str, number: int) -> str:
    """Names the thing of a kind that a cycle made."""
    return f"{['pools', 'annotations', 'policy', 'datasets', 'models'].index(kind) + 1:x}{number:015x}"


def make_store(store: Store) -> None:
    """Seven cycles: 1, 2, 4 and 5 were promoted, 3 and 6 refused, 7 is open; and two sweeps, one of them done."""
    for number in range(1, 8):
        make_cycle(store, number, "refused" if number in (3, 6) else "promoted")
    champion = Champion(
        model="runs/000005-hqclip/model", model_digest=digest("models", 5), evaluation=evaluation(5), cycle=5
    )
    store.write("champion.json", champion.to_json())
    for name, data, more in (("aaaaaaaa00000001", 1, {"failed": []}), ("bbbbbbbb00000002", 2, None)):
        run = f"sweep-{name[:8]}-lr1"
        write(store, f"sweeps/{name}.plan.json", {"dataset": dataset(data), "points": [{"name": "lr1"}]})
        make_run(store, run, data, 16 + data)
        if more is not None:
            write(store, f"sweeps/{name}.json", {"points": [{"run": f"runs/{run}"}], **more})
    store.write("mine/notes.txt", b"not of hqclip")
    store.write("runs/of-another-program/weights.bin", b"no config.json, so nobody knows what it is")


def make_cycle(store: Store, number: int, verdict: str) -> None:
    """A cycle with pool, texts, data set, a run and its evaluation; the seventh has neither judgement nor record."""
    make_data(store, number)
    run = f"{number:06d}-hqclip"
    make_run(store, run, number, number)
    plan = CyclePlan(cycle=number, fingerprint="f", champion=None, settings={}, trials=({"name": "hqclip"},))
    store.write(plan_key(number), plan.to_json())
    for stage, said in {
        "download": {"pool": pool(number)},
        "annotate": {"annotations": f"annotations/{digest('annotations', number)}"},
        "score": {"scores": ""},
        "curate": {"dataset": dataset(number)},
    }.items():
        write(store, f"{notes_prefix(number)}{stage}.json", said)
    if number == 7:
        return
    judge(store, f"runs/{run}/model", number)
    record = CycleRecord(
        cycle=number,
        parent=number - 1,
        fingerprint="f",
        dataset=dataset(number),
        runs=(
            {
                "name": "hqclip",
                "run": f"runs/{run}",
                "model_digest": digest("models", number),
                "evaluation": evaluation(number),
                "average": 0.5,
            },
        ),
        candidate=f"runs/{run}/model",
        verdict=verdict,
        reason="",
        report=f"cycles/{number:06d}.html",
    )
    store.write(record_key(number), record.to_json())


def make_data(store: Store, number: int) -> None:
    """Shards, pool, annotations, curated texts and the data set."""
    annotator, policy = digest("annotations", number), digest("policy", number)
    entries = []
    for key in (SHARED, f"shards/{number}.tar"):
        index = key.replace(".tar", ".index.parquet")
        store.write(index, b"index")
        store.write(key, b"images")
        entries.append(ShardEntry(key, index, 6, 0, 1))
        name = key.split("/")[1].removesuffix(".tar")
        store.write(f"annotations/{annotator}/{name}.parquet", b"texts")
        store.write(f"curated/{annotator}-{policy}/{name}.parquet", b"texts")
    write(store, f"annotations/{annotator}/annotator.json", {"model": "demo"})
    store.write(pool(number), Pool(digest=digest("pools", number), source="web", shards=tuple(entries)).to_json())
    version = DatasetVersion(
        digest=digest("datasets", number),
        name="shapes",
        parent=digest("datasets", number - 1) if number > 1 else "",
        pool=digest("pools", number),
        annotator=annotator,
        policy=policy,
        score_model="",
        rows=2,
        usable_rows=2,
        counts={},
        flags={},
        tag_vocabulary=0,
        code_version="0",
    )
    store.write(f"datasets/{version.digest}/shards.parquet", b"shards")
    store.write(dataset(number), version.to_json())


def make_run(store: Store, run: str, data: int, model: int) -> None:
    """A finished run with a checkpoint."""
    write(store, f"runs/{run}/config.json", {"dataset": dataset(data)})
    for name in ("checkpoints/step-000000004/model.safetensors", "model/open_clip_model.safetensors"):
        store.write(f"runs/{run}/{name}", b"weights")
    write(store, f"runs/{run}/checkpoints/step-000000004/receipt.json", {})
    write(store, f"runs/{run}/result.json", {"model_digest": digest("models", model)})


def judge(store: Store, model: str, number: int) -> None:
    """An evaluation of a model."""
    store.write(evaluation(number).replace(".json", ".outcomes.parquet"), b"answers")
    write(store, evaluation(number), {"kind": "evaluation", "model": model})


def pool(number: int) -> str:
    """The key of a pool."""
    return f"pools/{digest('pools', number)}.json"


def dataset(number: int) -> str:
    """The key of a data set."""
    return f"datasets/{digest('datasets', number)}/dataset.json"


def evaluation(number: int) -> str:
    """The key of an evaluation."""
    return f"evaluations/{digest('models', number)}/{SUITE}.json"


def write(store: Store, key: str, document: Any) -> None:
    """A JSON document."""
    store.write(key, canonical_json(document))


def broken(store: Store) -> list[str]:
    """What a document of the store says that is not so: it names something that is not there."""
    keys, missing = set(store.list()), []
    for key in sorted(keys):
        kind, _, rest = key.partition("/")
        if kind == "pools":
            wanted = [
                text for entry in json.loads(store.read(key))["shards"] for text in (entry["key"], entry["index"])
            ]
        elif kind == "datasets" and rest.endswith("/dataset.json"):
            said = json.loads(store.read(key))
            curated = f"curated/{said['annotator']}-{said['policy']}"
            texts = [f"{folder}/shared.parquet" for folder in (curated, f"annotations/{said['annotator']}")]
            wanted = [key.replace("dataset.json", "shards.parquet"), f"pools/{said['pool']}.json", *texts]
        elif kind == "runs" and rest.endswith("/result.json"):
            wanted = [key.replace("result.json", "model/open_clip_model.safetensors")]
        elif kind == "runs" and rest.endswith("/receipt.json"):
            wanted = [key.replace("receipt.json", "model.safetensors")]
        elif kind == "runs" and rest.endswith("/checkpoints/step-000000004/model.safetensors"):
            wanted = [f"runs/{rest.split('/')[0]}/config.json"]
        elif kind == "evaluations" and rest.endswith(".json"):
            wanted = [key.replace(".json", ".outcomes.parquet")]
        else:
            wanted = []
        missing += [f"{key}: {name}" for name in wanted if name not in keys]
    return missing
