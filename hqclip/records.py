"""What is on disk, read first: samples, annotations, manifests. Standard library only.

`docs/formats.md` says the same for users. Every manifest carries a `format` number; a reader refuses a newer one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypedDict, TypeVar

from hqclip import __version__
from hqclip.errors import DataError
from hqclip.provenance import Provenance
from hqclip.typed_json import WrongValueError, loads, read_as

FORMAT = 1
FIELDS = ("tags", "neg_tags", "desc", "neg_desc")  # the published VLM-150M names
M = TypeVar("M", bound="Manifest")


class Status(StrEnum):
    """What became of one sample in `annotate`: `ok`, or the name of the fault."""

    OK = "ok"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    REPEATED = "repeated"
    REFUSED = "refused"
    NEGATIVE_EQUALS_POSITIVE = "negative_equals_positive"
    UNREADABLE_IMAGE = "unreadable_image"
    TIMED_OUT = "timed_out"
    QUARANTINED = "quarantined"
    ENGINE_ERROR = "engine_error"
    MISSING = "missing"


@dataclass(frozen=True)
class Sample:
    """One image with its raw alt-text; `uid` is 32 hexadecimal digits (DataComp)."""

    uid: str
    image: bytes
    text: str


@dataclass(frozen=True)
class Annotation:
    """The four texts of one image; `neg_desc[i]` contradicts `desc[i]`, `neg_tags[i]` contradicts `tags[i]`."""

    tags: tuple[str, ...]
    neg_tags: tuple[str, ...]
    desc: tuple[str, ...]
    neg_desc: tuple[str, ...]


@dataclass(frozen=True)
class AnnotatedRow:
    """One row of an annotation sidecar: the four texts, or None, the fault and what the LVLM said instead."""

    uid: str
    status: Status
    annotation: Annotation | None
    prompt_tokens: int = 0
    output_tokens: int = 0
    attempts: int = 1
    answer: str = ""


@dataclass(frozen=True)
class ShardEntry:
    """One verified shard: `key` and `index` lie in the store, `crc32c` is unsigned."""

    key: str
    index: str
    size: int
    crc32c: int
    rows: int

    @property
    def name(self) -> str:
        """`shards/00012.tar` -> `00012`: what the sidecars of this shard are called."""
        return self.key.rpartition("/")[2].removesuffix(".tar")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A small JSON document that names finished objects; written last, so what it names is complete."""

    KIND: ClassVar[str] = ""
    NUMBER: ClassVar[int] = FORMAT  # of its format

    def to_json(self) -> bytes:
        """Canonical: sorted keys, so the same content gives the same bytes."""
        return canonical_json({"kind": self.KIND, "format": self.NUMBER, **self._to_document()})

    @classmethod
    def from_json(cls: type[M], data: bytes, where: str) -> M:
        """Raises `DataError` if this is not such a manifest or is of a newer format."""
        try:
            document = loads(data)
            kind, number = document.pop("kind"), document.pop("format")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{where}: not a {cls.KIND} manifest ({error!r})") from error
        if kind != cls.KIND:
            raise DataError(f"{where}: this is a {kind} manifest; a {cls.KIND} manifest is needed here")
        if type(number) is not int:
            raise DataError(f"{where}: format {number!r} is no number; the manifest is damaged")
        writer = cls.writer_of(document)
        if number > cls.NUMBER:
            raise DataError(newer(where, number, cls.NUMBER, writer))
        try:
            return cls._from_document(document)
        except (ValueError, KeyError) as error:
            other = f"; hqclip {writer} wrote it, this is {__version__}" if writer not in ("", __version__) else ""
            raise DataError(f"{where}: damaged {cls.KIND} manifest ({error}){other}") from error

    @staticmethod
    def writer_of(document: dict[str, Any]) -> str:
        """The version of hqclip that wrote a document, if it says so."""
        made = document.get("provenance")
        said = made.get("code_version") if isinstance(made, dict) else document.get("code_version")
        return said if isinstance(said, str) else ""

    def _to_document(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def _from_document(cls: type[M], document: dict[str, Any]) -> M:
        return read_as(cls, document)


@dataclass(frozen=True, kw_only=True)
class Traced(Manifest):
    """A manifest that says who made it first, as `hqclip/provenance.py` has it; those of 0.1 do not.

    That is no part of what it is: no digest covers it, and what differs in it alone is equal.
    """

    provenance: Annotated[dict[str, Any], Provenance] | None = field(default=None, compare=False)

    def _to_document(self) -> dict[str, Any]:
        document = super()._to_document()
        return {name: value for name, value in document.items() if name != "provenance" or value is not None}


@dataclass(frozen=True, kw_only=True)
class Pool(Traced):
    """`pools/{digest}.json`: the shards that one `download` verified, and what it refused."""

    KIND = "pool"
    digest: str
    source: str
    shards: tuple[ShardEntry, ...]
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Samples in all shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class DatasetVersion(Traced):
    """`datasets/{digest}/dataset.json`: one refined data set; the digest covers content only."""

    KIND = "dataset"
    digest: str
    name: str
    parent: str
    pool: str
    annotator: str
    policy: str
    score_model: str
    rows: int
    usable_rows: int
    counts: dict[str, int]
    flags: dict[str, int]
    tag_vocabulary: int
    code_version: str


@dataclass(frozen=True)
class BenchmarkScore:
    """One benchmark: all metrics, the main one, how many items, and its 95 % bootstrap interval."""

    name: str
    kind: str
    metrics: dict[str, float]
    main: str
    items: int
    interval: tuple[float, float]

    def __post_init__(self) -> None:
        if self.main not in self.metrics:
            raise WrongValueError("is none of its metrics", "main")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Traced):
    """`evaluations/{model_digest}/{suite_digest}.json`: how one model does on one suite."""

    KIND = "evaluation"
    model: str
    model_digest: str
    suite: str
    suite_digest: str
    benchmarks: tuple[BenchmarkScore, ...]
    average: float
    outcomes: str
    outcomes_crc32c: int | None = None  # of the whole file; evaluations of 0.1 have none
    skipped: dict[str, str] | None = None  # sets that were asked for and not there, with the reason; None without any
    device: str | None = None  # where the towers ran, and their arithmetic; None: "cpu fp32"
    limit: int | None = None  # items of each set at most: a smoke run, never promoted; None: the whole suite

    @property
    def examples(self) -> str:
        """Where a few of the answers are, with pictures; older versions wrote none."""
        return f"evaluations/{self.model_digest}/{self.suite_digest}.examples.json"

    def _to_document(self) -> dict[str, Any]:
        return {name: value for name, value in super()._to_document().items() if value is not None}


