"""Settings of the commands about cycles and models that are no stages."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.config import SHARED_STORE, STORE
from hqclip.settings import Settings, setting

CYCLE = "cycle to start from; 0 is the champion's"
LAST = 400  # cycles on the page about all of them: a year of nightlies


@dataclass(frozen=True, kw_only=True)
class ApproveConfig(Settings):
    """Put the winner of a cycle in force that waits for approval, or refuse it; written down with who and when."""

    store: str = setting(SHARED_STORE)
    cycle: int = setting("cycle whose winner waits", minimum=1)
    reject: bool = setting("refuse it instead", False)
    reason: str = setting("why, for the record", "")
    by: str = setting("who decides; empty is the user of this machine", "")

    def conflicts(self) -> list[str]:
        """A refusal must say why."""
        return ["reason is empty: say why the winner is refused"] if self.reject and not self.reason.strip() else []


@dataclass(frozen=True, kw_only=True)
class LineageConfig(Settings):
    """Where a model comes from: data set, annotator, parents, back to the first cycle."""

    store: str = setting(STORE)
    cycle: int = setting(CYCLE, 0, minimum=0)
    format: str = setting(
        "a tree for people, JSON, or one OpenLineage event a line", "tree", choices=("tree", "json", "openlineage")
    )


@dataclass(frozen=True, kw_only=True)
class HistoryConfig(Settings):
    """All cycles on one page, night by night: data, scores against the champion, texts, time, cost, verdicts."""

    store: str = setting(STORE)
    last: int = setting("newest cycles to tell of, with twice as many runs", LAST, minimum=1)
    html: str = setting("file to write the page to; empty is cycles/history.html in the store", "")
    format: str = setting(
        "what is printed: a table for people, or JSON with all of it", "table", choices=("table", "json")
    )


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig(Settings):
    """How a cycle is made again: commands and settings, and what of them is no longer there (exit code 66)."""

    store: str = setting(STORE)
    cycle: int = setting("cycle to make again; 0 is the champion's", 0, minimum=0)
    into: str = setting("new store to make it in: gs://bucket/prefix or a folder", "again")
    format: str = setting("commands with comments, as a shell takes them, or JSON", "text", choices=("text", "json"))


@dataclass(frozen=True, kw_only=True)
class MigrateConfig(Settings):
    """Bring a store to the formats of this version: looks at every format number in it, and says what it finds."""

    store: str = setting(STORE)
    dry_run: bool = setting("only say what would be changed", False)


@dataclass(frozen=True, kw_only=True)
class ExportMlflowConfig(Settings):
    """Bring the training runs of a cycle into MLflow: settings, curves, scores, models, and where they come from."""

    store: str = setting(STORE)
    cycle: int = setting("cycle to export; 0 is the champion's", 0, minimum=0)
    tracking_uri: str = setting("MLflow server, e.g. https://mlflow.example.com; empty is MLFLOW_TRACKING_URI", "")
    experiment: str = setting("name of the MLflow experiment", "hqclip")
    registered_model: str = setting("registered model of which the candidate becomes a version", "hqclip")
    models: bool = setting("bring the files of the models too", True)


@dataclass(frozen=True, kw_only=True)
class ExportModelRegistryConfig(Settings):
    """Bring the candidate of a cycle into Kubeflow's Model Registry: where it is, its scores, where it comes from."""

    store: str = setting(STORE)
    cycle: int = setting("cycle to export; 0 is the champion's", 0, minimum=0)
    server: str = setting(
        "Model Registry, e.g. http://model-registry-service.kubeflow:8080; empty is HQCLIP_MODEL_REGISTRY", ""
    )
    registered_model: str = setting("registered model of which it becomes a version", "hqclip")


@dataclass(frozen=True, kw_only=True)
class CompareModelsConfig(Settings):
    """Models side by side, metric by metric, with differences to the first and their intervals."""

    store: str = setting(STORE)
    runs: tuple[str, ...] = setting(
        "what to compare, comma separated: cycles (3: its candidate; 3/raw: one of its runs), runs/..., sweeps/..., "
        "evaluations/..., champion"
    )
    suite: str = setting("digest of the suite to compare on; empty is the one that all share", "")
    html: str = setting("file to write the comparison to, as one page; empty for none", "")
