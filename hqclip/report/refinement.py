"""What the pages about refined texts are made of: `DatasetReport`, of a data set version, and `Pilot`, of one LVLM.

`render_dataset_report` and `render_pilots`, each in its module, make one HTML file of them. As on every page,
texts are data, shares are fractions from 0 to 1, and what is None or empty is not known and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hqclip.records import AnnotatedRow, Sample
from hqclip.report import Faults, Link, Provenance, ShownSample


@dataclass(frozen=True)
class Finding:
    """One sample that breaks a rule: the text in question, what it is said to contradict, or the raw answer."""

    sample: Sample
    true: str = ""
    false: str = ""
    answer: str = ""


@dataclass(frozen=True, kw_only=True)
class RuleCount:
    """One rule or status: what it finds, what is done about it, how often; `limit` is a share of all samples.

    `before` is its share in the parent version.
    """

    name: str
    count: int
    meaning: str = ""
    effect: str = ""
    limit: float | None = None
    is_exceeded: bool = False
    before: float | None = None
    examples: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts by bin: `starts` says where each begins, the last is open. `outline` are other counts in the same bins.

    `line` is a value of interest, drawn at the start of the bin it begins; `drift` is the distance to the parent.
    """

    name: str
    starts: tuple[float, ...]
    counts: tuple[int, ...]
    caption: str = ""
    outline: tuple[int, ...] = ()
    outline_name: str = ""
    line: float | None = None
    line_name: str = ""
    drift: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What more images would take at the pace measured."""

    images: int
    gpu_hours: float
    usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What annotation took: tokens, seconds of all GPUs together, dollars if there is a price.

    `images_per_second` is the pace of one process; `window_full_share` says how long enough requests waited, and
    `gpu_busy_share` how long the GPUs computed.
    """

    images: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gpu_seconds: float | None = None
    gpus: int = 0
    device: str = ""
    images_per_second: float | None = None
    window_full_share: float | None = None
    gpu_busy_share: float | None = None
    usd_per_gpu_hour: float | None = None
    usd: float | None = None
    usd_per_million_images: float | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Tags:
    """Tags with their counts, of `total` samples; `before` are those of the parent version, if there is one."""

    counts: Mapping[str, int]
    total: int
    before: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """The page about one data set version.

    `drift` maps a distribution to its distance from the parent, and `drifted` names those that are over their limit;
    `looked_at` says among how many samples the shown ones were chosen.
    """

    title: str
    rows: int
    usable_rows: int
    parent: str = ""
    rules: tuple[RuleCount, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    drift: Mapping[str, float] = field(default_factory=dict)
    drifted: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    openings: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[ShownSample, ...] = ()
    worst: tuple[ShownSample, ...] = ()
    looked_at: int = 0
    tags: Tags | None = None
    cost: Cost | None = None
    run: Provenance | None = None
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Means over annotated rows; `pairs_kept` is the share of descriptions with a contradiction that differs."""

    attempts: float | None = None
    words: float | None = None
    sentences: float | None = None
    tags: float | None = None
    negative_tags: float | None = None
    pairs_kept: float | None = None

    @classmethod
    def of(cls, rows: Sequence[AnnotatedRow]) -> Texts:
        """Of these rows; all but the attempts are of the rows that have texts."""
        said = [row.annotation for row in rows if row.annotation]
        pairs = [pair for texts in said for pair in zip(texts.desc, texts.neg_desc, strict=False)]
        sentences = sum(len(texts.desc) for texts in said)
        return cls(
            attempts=_mean([row.attempts for row in rows]),
            words=_mean([len(" ".join(texts.desc).split()) for texts in said]),
            sentences=_mean([len(texts.desc) for texts in said]),
            tags=_mean([len(texts.tags) for texts in said]),
            negative_tags=_mean([len(texts.neg_tags) for texts in said]),
            pairs_kept=sum(bool(no) and no != yes for yes, no in pairs) / sentences if sentences else None,
        )


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """One LVLM with one prompt on the pilot sample; `statuses` counts its `rows`.

    Pilots that are compared show the same samples: `samples` are matched by uid, in the order of the first pilot.
    """

    name: str
    rows: int
    model: str = ""
    prompt: str = ""
    statuses: Mapping[str, int] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    faults: Faults | None = None
    cost: Cost | None = None
    samples: tuple[ShownSample, ...] = ()
    run: Provenance | None = None
