"""A sample of a pool in, what an LVLM makes of it out: its texts on a page, its pace, what the whole pool will cost."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hqclip.annotate import stage
from hqclip.annotate.cost import estimate, priced
from hqclip.config import AnnotateConfig, CompareConfig, DownloadConfig, PilotConfig
from hqclip.data.download import run as download
from hqclip.data.images import thumbnail
from hqclip.data.index import ShardImages, read_index
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import read_annotations
from hqclip.errors import ConfigError
from hqclip.records import Pool, Sample, Status, digest_of
from hqclip.report import Fault, FaultExample, Faults, ShownSample
from hqclip.report.pilots import render_pilots
from hqclip.report.refinement import Cost, Estimate, Pilot, Texts
from hqclip.store import Store, open_store
from hqclip.store.leftovers import scratch_folder

MAX_SHARDS = 16  # that a sample is drawn from: each is fetched whole
MAX_LVLMS = 8
SHOWN, EXAMPLES, SIDE = 24, 4, 256  # samples on the page, pictures of each fault, their pixels a side


def pilot(config: PilotConfig) -> dict[str, Any]:
    """Annotate the sample; the result of `annotate`, the estimate for the pool, and the page."""
    return compare(CompareConfig(**{**config.to_mapping(), "gpu_prices": config.gpu_prices}))


def compare(config: CompareConfig) -> dict[str, Any]:
    """Annotate the same sample with every model and prompt named; one result each, and the page that shows them."""
    variants = _variants(config)
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    where = f"pilots/{pool.digest}-{config.samples}"
    sample_pool = _sample(store, pool, config.samples, where)
    runs = [_annotate(config, f"{store.uri}/{where}", sample_pool, model, prompt) for model, prompt in variants]
    results = [
        {
            "model": run.model,
            "prompt": run.prompt,
            **result,
            "estimate": estimate(result["work"], pool.rows, config.gpu_prices),
        }
        for run, result in runs
    ]
    page = f"{where}/{digest_of([result['annotator'] for result in results])}.html"
    shown = tuple(_shown(open_store(run.store), sample_pool, run, result, pool) for run, result in runs)
    store.write(page, render_pilots(shown).encode(), create_only=False)
    return {"page": page, "samples": config.samples, "results": results}


def _variants(config: CompareConfig) -> list[tuple[str, str]]:
    variants = list(itertools.product(config.models or (config.model,), config.prompts or (config.prompt,)))
    if len(variants) > MAX_LVLMS or len(set(variants)) < len(variants):
        raise ConfigError(f"{len(variants)} models and prompts: give up to {MAX_LVLMS} different ones")
    return variants


def _annotate(
    config: CompareConfig, store: str, pool: str, model: str, prompt: str
) -> tuple[AnnotateConfig, dict[str, Any]]:
    """The stage itself, on the sample; faults are looked at, not refused."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(AnnotateConfig)}
    changed = {"store": store, "pool": pool, "model": model, "prompt": prompt, "max_fault_rate": 1.0, "claims": False}
    settings = AnnotateConfig(**{**given, **changed})
    return settings, stage.run(settings)


def _shown(store: Store, key: str, run: AnnotateConfig, result: Mapping[str, Any], whole: Pool) -> Pilot:
    """What the page says of one LVLM with one prompt."""
    (entry,) = Pool.from_json(store.read(key), key).shards
    rows = read_annotations(store, f"{result['annotations']}/{entry.name}.parquet", entry)
    index = read_index(store, entry)
    samples: list[ShownSample] = []
    examples: dict[str, list[FaultExample]] = {}
    with ShardImages(store, entry, index) as images:
        for number, row in enumerate(rows):
            faulty = row.status is not Status.OK
            if number >= SHOWN and not (faulty and len(examples.get(row.status, ())) < EXAMPLES):
                continue
            sample = Sample(row.uid, thumbnail(images.read(number), SIDE), index.texts[number])
            if number < SHOWN:
                samples.append(ShownSample(sample, row.annotation, (str(row.status),) if faulty else ()))
            if faulty:
                examples.setdefault(row.status, []).append(FaultExample(sample, row.answer))
    faults = {status: n for status, n in result["statuses"].items() if status != Status.OK}
    return Pilot(
        name=f"{Path(run.model).name}, {Path(run.prompt).stem}",
        rows=len(rows),
        model=run.model,
        prompt=run.prompt,
        statuses=result["statuses"],
        texts=Texts.of(rows),
        faults=Faults(len(rows), tuple(Fault(s, n, tuple(examples[s][:EXAMPLES])) for s, n in faults.items())),
        cost=_cost(result["work"], whole.rows, run.gpu_prices),
        samples=tuple(samples),
    )


def _cost(work: Mapping[str, Any], images: int, prices: Sequence[str]) -> Cost:
    """The work of a pilot, and what the whole pool would take."""
    expected, paid = estimate(work, images, prices), priced(work, prices)
    return Cost(
        images=work["images"],
        prompt_tokens=work["prompt_tokens"],
        cached_tokens=work["cached_tokens"],
        output_tokens=work["output_tokens"],
        gpu_seconds=work["gpu_seconds"] or None,
        device=", ".join(work["devices"]),
        images_per_second=work["images"] / work["seconds"] if work["seconds"] else None,
        usd_per_gpu_hour=paid.get("usd_per_gpu_hour"),
        usd=paid.get("usd"),
        usd_per_million_images=paid.get("usd_per_million_images"),
        estimate=Estimate(images, expected["gpu_hours"], expected.get("usd")) if expected else None,
    )


def _sample(store: Store, pool: Pool, number: int, where: str) -> str:
    """A pool of its own, below `where`, of images drawn at random; the same for the same pool."""
    if number > pool.rows:
        raise ConfigError(f"samples is {number}, but the pool has {pool.rows} images: give fewer")
    here = open_store(f"{store.uri}/{where}")
    found = list(here.list("pools/"))
    if found:
        return found[0]
    with scratch_folder() as folder:
        write_shard(_draw(store, pool, number), folder / "00000.tar")
        taken = download(DownloadConfig(store=here.uri, shards=f"{folder}/00000.tar", max_fault_rate=1.0))
    return str(taken["pool"])


def _draw(store: Store, pool: Pool, number: int) -> list[Sample]:
    rng = np.random.default_rng(int(pool.digest, 16))
    shards = [pool.shards[at] for at in rng.permutation(len(pool.shards))]
    chosen = shards[:MAX_SHARDS]
    while sum(entry.rows for entry in chosen) < number:
        chosen.append(shards[len(chosen)])
    samples: dict[str, Sample] = {}
    for entry, take in zip(chosen, _shares([entry.rows for entry in chosen], number), strict=True):
        index = read_index(store, entry)
        with ShardImages(store, entry, index) as images:
            for row in rng.permutation(entry.rows)[:take].tolist():
                samples[index.uids[row]] = Sample(index.uids[row], images.read(row), index.texts[row])
    return list(samples.values())


def _shares(rows: Sequence[int], number: int) -> list[int]:
    """How many of each shard, as even as their sizes allow, `number` in all."""
    shares = [0] * len(rows)
    for _ in range(number):
        at = min((n for n in range(len(rows)) if shares[n] < rows[n]), key=lambda n: shares[n])
        shares[at] += 1
    return shares