class Trial(TypedDict):
    """What a cycle or sweep trains: settings other than those of all."""

    name: str
    settings: dict[str, Any]


class InForce(TypedDict):
    """The champion that a cycle had to beat, as its plan has it."""

    model: str
    model_digest: str
    cycle: int


@dataclass(frozen=True, kw_only=True)
class CyclePlan(Traced):
    """`cycles/{n:06d}.plan.json`: what a cycle set out to do; written once, so a resumed cycle does the same."""

    KIND = "cycle-plan"
    cycle: int
    fingerprint: str
    champion: Annotated[dict[str, Any], InForce] | None
    settings: dict[str, dict[str, Any]]
    trials: tuple[Annotated[dict[str, Any], Trial], ...]  # `points` on disk

    def _to_document(self) -> dict[str, Any]:
        document = super()._to_document()
        return {"points": document.pop("trials"), **document}

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> CyclePlan:
        return read_as(cls, {"trials": document.pop("points"), **document})


class SweepPlan(TypedDict):
    """`sweeps/{digest}.plan.json`: what a sweep set out to do. `dataset` is a key, `suite` a digest."""

    dataset: str
    suite: str
    settings: dict[str, dict[str, Any]]
    points: list[Trial]


class JudgedRun(TypedDict):
    """A training run of a cycle with what came of it; `evaluation` is a key, `average` a share."""

    name: str
    run: str
    model_digest: str
    evaluation: str
    average: float


