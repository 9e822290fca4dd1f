"""A data set version in, the page about its texts out: what was found, how texts are distributed, samples, costs.

Counts are of all rows. Samples and examples are chosen among the rows of up to `MAX_SHARDS` shards, drawn by the
digest of the version, so the same version shows the same samples; only these shards are fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hqclip.curate.clip_length import CONTEXT
from hqclip.curate.drift import drift
from hqclip.curate.examples import Pictures
from hqclip.curate.rules import RULES, Effect, exceeded, limits
from hqclip.curate.sampling import Chosen, choose
from hqclip.curate.statistics import Statistics
from hqclip.data.dataset import DatasetShard, read_dataset
from hqclip.data.shards import REPAIRS
from hqclip.data.sidecar import read_tally
from hqclip.errors import DataError
from hqclip.records import DatasetVersion, Pool, Status
from hqclip.report import Provenance
from hqclip.report.dataset_report import render_dataset_report
from hqclip.report.refinement import Cost, Histogram, RuleCount, Sheet, Tags
from hqclip.store import Store

HISTOGRAMS = {
    "words_per_description": ("Words per description", ""),
    "clip_tokens_per_description": ("CLIP tokens per description", "All sentences of a sample together."),
    "clip_tokens_per_sentence": ("CLIP tokens per sentence", "What stands behind the line is not read in training."),
    "tags_per_sample": ("Tags per sample", ""),
    "negatives_per_sample": ("False sentences per sample", "Those that are kept."),
    "output_tokens": ("Output tokens per sample", ""),
    "attempts": ("Attempts per sample", ""),
}
SIMILARITY_STARTS = tuple(round(-0.2 + 0.05 * n, 2) for n in range(17))
TEXTS_LOST = "no texts; the image keeps its alt-text"


@dataclass(frozen=True)
class Judged:
    """What `curate` held against a version: limits by rule or status, drift from the parent, and what is over."""

    allowed: Mapping[str, float] = field(default_factory=limits)
    drift: Mapping[str, float] = field(default_factory=dict)
    over: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A version and what lies beside it; the parent has no shards here."""

    version: DatasetVersion
    tags: Mapping[str, int]
    statistics: Statistics | None = None
    shards: tuple[DatasetShard, ...] = ()


def write_dataset_report(
    store: Store,
    dataset: str,
    judged: Judged | None = None,
    usd_per_gpu_hour: float | None = None,
    key: str = "",
) -> str:
    """Write the page about the version at the key `dataset` to `key`, by default beside it; the key.

    Without `judged` the usual limits are taken. Raises `NotFoundError` and `DataError`.
    """
    here = _read(store, dataset)
    parent = _read(store, f"datasets/{here.version.parent}/dataset.json") if here.version.parent else None
    page = sheet(store, here, parent, judged or _judge(store, here), usd_per_gpu_hour)
    key = key or f"{dataset.rpartition('/')[0]}/sheet.html"
    data = render_dataset_report(page).encode()
    if not store.exists(key) or store.read(key) != data:
        store.write(key, data, create_only=False)
    return key


def sheet(
    store: Store, here: Version, parent: Version | None, judged: Judged, usd_per_gpu_hour: float | None = None
) -> Sheet:
    """The page's contents."""
    version = here.version
    chosen = choose(store, version, here.shards)
    pictures = Pictures(store, version)
    pictures.fetch([*chosen.random, *chosen.worst, *(pick for picks in chosen.examples.values() for pick in picks)])
    return Sheet(
        title=version.name,
        rows=version.rows,
        usable_rows=version.usable_rows,
        parent=f"{parent.version.name} ({parent.version.digest})" if parent else "",
        samples=tuple(map(pictures.shown, chosen.random)),
        worst=tuple(map(pictures.shown, chosen.worst)),
        looked_at=chosen.looked_at,
        rules=_rules(version, parent, judged, chosen, pictures),
        histograms=(*_histograms(here, parent, judged.drift), *_similarity(chosen)),
        drift=judged.drift,
        drifted=tuple(name.removeprefix("drift ") for name in judged.over if name.startswith("drift ")),
        shares=here.statistics.shares if here.statistics else {},
        openings=dict(here.statistics.openings) if here.statistics else {},
        tags=Tags(here.tags, version.usable_rows, parent.tags if parent else {}),
        cost=work_cost(store, version.annotator, here.shards, usd_per_gpu_hour),
        run=_provenance(store, version),
    )


