"""Settings of `hqclip lineage`, `hqclip reproduce` and `hqclip export mlflow`."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.config import STORE
from hqclip.settings import Settings, setting

CYCLE = "cycle to start from; 0 is the champion's"


@dataclass(frozen=True, kw_only=True)
class LineageConfig(Settings):
    """Where a model comes from: data set, annotator, parents, back to the first cycle."""

    store: str = setting(STORE)
    cycle: int = setting(CYCLE, 0, minimum=0)
    format: str = setting(
        "a tree for people, JSON, or one OpenLineage event a line", "tree", choices=("tree", "json", "openlineage")
    )


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig(Settings):
    """How a cycle is made again: commands and settings, and what of them is no longer there (exit code 66)."""

    store: str = setting(STORE)
    cycle: int = setting("cycle to make again; 0 is the champion's", 0, minimum=0)
    into: str = setting("new store to make it in: gs://bucket/prefix or a folder", "again")
    format: str = setting("commands with comments, as a shell takes them, or JSON", "text", choices=("text", "json"))


@dataclass(frozen=True, kw_only=True)
class ExportMlflowConfig(Settings):
    """Bring the training runs of a cycle into MLflow: settings, curves, scores, models, and where they come from."""

    store: str = setting(STORE)
    cycle: int = setting("cycle to export; 0 is the champion's", 0, minimum=0)
    tracking_uri: str = setting("MLflow server, e.g. http://mlflow:5000; empty is MLFLOW_TRACKING_URI", "")
    experiment: str = setting("name of the MLflow experiment", "hqclip")
    models: bool = setting("bring the files of the models too", True)