@dataclass(frozen=True, kw_only=True)
class CycleRecord(Traced):
    """`cycles/{n:06d}.json`: what a cycle did, written last."""

    KIND = "cycle"
    cycle: int
    parent: int
    fingerprint: str
    dataset: str
    runs: tuple[Annotated[dict[str, Any], JudgedRun], ...]
    candidate: str
    verdict: str
    reason: str
    report: str
    failed: tuple[Annotated[dict[str, Any], FailedTrial], ...] = ()  # trials without scores; not there if empty
    gate: tuple[Annotated[dict[str, Any], Bar], ...] = ()  # what decided; not there if empty

    def _to_document(self) -> dict[str, Any]:
        return {k: value for k, value in super()._to_document().items() if k not in ("failed", "gate") or value}

    @property
    def chosen(self) -> dict[str, Any]:
        """The run whose model is the candidate. Raises `DataError` if there is none such."""
        for run in self.runs:
            if f"{run['run']}/model" == self.candidate:
                return run
        raise DataError(
            f"cycles/{self.cycle:06d}.json is damaged: its candidate {self.candidate!r} is of none of its runs"
        )

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> CycleRecord:
        record = read_as(cls, document)
        if not 0 <= record.parent < record.cycle:
            raise WrongValueError(f"is {record.parent}, where a cycle before {record.cycle} belongs", "parent")
        if not re.fullmatch(r"datasets/[^/]+/dataset\.json", record.dataset):
            raise WrongValueError("is no key of a data set", "dataset")
        return record


class ScoredTrial(TypedDict):
    """A trial of a sweep, as far as others read of it; `evaluation` is a key."""

    name: str
    evaluation: str


class Sweep(TypedDict, total=False):
    """`sweeps/{digest}.json`: what came of a sweep, as `select` says it. `failed` is not there if all have scores."""

    sweep: str
    best: str
    model: str
    average: float
    reason: str
    points: list[ScoredTrial]
    table: str
    report: str
    failed: list[Annotated[dict[str, Any], FailedTrial]]
    again: str


@dataclass(frozen=True)
class Bar:
    """What the candidate of a cycle had to reach, as its record has it: scores and thresholds are shares.

    `metric` is `average` or a benchmark, for its main metric; `rule` is `margin`, `floor` or `max_drop`. `champion` is
    None where there was none; `difference` then too, else the candidate's lead with its 95 % interval (value, low,
    high).
    """

    rule: str
    metric: str
    candidate: float
    threshold: float
    passed: bool
    champion: float | None = None
    difference: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Approval(Manifest):
    """`cycles/{n:06d}.approval.json`: what a person decided of a winner that waited; `at` is UTC."""

    KIND = "approval"
    cycle: int
    decision: str  # approved or rejected
    by: str
    at: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class FailedTrial(Manifest):
    """`{cycles/{n:06d}|sweeps/{digest}}.stages/failed/{trial}.json`: why a trial has no scores, until it has.

    `stage` failed with `exit_code`, of the class `reason` (`hqclip/task_records.py`); `error` is what it said.
    """

    KIND = "failed-trial"
    trial: str
    stage: str
    exit_code: int
    reason: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Champion(Traced):
    """`champion.json`: the model in force; changed only by compare-and-swap."""

    KIND = "champion"
    model: str
    model_digest: str
    evaluation: str
    cycle: int


def newer(where: str, number: int, newest: int, writer: str = "") -> str:
    """What is said of a format that this version cannot read."""
    upgrade = f" to {writer}, which wrote it, or later" if writer else ""
    return f"{where}: format {number} is newer than {newest}; upgrade hqclip{upgrade}"


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no NaN, a final newline: equal values give equal bytes."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=True) + "\n").encode()


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, the first 16 hexadecimal digits: names objects in the store."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]
