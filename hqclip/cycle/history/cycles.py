"""The records of one cycle in, what the history tells of it out. No outcomes, no texts, no shards are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from hqclip.curate.statistics import Statistics
from hqclip.cycle.crown import APPROVED, PROMOTED, WAITS, words_of
from hqclip.cycle.history.documents import MALFORMED, Documents, counts, figures, whole
from hqclip.cycle.keys import approval_key, notes_prefix, plan_key, record_key
from hqclip.cycle.spent import LOOK_BACK, logged, spent
from hqclip.records import Approval, CyclePlan, CycleRecord, Evaluation
from hqclip.report.history import DATA_ONLY, OPEN, UNREADABLE, PastCycle, Triple
from hqclip.store import Store
from hqclip.store.documents import finite

Facts = dict[str, Any]


def read_cycle(store: Store, cycle: int, keys: Sequence[str]) -> PastCycle:
    """What `keys`, all that the store has of a cycle, say of it. Raises what the store raises if it is out of reach."""
    documents = Documents(store)
    try:
        facts = _facts(documents, cycle, set(keys))
    except MALFORMED as error:
        documents.problems.append(f"{record_key(cycle)}: damaged ({error!r})")
        facts = {"verdict": UNREADABLE}
    return PastCycle(cycle=cycle, **facts, problems=tuple(documents.problems))


def since(past: PastCycle, earlier: Sequence[PastCycle]) -> float:
    """The GPU-seconds that its annotator had spent for the cycles before, as `work_before` finds them in the store."""
    near = [one for one in reversed(earlier) if one.cycle >= past.cycle - LOOK_BACK]
    return next((one.logged for one in near if one.annotator and one.annotator == past.annotator), 0.0)


def _facts(documents: Documents, cycle: int, keys: set[str]) -> Facts:
    plan = documents.manifest(plan_key(cycle), CyclePlan) if plan_key(cycle) in keys else None
    record = documents.manifest(record_key(cycle), CycleRecord) if record_key(cycle) in keys else None
    prefix = notes_prefix(cycle)
    tasks = sorted(key.removeprefix(prefix).removesuffix(".json") for key in keys if key.startswith(prefix))
    notes = {task: documents.document(f"{prefix}{task}.json") for task in tasks if "/" not in task}
    settings = plan.settings if plan else {}
    facts: Facts = {
        "began": _time(plan),
        "stages": spent(documents.store, notes, settings),
        "annotator": str(notes.get("annotate", {}).get("annotator", "")),
        "logged": logged(notes.get("annotate", {})),
        **_data(documents, record, notes),
    }
    if record is not None:
        key = record_key(cycle)
        facts |= documents.take(key, lambda: _verdict(documents, record, keys), {"verdict": UNREADABLE})
        unscored: Facts = {}
        return facts | documents.take(key, lambda: _scores(documents, record), unscored)
    if record_key(cycle) in keys:
        return {**facts, "verdict": UNREADABLE}
    is_data = plan is not None and not plan.trials and "curate" in notes
    return {**facts, "verdict": DATA_ONLY if is_data else OPEN, "reason": "" if is_data else _how_far(tasks)}


def _verdict(documents: Documents, record: CycleRecord, keys: set[str]) -> Facts:
    key = approval_key(record.cycle)
    approval = documents.manifest(key, Approval) if record.verdict == WAITS and key in keys else None
    verdict = str(record.verdict)
    if approval:
        verdict = PROMOTED if approval.decision == APPROVED else str(approval.decision)
    failed = [f"trial {one['trial']} failed in {one['stage']}: {one['error']}" for one in record.failed]
    return {
        "ended": _time(record),
        "verdict": verdict,
        "reason": str(record.reason),
        "approval": words_of(approval) if approval else "",
        "failed": tuple(failed),
        "trained": tuple(str(run["run"]) for run in record.runs),
        "candidate": str(record.candidate),
        "parent": int(record.parent),
    }


def _scores(documents: Documents, record: CycleRecord) -> Facts:
    """Of the candidate, and of the champion that it had to beat, as the gate wrote it down."""
    run = next((run for run in record.runs if f"{run['run']}/model" == record.candidate), {})
    judged = documents.manifest(str(run["evaluation"]), Evaluation)
    bar = next((bar for bar in record.gate if bar["rule"] == "margin"), {})
    scores = {one.name: _score(one.metrics[one.main], *one.interval) for one in judged.benchmarks} if judged else {}
    suite = judged.suite_digest if judged else str(run["evaluation"]).rpartition("/")[2].removesuffix(".json")
    return {
        "average": finite(run["average"]),
        "champion": finite(bar.get("champion")),
        "lead": _score(*bar["difference"]) if bar.get("difference") else None,
        "suite": suite,
        "scores": {name: score for name, score in scores.items() if score},
    }


def _score(*values: Any) -> Triple | None:
    value, low, high = map(finite, values)
    return (value, low, high) if value is not None and low is not None and high is not None else None


def _data(documents: Documents, record: CycleRecord | None, notes: Mapping[str, Mapping[str, Any]]) -> Facts:
    """By what `curate` and `download` said, and by the statistics of the data set, if they are still there."""
    curated, downloaded = notes.get("curate", {}), notes.get("download", {})
    key = record.dataset if record else str(curated.get("dataset", ""))
    digest = key.split("/")[1] if key.startswith("datasets/") else ""
    return {
        "dataset": digest,
        "rows": whole(curated.get("rows")),
        "usable": whole(curated.get("usable_rows")),
        "statuses": counts(curated.get("statuses")),
        "flags": counts(curated.get("flags")),
        "refused": counts(downloaded.get("faults")),
        "drift": figures(curated.get("drift")),
        "texts": _texts(documents, digest) if digest else {},
    }


def _texts(documents: Documents, digest: str) -> dict[str, float]:
    """Of a data set that was deleted since, or is older than statistics, nothing."""
    key = f"datasets/{digest}/statistics.json"
    statistics = documents.manifest(key, Statistics) if documents.store.exists(key) else None
    if statistics is None:
        return {}

    def known() -> dict[str, float]:
        lengths = {"words": "words_per_description", "clip_tokens": "clip_tokens_per_description"}
        middles = {name: middle(statistics.histograms[of]) for name, of in lengths.items()}
        return figures({**middles, "tag_entropy": statistics.tag_entropy, **statistics.shares})

    return documents.take(key, known, {})


def middle(histogram: Mapping[str, Sequence[int]]) -> float | None:
    """The median of a histogram, as if the values of a bin lay evenly in it; None without any. [0, 10) 2, 2 -> 10."""
    starts, numbers = histogram["from"], histogram["counts"]
    half = sum(numbers) / 2
    for n, passed in enumerate(accumulate(numbers)):
        if half and passed >= half:
            end = starts[n + 1] if n + 1 < len(starts) else starts[n]
            return starts[n] + (end - starts[n]) * (1 - (passed - half) / numbers[n])
    return None


def _how_far(tasks: Sequence[str]) -> str:
    done = [task for task in tasks if "/" not in task]
    return f"done so far: {', '.join(done)}" if done else "nothing of it is done yet"


def _time(manifest: CyclePlan | CycleRecord | None) -> str:
    return str((manifest.provenance or {}).get("time", "")) if manifest else ""
