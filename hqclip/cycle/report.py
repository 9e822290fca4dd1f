"""A cycle that is about to close in, the page about it out: what was refined, trained, measured and decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hqclip import __version__
from hqclip.cycle.answers import last_answers
from hqclip.cycle.budget.limit import what_it_took
from hqclip.cycle.crown import PROMOTED, WAITS, reason_of
from hqclip.cycle.gpu_use import gpu_use
from hqclip.cycle.keys import notes_prefix, plan_key, record_key
from hqclip.cycle.notes import read_notes
from hqclip.cycle.notices import run_link
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.side_by_side import side_by_side
from hqclip.cycle.spent import spent, work_before
from hqclip.data.dataset import DatasetShard, read_dataset
from hqclip.data.index import ShardImages, read_index
from hqclip.data.shards import REPAIRS
from hqclip.data.sidecar import read_curated
from hqclip.recipes import LOSSES, Chart
from hqclip.records import Bar, CyclePlan, CycleRecord, DatasetVersion, Evaluation, FailedTrial, Pool, Sample, Status
from hqclip.report import (
    Answers,
    Comparison,
    Curve,
    DataSummary,
    Decision,
    Fault,
    FaultExample,
    Faults,
    Link,
    LossChart,
    Provenance,
    Report,
    ShownSample,
)
from hqclip.report.history import seconds_of
from hqclip.report.links import history_of, links, sheet_of
from hqclip.report.page import render
from hqclip.store import Store
from hqclip.store.documents import number_in, read_curve, read_json_or_warn

SHOWN = 8  # samples on the page
EXAMPLES = 4  # pictures of each kind of fault
DECISIONS = {PROMOTED: Decision.PROMOTED, WAITS: Decision.WAITS}
WHOLE = Chart("All parts together", "As weighted in training")


def write_report(store: Store, plan: CyclePlan, record: CycleRecord) -> None:
    """Write the page to `record.report`."""
    version, shards, tags = read_dataset(store, record.dataset)
    notes = read_notes(store, plan.cycle)
    samples, faults = _samples(store, version, shards)
    paired, before = _paired(store, record), work_before(store, plan.cycle, notes)
    page = Report(
        title=f"{version.name}: cycle {plan.cycle}",
        verdict=f"{record.candidate.split('/')[1].partition('-')[2]}: {reason_of(store, record)}.",
        decision=DECISIONS.get(record.verdict, Decision.NOT_PROMOTED),
        gate=bars_of(record),
        cycle=plan.cycle,
        comparison=side_by_side(paired),
        answers=_answers(store, record, paired),
        failed=tuple(FailedTrial(**one) for one in record.failed),
        gpus=gpu_use(notes, before),
        samples=samples,
        data=DataSummary(
            version.name, version.rows, version.usable_rows, version.counts, version.flags, tags, version.tag_vocabulary
        ),
        faults=faults,
        losses=loss_charts(store, record.runs),
        cost=spent(store, notes, plan.settings, number_in(before, "gpu_seconds")),
        run=_provenance(store, plan, version, record, notes),
        links=_links(store, version, record),
    )
    store.write(record.report, render(page).encode(), create_only=False)


def bars_of(record: CycleRecord) -> tuple[Bar, ...]:
    """What decided; nothing in the record of a version that did not keep it."""
    return tuple(Bar(**one) for one in record.gate)


def comparison(store: Store, record: CycleRecord) -> Comparison:
    """The champion before, if there was one, and the runs of a cycle, metric by metric; the first is the baseline."""
    return side_by_side(_paired(store, record))


def _answers(store: Store, record: CycleRecord, paired: PairedComparison) -> Answers | None:
    """Of the candidate, against the champion before."""
    candidate = record.chosen["name"]
    before = paired.names[: len(paired.names) - len(record.runs)]
    kept = paired.only([*before, candidate])
    return last_answers(store, dict(zip(kept.names, kept.evaluations, strict=True)), kept)


def _paired(store: Store, record: CycleRecord) -> PairedComparison:
    """The champion before, if there was one, and the runs, by name."""
    judged = {
        run["name"]: Evaluation.from_json(store.read(run["evaluation"]), run["evaluation"]) for run in record.runs
    }
    before = CyclePlan.from_json(store.read(plan_key(record.cycle)), plan_key(record.cycle)).champion
    if before:
        suite = next(iter(judged.values())).suite_digest
        key = f"evaluations/{before['model_digest']}/{suite}.json"
        judged = {f"champion of cycle {before['cycle']}": Evaluation.from_json(store.read(key), key), **judged}
    return PairedComparison.read(store, judged)


def _samples(
    store: Store, version: DatasetVersion, shards: Sequence[DatasetShard]
) -> tuple[tuple[ShownSample, ...], Faults]:
    """A few samples drawn at random, the same for the same data set, and a few of every fault."""
    rng = np.random.default_rng(int(version.digest, 16))
    shown: list[ShownSample] = []
    examples: dict[str, list[FaultExample]] = {}
    wanted = {s for s, n in version.counts.items() if s != Status.OK and n}
    for number in rng.permutation(len(shards)).tolist():
        for sample, row in _rows(store, shards[number], rng):
            if row.status == Status.OK and len(shown) < SHOWN:
                shown.append(ShownSample(sample, row.annotation, tuple(f.name.lower() for f in row.flags)))
            elif row.status != Status.OK and len(examples.setdefault(row.status, [])) < EXAMPLES:
                examples[row.status].append(FaultExample(sample))
        if len(shown) == SHOWN and all(len(examples.get(status, [])) == EXAMPLES for status in wanted):
            break
    reasons = [Fault(s, n, tuple(examples.get(s, []))) for s, n in version.counts.items() if s != Status.OK]
    pool = Pool.from_json(store.read(f"pools/{version.pool}.json"), f"pools/{version.pool}.json")
    refused = {fault: number for fault, number in pool.refused.items() if fault not in REPAIRS}
    reasons += [Fault(f"{fault} (at download)", number) for fault, number in refused.items()]
    return tuple(shown), Faults(version.rows + sum(refused.values()), tuple(reasons))


def _rows(store: Store, shard: DatasetShard, rng: np.random.Generator) -> Iterator[tuple[Sample, Any]]:
    """All faulty rows of a shard and a few others, with their pictures."""
    index = read_index(store, shard.entry)
    rows = read_curated(store, shard.curated, shard.entry)
    good = [n for n, row in enumerate(rows) if row.status == Status.OK]
    picked = rng.permutation(good)[:SHOWN].tolist() + [n for n, row in enumerate(rows) if row.status != Status.OK]
    with ShardImages(store, shard.entry, index) as images:
        for number in picked:
            yield Sample(index.uids[number], images.read(number), index.texts[number]), rows[number]


def loss_charts(store: Store, runs: Sequence[Mapping[str, Any]]) -> tuple[LossChart, ...]:
    """How training went in runs that have a `name` and a `run` folder.

    A loss is drawn where it has weight; a curve that nothing pulls down would mislead.
    """
    charts = {"loss": WHOLE, **{name: loss.chart for name, loss in LOSSES.items()}}
    curves: dict[str, list[Curve]] = {part: [] for part in charts}
    for run in runs:
        lines = read_curve(store, f"{run['run']}/metrics.jsonl", "report")
        settings = read_json_or_warn(store, f"{run['run']}/config.json", "report")
        for part, drawn in curves.items():
            has_weight = part == "loss" or (settings and LOSSES[part].weight_at(settings))
            points = tuple((int(line["step"]), line[part]) for line in lines if part in line)
            if has_weight and any(value for _, value in points):
                drawn.append(Curve(run["name"], points))
    return tuple(
        LossChart(chart.title, tuple(curves[part]), chart.caption) for part, chart in charts.items() if curves[part]
    )


def _links(store: Store, version: DatasetVersion, record: CycleRecord) -> tuple[Link, ...]:
    """To the history beside the page, what it was made of, the cycle that it had to beat, and its run."""
    runs = [(f"curves: {run['name']}", f"{run['run']}/tensorboard/") for run in record.runs]
    before = [("champion before", record_key(record.parent).replace(".json", ".html"))] if record.parent else []
    wanted = [*history_of(store), *before, ("data set", sheet_of(version.digest)), *runs]
    run = run_link(str((record.provenance or {}).get("run", ""))).get("run")
    return (*links(store.uri, record.report, wanted), *([Link("run in Kubeflow", run)] if run else []))


def _provenance(
    store: Store,
    plan: CyclePlan,
    version: DatasetVersion,
    record: CycleRecord,
    results: Mapping[str, Mapping[str, Any]],
) -> Provenance:
    digests = {
        "data set": version.digest,
        "pool": version.pool,
        "annotator": version.annotator,
        "policy": version.policy,
    }
    digests |= {f"model {run['name']}": run["model_digest"] for run in record.runs}
    if plan.champion:
        digests["champion before"] = plan.champion["model_digest"]
    counts = {"images": version.rows, "output tokens": results.get("annotate", {}).get("output_tokens", 0)}
    return Provenance(
        settings={**plan.settings, "trials": {trial["name"]: trial["settings"] for trial in plan.trials}},
        digests=digests,
        seconds={stage: result["seconds"] for stage, result in results.items() if "seconds" in result},
        counts={name: number for name, number in counts.items() if number},
        code_version=__version__,
        elapsed=_elapsed(plan, record),
        spent=what_it_took(store, notes_prefix(plan.cycle)),
    )


def _elapsed(plan: CyclePlan, record: CycleRecord) -> float | None:
    """Seconds from the plan to the verdict; None where one of them is of a version that did not say when."""
    planned, judged = (seconds_of(str((one.provenance or {}).get("time", ""))) for one in (plan, record))
    return judged - planned if judged is not None and planned is not None else None
