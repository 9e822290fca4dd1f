"""What a page is made of: frozen values in, and `hqclip.report.page.render` makes one HTML file of a `Report`.

All texts are taken as data: whatever they hold is shown, never run. Shares and scores are fractions from 0 to 1.
Every part but the title may be left out; the page then says so or does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hqclip.records import Annotation, Bar, FailedTrial, Sample


@dataclass(frozen=True)
class Difference:
    """Score minus the baseline's, with its 95 % bootstrap interval; 0.031 reads `+3.1` percentage points."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """One metric of one model; no difference for the baseline itself or where none was measured."""

    value: float
    difference: Difference | None = None


@dataclass(frozen=True)
class Row:
    """One metric of one benchmark, a score a model in their order (None: not measured); higher is better."""

    benchmark: str
    metric: str
    scores: tuple[Score | None, ...]
    items: int | None = None


@dataclass(frozen=True)
class Group:
    """Rows of one kind, which stands as named without a `title`; `meaning` explains it."""

    kind: str
    rows: tuple[Row, ...]
    title: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Model:
    """One run or model that is compared; `about` says in a few words what sets it apart."""

    name: str
    about: str = ""


@dataclass(frozen=True)
class Comparison:
    """Models as columns, metrics as rows; `baseline` names the model that differences are taken to."""

    models: tuple[Model, ...]
    average: Row
    groups: tuple[Group, ...] = ()
    baseline: str = ""


@dataclass(frozen=True)
class Curve:
    """One model's loss: (step, value) in order of steps. Values that are not finite leave a gap."""

    model: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class LossChart:
    """One part of the loss, a curve a model."""

    name: str
    curves: tuple[Curve, ...]
    caption: str = ""


@dataclass(frozen=True)
class ShownSample:
    """One image with what the web says (`sample.text`) and what the LVLM wrote; `answer` is what it said instead.

    Images are shown if they are JPEG or PNG, so re-encode others, to at most 256 pixels; leave the bytes empty
    to withhold a picture.
    """

    sample: Sample
    annotation: Annotation | None
    flags: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True)
class FaultExample:
    """One image whose answer was refused, and that answer as the LVLM gave it."""

    sample: Sample
    answer: str = ""


@dataclass(frozen=True)
class Fault:
    """One reason for refusal (a `Status` or your own word), how often, and a few examples."""

    reason: str
    count: int
    examples: tuple[FaultExample, ...] = ()


@dataclass(frozen=True)
class Faults:
    """Faults among `samples` samples in all."""

    samples: int
    reasons: tuple[Fault, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """What one task took of GPUs, in GPU-seconds of all of them together; None where nobody knows.

    `busy_share` is how much of `gpu_seconds` they computed, `queued` what they were waited for, `lost` what was done
    again after `restarts`; `an_hour` is how many `unit` a GPU-hour gave.
    """

    task: str
    gpu_seconds: float
    busy_share: float | None = None
    queued: float | None = None
    restarts: int = 0
    lost: float | None = None
    an_hour: float | None = None
    unit: str = "samples"


@dataclass(frozen=True)
class DataSummary:
    """One data set version: `statuses` and `flags` count samples, `tags` maps tag to count (the top 20 are shown)."""

    name: str
    rows: int
    usable_rows: int
    statuses: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    tag_vocabulary: int = 0


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one task took, in seconds; of all GPUs together, 0 where it ran without one and None where nobody knows.

    `usd` is from low to high, by the price table of its cycle; None without a GPU or a price.
    """

    task: str
    seconds: float
    gpu_seconds: float | None = None
    device: str = ""
    usd: tuple[float, float] | None = None


@dataclass(frozen=True)
class Link:
    """What a page leads to, `href` being as it stands in the page."""

    name: str
    href: str


@dataclass(frozen=True)
class Provenance:
    """What was run: settings by stage, digests by what they name, seconds by stage, the command that repeats it.

    `elapsed` is from the plan to the verdict, in seconds, waiting included; `spent` is what it took of GPUs.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    code_version: str = ""
    command: str = ""
    elapsed: float | None = None
    spent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassScore:
    """One class: how many `images` it has and how many were found, and by the baseline `before` (None: not known)."""

    name: str
    images: int
    found: int
    before: int | None = None


@dataclass(frozen=True)
class Query:
    """A caption that found other images first: the `top` ones in their order, its `own`, and which place that took.

    `own_place` is the place of its own image among `top`, None if it is not among them.
    """

    text: str
    top: tuple[bytes, ...]
    own: bytes
    rank: int
    own_place: int | None = None


@dataclass(frozen=True)
class Failure:
    """A compositional item that was answered wrongly: one image with a true and a false caption, or two of a pair."""

    group: str
    images: tuple[bytes, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class SetExamples:
    """What one set shows of a model; `wrong` of `items` is None where all there is to say is in `classes`."""

    name: str
    kind: str
    classes: tuple[ClassScore, ...] = ()
    queries: tuple[Query, ...] = ()
    failures: tuple[Failure, ...] = ()
    items: int | None = None
    wrong: int | None = None


@dataclass(frozen=True)
class Moved:
    """How many of the items of a metric became right and how many wrong, against the baseline."""

    benchmark: str
    metric: str
    items: int
    gained: int
    lost: int


@dataclass(frozen=True)
class Answers:
    """What one model answered, set by set, and what moved against the `baseline` (empty: there is none)."""

    model: str
    sets: tuple[SetExamples, ...]
    moved: tuple[Moved, ...] = ()
    baseline: str = ""


class Decision(StrEnum):
    """What was decided of the candidate of a cycle."""

    PROMOTED = "✓ Promoted"
    NOT_PROMOTED = "✕ Not promoted"
    WAITS = "… Waits for approval"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One page. `verdict` is a sentence; `decision` is None where nothing was to be decided, `gate` is what decided;
    `failed` has no scores; `cost` is what each task took; `links` lead to other pages.
    """

    title: str
    verdict: str = ""
    decision: Decision | None = None
    cycle: int | None = None
    comparison: Comparison | None = None
    gate: tuple[Bar, ...] = ()
    answers: Answers | None = None
    failed: tuple[FailedTrial, ...] = ()
    gpus: tuple[GpuUse, ...] = ()
    samples: tuple[ShownSample, ...] = ()
    data: DataSummary | None = None
    faults: Faults | None = None
    losses: tuple[LossChart, ...] = ()
    cost: tuple[StageCost, ...] = ()
    run: Provenance | None = None
    links: tuple[Link, ...] = ()
