"""Every setting of every stage: its help, its default and what is refused. Standard library only.

Flags and pipeline inputs derive from these classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hqclip import engine_options
from hqclip.errors import ConfigError
from hqclip.settings import Settings, setting

_BAR = re.compile(r"(.+)=(\d*\.?\d+)").fullmatch
_PRICE = re.compile(r"\w+=\d+(\.\d+)?").fullmatch
SUITE = "a suite.json, or a folder of CLIP_benchmark's sets; local, gs:// or s3://"
STORE = "root of the store: gs:// or s3://bucket/prefix, or a folder"
SHARDS = "a folder, {00000..00099} ranges, globs, comma separated; local, gs:// or s3://"
BUDGET = "GPU-hours that it may take in all, in every run of it; -1 sets no limit"
BUDGET_DOLLARS = "USD that it may take in all, by gpu_prices; -1 sets no limit"
MACHINES = "machines: a YAML file, local, gs:// or s3://"
PRICES = "USD per GPU-hour by a word of the device's name, e.g. H100=2.5-4.0,L4=0.7"
LOCAL_ENGINES = ("transformers", "vllm")  # those that run a model of a folder themselves
ENGINES = (*LOCAL_ENGINES, "openai", "replay")
SHARED_STORE = f"{STORE} that all tasks share"
BESIDE = "the contrastive loss beside it has weight 1"
MODEL = (
    "model folder, as printed by `hqclip train`, or one elsewhere (/folder, gs://), also a CLIPModel of transformers; "
    "hf-hub:org/name, or one of open_clip with its tag, e.g. ViT-B-32:laion2b_s34b_b79k"
)
PLACES = "a folder, gs:// or s3://bucket/folder, or name@revision of a hub"
DEVICE = "where CLIP runs; auto takes a GPU where there is one"
DEVICES = ("auto", "cpu", "cuda")
DECODE = "threads that decode and shrink images"
THREADS = "CPU threads for tensor arithmetic; 0 leaves the choice to torch"


@dataclass(frozen=True, kw_only=True)
class DownloadConfig(Settings):
    """Bring shards into the store: verified, indexed, counted."""

    store: str = setting(STORE)
    shards: str = setting(f"shards to bring: {SHARDS}")
    max_fault_rate: float = setting(
        "share of samples that may be refused before the stage fails", 0.01, minimum=0, maximum=1
    )
    skip_damaged: bool = setting("keep what is intact of damaged shards instead of failing", False)
    parallel: int = setting("shards in work at a time", 4, minimum=1, maximum=64)


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(Settings):
    """Write four texts for every image of a pool, with an LVLM that looks at the image and its alt-text."""

    store: str = setting(STORE)
    pool: str = setting("pool manifest, as printed by `hqclip download`")
    model: str = setting(f"LVLM: {PLACES}, or a server's model", "demo")
    engine: str = setting("what runs the LVLM", "transformers", choices=ENGINES)
    server: str = setting("for the openai engine: root of the server, e.g. http://host:8000/v1", "")
    plain_http: bool = setting("send OPENAI_API_KEY also in clear (http://) to other machines", False)
    recording: str = setting("for the replay engine: file of recorded answers", "")
    prompt: str = setting("prompt: a built-in name or a text file", "web-1")
    max_tags: int = setting("most tags in each list of an answer", 10, minimum=1, maximum=32)
    max_sentences: int = setting("most sentences in each list of an answer", 4, minimum=1, maximum=32)
    max_new_tokens: int = setting("tokens an answer may have", 400, minimum=16, maximum=2**17)
    max_alt_tokens: int = setting("tokens of alt-text shown to the LVLM", 64, minimum=1)
    image_tokens: int = setting("tokens an image may cost; 0 leaves it to the model's family", 0, minimum=0)
    grammar: str = setting(
        "when the engine binds answers to the schema, if it can", "always", choices=("always", "on_retry", "off")
    )
    temperature: float = setting("of the first attempt; 0 is greedy", 0.0, minimum=0, maximum=2)
    attempts: int = setting("times an image is asked about before its fault counts", 3, minimum=1, maximum=8)
    timeout_s: float = setting("seconds an answer may take", 300.0, above=0)
    ready_s: float = setting("seconds an engine may take to be ready", 600.0, above=0)
    in_flight: int = setting("requests kept inside the engine; 0 means 1.1 times max_num_seqs", 0, minimum=0)
    decode_threads: int = setting(DECODE, 4, minimum=1, maximum=64)
    max_num_seqs: int = setting("for vllm: sequences the engine works on at a time", 512, minimum=1)
    max_num_batched_tokens: int = setting("for vllm: tokens a step of the engine takes", 8192, minimum=64)
    max_model_len: int = setting("for vllm: tokens of prompt, image and answer together", 2048, minimum=64)
    tensor_parallel: int = setting("for vllm: GPUs that share one engine", 1, minimum=1, maximum=64)
    gpu_memory: float = setting("for vllm: share of GPU memory to take", 0.9, above=0, maximum=1)
    engine_options: str = setting('for vllm: further engine arguments as JSON, e.g. {"quantization": "fp8"}', "{}")
    batch_size: int = setting("for transformers: images at a time", 64, minimum=1, maximum=2**20)
    claims: bool = setting("share the shards with other replicas of this stage that run at the same time", False)
    claim_stale_s: float = setting(
        "seconds without a heartbeat after which a replica's shard is taken over", 300.0, above=0
    )
    max_restarts: int = setting("times a dead engine is started again", 10, minimum=0)
    max_fault_rate: float = setting(
        "share of samples without usable texts at which the stage fails", 0.03, minimum=0, maximum=1
    )
    gpu_prices: tuple[str, ...] = setting(
        "price table: USD per GPU-hour by a word of the device's name; the default is a figure to plan with",
        ("H100=3.0",),
        pairs=True,
    )
    threads: int = setting(THREADS, 0, minimum=0, maximum=1024)

    def conflicts(self) -> list[str]:
        """An engine that lacks what it needs."""
        problems = []
        if self.engine == "openai" and not self.server.startswith(("http://", "https://")):
            problems.append("the openai engine needs server, e.g. http://host:8000/v1")
        elif self.engine == "openai" and not _has_host(self.server):
            problems.append("server is not an address; give one like http://host:8000/v1")
        if self.engine == "replay" and not self.recording:
            problems.append("the replay engine needs recording, a file of recorded answers")
        problems += [f"gpu_prices: {price!r} is not like H100=3.0" for price in self.gpu_prices if not _PRICE(price)]
        problems += engine_options.refusals(self.engine_options)
        if self.engine == "vllm" and self.max_new_tokens >= self.max_model_len:
            problems.append(
                f"max_new_tokens is {self.max_new_tokens}, which leaves nothing of max_model_len "
                f"({self.max_model_len}) for image and prompt; give less, or a larger max_model_len"
            )
        told = "max_num_" in self.engine_options  # which wins
        if self.engine == "vllm" and self.max_num_batched_tokens < self.max_num_seqs and not told:
            problems.append(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, less than a token for each of max_num_seqs "
                f"({self.max_num_seqs}), which vLLM refuses; give more, or a smaller max_num_seqs"
            )
        return problems


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port or an IPv6 address
        return False


@dataclass(frozen=True, kw_only=True)
class PilotConfig(AnnotateConfig):
    """Annotate a sample of a pool: what the LVLM writes, how fast, and what the whole pool will cost."""

    samples: int = setting("images of the pool to annotate", 200, minimum=1, maximum=10_000)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(PilotConfig):
    """Annotate the same sample with several LVLMs or prompts, side by side on one page."""

    models: tuple[str, ...] = setting("LVLMs to compare, comma separated; empty: the one in model", ())
    prompts: tuple[str, ...] = setting("prompts to compare, comma separated; empty: the one in prompt", ())


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Settings):
    """Similarity of every image to its texts under the champion CLIP; nothing to do in the first cycle."""

    store: str = setting(STORE)
    pool: str = setting("pool manifest, as printed by `hqclip download`")
    annotations: str = setting("annotation folder, as printed by `hqclip annotate`")
    champion: str = setting("model folder of the champion; empty if there is none yet", "")
    batch_size: int = setting("images at a time", 256, minimum=1)
    threads: int = setting(THREADS, 0, minimum=0, maximum=1024)
    device: str = setting(DEVICE, "auto", choices=DEVICES)
    decode_threads: int = setting(DECODE, 4, minimum=1, maximum=64)


_LIMIT = re.compile(r"[a-z_]+=(0(\.\d+)?|1(\.0+)?)").fullmatch


@dataclass(frozen=True, kw_only=True)
class CurateConfig(Settings):
    """Clean the annotations by rule and make a data set version of them."""

    store: str = setting(STORE)
    pool: str = setting("pool manifest, as printed by `hqclip download`")
    annotations: str = setting("annotation folder, as printed by `hqclip annotate`")
    scores: str = setting("score folder, as printed by `hqclip score`; empty without a champion", "")
    name: str = setting("name of the data set", "refined")
    parent: str = setting("digest of the data set that this one follows; empty for the first", "")
    tag_vocabulary: int = setting("most frequent tags kept for tag classification", 10_000, minimum=1)
    drop_share: float = setting(
        "share of samples dropped whose description is least similar to the image (needs scores)",
        0.1,
        minimum=0,
        maximum=0.9,
    )
    weak_alt_share: float = setting(
        "share of samples whose alt-text is least similar to the image and is not trained on (needs scores)",
        0.25,
        minimum=0,
        maximum=1,
    )
    language: str = setting("what descriptions are written in; any tests no language", "en", choices=("en", "any"))
    negative_margin: float = setting(
        "how much more similar to the image than its contradictions a description must be for these to be trained on "
        "(needs scores)",
        0.0,
        minimum=-2,
        maximum=2,
    )
    max_drop_rate: float = setting("share of unusable samples at which the stage fails", 0.25, minimum=0, maximum=1)
    limits: tuple[str, ...] = setting(
        "own limits of rules and statuses: shares of rows at which the stage fails, e.g. easy_negative=0.3,refused=0.1",
        (),
        pairs=True,
    )
    max_drift: float = setting(
        "largest population stability index against the parent; 0 is no limit, 0.25 is a large change", 0.0, minimum=0
    )
    gate: str = setting("what an exceeded limit or drift does", "fail", choices=("fail", "warn"))

    def conflicts(self) -> list[str]:
        """Limits that are no shares."""
        return [f"limits: {item!r} is not like easy_negative=0.3" for item in self.limits if not _LIMIT(item)]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Settings):
    """Train CLIP on a data set version, with negative descriptions and tags as further supervision."""

    store: str = setting(STORE)
    dataset: str = setting("data set manifest, as printed by `hqclip curate`")
    run: str = setting("name of the run: a-z, 0-9, dots and dashes")
    model: str = setting("name of an open_clip model", "ViT-B-32")
    samples_seen: int = setting("budget: samples the model sees in all", 12_800_000, minimum=1, maximum=10**13)
    batch_size: int = setting(
        "samples a step, all ranks together", 4096, minimum=2, maximum=2**20, why="each is compared with all others"
    )
    learning_rate: float = setting(
        "peak of the cosine schedule", 5e-4, above=0, maximum=1, why="AdamW moves every weight by about it at each step"
    )
    warmup: int = setting("steps of linear warm-up", 500, minimum=0, maximum=10**7)
    weight_decay: float = setting(
        "AdamW, for matrices only", 0.2, minimum=0, maximum=100, why="times the learning rate it is taken off a weight"
    )
    beta2: float = setting("AdamW", 0.98, above=0, maximum=0.9999)
    grad_clip: float = setting("largest gradient norm; 0 does not clip", 0.0, minimum=0, maximum=1e6)
    generated_share: float = setting(
        "how often the LVLM's description is the text, else the alt-text", 0.75, minimum=0, maximum=1
    )
    max_sentences: int = setting("most neighbouring sentences of a description in one text", 3, minimum=1, maximum=32)
    negative_weight: float = setting("weight of hard-negative identification", 0.5, minimum=0, maximum=1000, why=BESIDE)
    negative_ramp: float = setting("share of the steps over which that weight rises from 0", 0.1, minimum=0, maximum=1)
    tag_weight: float = setting("weight of short-tag classification", 1.0, minimum=0, maximum=1000, why=BESIDE)
    false_tag_weight: float = setting(
        "weight of a tag that the LVLM says is absent, relative to one it does not name", 2.0, minimum=0, maximum=1000
    )
    seed: int = setting("decides initial weights, sample order and text choice", 0, minimum=0)
    precision: str = setting("arithmetic of the towers", "bf16", choices=("bf16", "fp32"))
    checkpoint_every: int = setting("steps between checkpoints", 500, minimum=1, maximum=10**7)
    log_every: int = setting("steps between log lines", 50, minimum=1, maximum=10**7)
    max_skipped_steps: int = setting(
        "steps in a row, and at most 1 % of all, that are left out because loss or gradient is not finite, before the "
        "run goes back to its last checkpoint, once, and then stops; 0 stops at the first",
        10,
        minimum=0,
        maximum=10**6,
    )
    threads: int = setting(THREADS, 0, minimum=0, maximum=1024)
    decode_threads: int = setting("threads of each rank that decode and shrink images", 8, minimum=1, maximum=64)

    def check_ranks(self, ranks: int) -> None:
        """Raises `ConfigError` where ranks would get unequal shares of a batch."""
        if self.batch_size % ranks:
            below = self.batch_size // ranks * ranks
            fitting = " or ".join(str(size) for size in (below, below + ranks) if size)
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide into equal shares for {ranks} ranks; give {fitting}"
            )

    def lasting(self) -> dict[str, Any]:
        """What decides the result: a run may continue with other threads or limits, and its store may move."""
        passing = ("store", "threads", "decode_threads", "max_skipped_steps")
        return {name: value for name, value in self.to_mapping().items() if name not in passing}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Settings):
    """Judge a model zero-shot: classification, retrieval, compositional choice."""

    store: str = setting(STORE)
    model: str = setting(MODEL)
    suite: str = setting(f"suite to judge by: {SUITE}")
    sets: tuple[str, ...] = setting(
        "sets of the suite, or quick, datacomp38, retrieval, finegrained; empty takes all", ()
    )
    skip_missing: bool = setting("go on without sets that the suite has not, and note so, instead of refusing", False)
    limit: int = setting("items of each set at most, for a smoke run that is never promoted; 0 takes all", 0, minimum=0)
    batch_size: int = setting("images at a time", 256, minimum=1, maximum=2**20)
    resamples: int = setting("bootstrap resamples for the intervals", 1000, minimum=100, maximum=10**6)
    threads: int = setting(THREADS, 0, minimum=0, maximum=1024)
    device: str = setting(DEVICE, "auto", choices=DEVICES)
    decode_threads: int = setting(DECODE, 4, minimum=1, maximum=64)


@dataclass(frozen=True, kw_only=True)
class ExportTransformersConfig(Settings):
    """Write a model as a CLIPModel of transformers, with its processor."""

    store: str = setting(STORE)
    model: str = setting(MODEL)
    out: str = setting("folder to write it to; must not be there yet")


@dataclass(frozen=True, kw_only=True)
class PromoteConfig(Settings):
    """Choose the best candidate of a cycle and put it in force if it beats the champion by a margin."""

    store: str = setting(STORE)
    plan: str = setting("cycle plan, as printed by `hqclip plan`")
    dataset: str = setting("data set manifest, as printed by `hqclip curate`")
    evaluations: tuple[str, ...] = setting(
        "evaluations of the candidates, as printed by `hqclip evaluate`; empty takes those that a pipeline noted", ()
    )
    margin: float = setting("how much better than the champion the average must be", 0.005, minimum=0, maximum=1)
    floor: tuple[str, ...] = setting(
        "least main metric of single benchmarks, also without a champion: imagenet=0.70, comma separated", ()
    )
    max_drop: tuple[str, ...] = setting(
        "how far the main metric of single benchmarks may fall below the champion's: coco=0.01, comma separated", ()
    )
    approval: bool = setting("a winner is not put in force until somebody says so with `hqclip approve`", False)

    def conflicts(self) -> list[str]:
        """Bars that are not like imagenet=0.70, or name a benchmark twice."""
        return [*_bar_problems("floor", self.floor), *_bar_problems("max_drop", self.max_drop)]

    def bars(self, name: str) -> dict[str, float]:
        """`floor` or `max_drop` by benchmark."""
        return {bar.rpartition("=")[0]: float(bar.rpartition("=")[2]) for bar in getattr(self, name)}


def _bar_problems(name: str, bars: tuple[str, ...]) -> list[str]:
    wrong = [bar for bar in bars if not (match := _BAR(bar)) or float(match[2]) > 1]
    problems = [f"{name}: {bar!r} is not like imagenet=0.70, a benchmark and a share up to 1" for bar in wrong]
    named = [bar.rpartition("=")[0] for bar in bars]
    return problems + [f"{name} names {one!r} twice; give it once" for one in {n for n in named if named.count(n) > 1}]


@dataclass(frozen=True, kw_only=True)
class PlanConfig(Settings):
    """Open a cycle: is there anything to do, and with which settings for every stage?"""

    store: str = setting(SHARED_STORE)
    shards: str = setting(f"shards to refine: {SHARDS}")
    suite: str = setting(f"suite to judge what is trained: {SUITE}", "")
    preset: str = setting("named settings of all stages: demo, demo-quick, small, medium, large or xlarge", "small")
    trials: tuple[str, ...] = setting(
        "training runs of the cycle: recipes out of raw, mixed, hqclip, comma separated", ("hqclip",)
    )
    data_only: bool = setting("train nothing: the cycle ends with a data set version", False)
    cycle: int = setting("number of the cycle; 0 continues the open one or opens the next", 0, minimum=0)
    annotate_model: str = setting(f"LVLM: {PLACES}; empty leaves it to the preset", "")
    train_samples_seen: int = setting("training budget of each trial; 0 leaves it to the preset", 0, minimum=0)
    train_seed: int = setting("seed of the training runs", 0, minimum=0)
    overrides: str = setting('further settings as JSON, e.g. {"curate.drop_share": 0.2}', "{}")
    launch: str = setting(
        "machines: a YAML file, local, gs:// or s3://; a stage with a section in it is launched on them, the others "
        "run where they are called; empty for none",
        "",
    )
    budget: float = setting(BUDGET, -1.0)
    budget_dollars: float = setting(BUDGET_DOLLARS, -1.0)
    gpu_prices: tuple[str, ...] = setting(f"{PRICES}; empty: those of annotate.gpu_prices", (), pairs=True)
    launched: tuple[str, ...] = setting("stages that the pipeline was compiled to launch", ())
    workers: str = setting("what the platform of that pipeline says of their workers, as JSON; empty for nothing", "")
    owner: str = setting("who asks, e.g. a Kubeflow run: while it works, others skip; empty for nobody", "")

    def conflicts(self) -> list[str]:
        """A budget of nothing."""
        return _budget_problems(self)


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Settings):
    """Prepare a sweep: training runs that differ in some settings, on one data set, judged by one suite."""

    store: str = setting(SHARED_STORE)
    suite: str = setting(f"suite to judge with: {SUITE}")
    trials: str = setting(
        'what to try, as JSON: {"train.learning_rate": [0.001, 0.0005]} for all combinations, or a list of '
        '{"name": ..., "settings": {...}}; at most 16'
    )
    dataset: str = setting(
        "data set to train on, datasets/.../dataset.json; empty takes that of the newest finished cycle", ""
    )
    preset: str = setting("named settings of all stages: demo, demo-quick, small, medium, large or xlarge", "small")
    overrides: str = setting('further settings of all trials as JSON, e.g. {"train.samples_seen": 1000000}', "{}")
    seed: int = setting("seed of the training runs", 0, minimum=0)
    launch: str = setting(f"{MACHINES}, with a section for train or evaluate; empty for none", "")
    budget: float = setting(BUDGET, -1.0)
    budget_dollars: float = setting(BUDGET_DOLLARS, -1.0)
    gpu_prices: tuple[str, ...] = setting(f"{PRICES}; empty: the default of annotate.gpu_prices", (), pairs=True)
    launched: tuple[str, ...] = setting("stages that the pipeline was compiled to launch", ())
    workers: str = setting("what the platform of that pipeline says of their workers, as JSON; empty for nothing", "")

    def conflicts(self) -> list[str]:
        """A budget of nothing."""
        return _budget_problems(self)


def _budget_problems(settings: PlanConfig | SweepConfig) -> list[str]:
    limits = {"budget": settings.budget, "budget_dollars": settings.budget_dollars}
    wrong = {name: limit for name, limit in limits.items() if limit <= 0 and limit != -1}
    return [f"{name} is {limit:g}; give more than 0, or -1 for no limit" for name, limit in wrong.items()]


@dataclass(frozen=True, kw_only=True)
class SelectConfig(Settings):
    """Compare the trials of a sweep, and name the best."""

    store: str = setting(STORE)
    plan: str = setting("sweep plan, as printed by `hqclip sweep`")
    evaluations: tuple[str, ...] = setting(
        "evaluations of the trials, as printed by `hqclip evaluate`; empty takes those that a pipeline noted", ()
    )


@dataclass(frozen=True, kw_only=True)
class PlanEvaluationConfig(Settings):
    """Ask for one model to be judged: what `evaluate` takes, checked, for a pipeline of that stage alone."""

    store: str = setting(SHARED_STORE)
    model: str = setting(f"{MODEL}; empty is the champion", "")
    suite: str = setting(f"suite to judge with: {SUITE}")
    preset: str = setting("named settings of all stages: demo, demo-quick, small, medium, large or xlarge", "small")
    launch: str = setting(f"{MACHINES}, with a section for evaluate; empty for none", "")
    launched: tuple[str, ...] = setting("stages that the pipeline was compiled to launch", ())
    workers: str = setting("what the platform of that pipeline says of their workers, as JSON; empty for nothing", "")


@dataclass(frozen=True, kw_only=True)
class CostConfig(Settings):
    """What a cycle will take, said before it is launched: images, tokens, GPU-hours and dollars by stage."""

    store: str = setting(STORE)
    shards: str = setting(f"shards to refine: {SHARDS}")
    preset: str = setting("named settings of all stages: demo, demo-quick, small, medium, large or xlarge", "small")
    trials: tuple[str, ...] = setting("training runs of the cycle: recipes out of raw, mixed, hqclip", ("hqclip",))
    overrides: str = setting('further settings as JSON, e.g. {"train.learning_rate": 0.001}', "{}")
    images: int = setting("images in the shards; -1 counts them by the pools of the store", -1, minimum=-1)
    launch: str = setting(f"{MACHINES}; empty for none", "")
    gpu_prices: tuple[str, ...] = setting(f"{PRICES}; empty: figures to plan with", (), pairs=True)
    gpu_hours: tuple[str, ...] = setting("what you know of a stage yourself, e.g. train=40,evaluate=1", (), pairs=True)
    max_cost: float = setting(
        "USD: exit 64 if the cycle may cost more, or if nobody can tell; -1 sets no limit", -1.0, minimum=-1
    )
    storage_price: float = setting(
        "USD per GB-month: also say what the store takes by kind, which lists all of it; -1 leaves it out",
        -1.0,
        minimum=-1,
    )


@dataclass(frozen=True, kw_only=True)
class ConfigShowConfig(Settings):
    """Every setting that variables and the project file may have, its value here, and where that comes from."""

    origin: bool = setting("also where each value comes from: a variable, file:line, a preset, or the default", False)
    section: str = setting("only those of this section, e.g. train or kfp; empty shows all", "")
    format: str = setting("a table, or JSON", "table", choices=("table", "json"))


@dataclass(frozen=True, kw_only=True)
class DemoWorldConfig(Settings):
    """Draw the shapes world: a pool of web-like shards and a suite to judge with."""

    store: str = setting("where to draw it: a folder, or gs:// or s3://bucket/prefix")
    images: int = setting("pictures in the pool", 6000, minimum=1, maximum=1_000_000)
    scenes: int = setting("pictures for each benchmark of the suite", 500, minimum=8, maximum=100_000)


@dataclass(frozen=True, kw_only=True)
class DemoTeachConfig(Settings):
    """Teach the tiny LVLM of the demo to read the shapes world."""

    out: str = setting("folder for the model")
    seed: int = setting("decides everything that is random", 0, minimum=0)
    steps: int = setting("language steps in the last lesson", 1800, minimum=1)
    threads: int = setting(THREADS, 1, minimum=0, maximum=1024)
