"""What tests of `annotate` share: a pool of given samples, an engine that answers from a table, and what comes out.

A plugin of pytest (see `conftest.py`), so that its fixture is everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import AnnotateConfig, DownloadConfig
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import read_annotations
from hqclip.records import AnnotatedRow, Pool, Sample
from hqclip.store import open_store
from tests.fakes.engines import ScriptedEngine

Draw = Callable[..., list[Sample]]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """The engine of every `annotate` in this process; it answers from a table."""
    scripted = ScriptedEngine()
    monkeypatch.setattr("hqclip.annotate.worker.make_engine", lambda *_: scripted)
    return scripted


def pool_of(folder: Path, *shards: Sequence[Sample], **settings: Any) -> AnnotateConfig:
    """A store with a shard of each list of samples, and the settings to annotate it."""
    (folder / "pool").mkdir(parents=True)
    for number, samples in enumerate(shards):
        write_shard(samples, folder / f"pool/{number:05d}.tar")
    result = download(DownloadConfig(store=str(folder / "store"), shards=str(folder / "pool"), max_fault_rate=1))
    given = {"store": str(folder / "store"), "pool": result["pool"], "prompt": "shapes-1", "max_fault_rate": 0.5}
    return AnnotateConfig(**{**given, **settings})


def rows_of(config: AnnotateConfig, annotations: str) -> list[AnnotatedRow]:
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    keys = [(f"{annotations}/{entry.name}.parquet", entry) for entry in pool.shards]
    return [row for key, entry in keys for row in read_annotations(store, key, entry)]


def sidecars(config: AnnotateConfig) -> dict[str, bytes]:
    """The content of every sidecar by name; that nothing else is left in the folder but what is meant to be."""
    (folder,) = (Path(config.store) / "annotations").iterdir()
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".hqclip-")}
    assert {name for name in left if not name.endswith(".parquet")} <= {"annotator.json", "work", "parts", "claims"}
    assert not list((folder / "parts").rglob("*.parquet"))
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}