def work_cost(
    store: Store, annotator: str, shards: Sequence[DatasetShard] = (), usd_per_gpu_hour: float | None = None
) -> Cost | None:
    """The work logs of an annotator added up; without any, the tokens that its sidecars of `shards` name.

    Shares are means over seconds. Raises `DataError` for a log that is no JSON object.
    """
    folder = f"annotations/{annotator}"
    logs = [_log(store, key) for key in store.list(f"{folder}/work/") if key.endswith(".json")]
    if not logs:
        return _token_cost(store, folder, annotator, shards)
    images, seconds, gpu_seconds = (_sum(logs, name) for name in ("images", "seconds", "gpu_seconds"))
    usd = gpu_seconds / 3600 * usd_per_gpu_hour if usd_per_gpu_hour is not None and gpu_seconds else None
    return Cost(
        images=int(images),
        prompt_tokens=int(_sum(logs, "prompt_tokens")),
        cached_tokens=int(_sum(logs, "cached_tokens")),
        output_tokens=int(_sum(logs, "output_tokens")),
        gpu_seconds=gpu_seconds or None,
        gpus=max(int(_number(log, "num_gpus")) for log in logs),
        device=", ".join(sorted({str(log["device"]) for log in logs if log.get("device")})),
        images_per_second=images / seconds if seconds else None,
        window_full_share=_mean_share(logs, "window_full_share"),
        gpu_busy_share=_mean_share(logs, "gpu_busy_share"),
        usd_per_gpu_hour=usd_per_gpu_hour,
        usd=usd,
        usd_per_million_images=usd / images * 1e6 if usd is not None and images else None,
    )


def _log(store: Store, key: str) -> dict[str, Any]:
    try:
        return dict(json.loads(store.read(key)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{key} is no JSON object ({error}); delete it, its work is then not counted") from error


def _number(log: Mapping[str, Any], name: str) -> float:
    value = log.get(name)
    return value if isinstance(value, (int, float)) else 0.0


def _sum(logs: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(_number(log, name) for log in logs)


def _mean_share(logs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [(_number(log, name), _number(log, "seconds")) for log in logs if log.get(name) is not None]
    seconds = sum(weight for _, weight in known)
    return sum(share * weight for share, weight in known) / seconds if seconds else None


def _token_cost(store: Store, folder: str, annotator: str, shards: Sequence[DatasetShard]) -> Cost | None:
    keys = [f"{folder}/{shard.entry.name}.parquet" for shard in shards]
    tallies = [read_tally(store, key, annotator) for key in keys if store.exists(key)]
    if not tallies:
        return None
    return Cost(
        images=sum(tally.rows for tally in tallies),
        prompt_tokens=sum(tally.prompt_tokens for tally in tallies),
        output_tokens=sum(tally.output_tokens for tally in tallies),
    )


def _read(store: Store, dataset: str) -> Version:
    version, shards, tags = read_dataset(store, dataset)
    key = f"{dataset.rpartition('/')[0]}/statistics.json"
    found = Statistics.from_json(store.read(key), key) if store.exists(key) else None
    return Version(version, tags, found, shards)


def _judge(store: Store, here: Version) -> Judged:
    version, allowed = here.version, limits()
    counts = {name: n for name, n in {**version.flags, **version.counts}.items() if name in allowed}
    moved = drift(store, version, here.statistics, here.tags) if version.parent and here.statistics else {}
    return Judged(allowed, moved, exceeded(counts, version.rows, allowed))


def _rules(
    version: DatasetVersion, parent: Version | None, judged: Judged, chosen: Chosen, pictures: Pictures
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
            limit=limit if (limit := judged.allowed.get(name, 1.0)) < 1 else None,
            is_exceeded=name in judged.over,
            before=before.get(name, 0) / parent.version.rows if parent and before else None,
            examples=tuple(pictures.finding(name, pick) for pick in chosen.examples.get(name, ())),
        )
        for name, (meaning, effect) in {**others, **statuses, **known}.items()
    )


def _histograms(here: Version, parent: Version | None, moved: Mapping[str, float]) -> list[Histogram]:
    if not here.statistics:
        return []
    before = parent.statistics.histograms if parent and parent.statistics else {}
    shown = []
    for name, (title, caption) in HISTOGRAMS.items():
        found = here.statistics.histograms.get(name)
        if not found:
            continue
        same = name in before and before[name]["from"] == found["from"]
        is_length = name.startswith("clip_tokens")
        shown.append(
            Histogram(
                name=title,
                starts=tuple(found["from"]),
                counts=tuple(found["counts"]),
                caption=caption,
                outline=tuple(before[name]["counts"]) if same else (),
                outline_name="parent" if same else "",
                line=CONTEXT + 1 if is_length else None,
                line_name=f"{CONTEXT} tokens" if is_length else "",
                drift=moved.get(name),
            )
        )
    return shown


def _similarity(chosen: Chosen) -> list[Histogram]:
    """What the champion thinks of true and false texts, among the rows looked at."""
    if not chosen.similarities:
        return []
    true, false = ([0] * len(SIMILARITY_STARTS) for _ in range(2))
    for counts, column in ((true, 0), (false, 1)):
        for pair in chosen.similarities:
            at = sum(pair[column] >= start for start in SIMILARITY_STARTS) - 1
            counts[max(at, 0)] += 1
    return [
        Histogram(
            name="Similarity of picture and description",
            starts=SIMILARITY_STARTS,
            counts=tuple(true),
            outline=tuple(false),
            outline_name="the false sentences",
            caption=f"Cosines of the champion, of {len(chosen.similarities)} samples looked at.",
        )
    ]


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
    key = f"annotations/{version.annotator}/annotator.json"
    settings = {"annotate": _log(store, key)} if store.exists(key) else {}
    return Provenance(
        settings=settings,
        digests={name: digest for name, digest in digests.items() if digest},
        counts={"images": version.rows, "shards": len(pool.shards), **refused},
        code_version=version.code_version,
    )
