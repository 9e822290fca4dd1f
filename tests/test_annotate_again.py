"""`annotate` again: cut short anywhere, or by several replicas at once, it ends as one run that nothing befell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate import partial_rows, stage, worker
from hqclip.config import AnnotateConfig, DownloadConfig
from hqclip.data.download import run as download
from hqclip.errors import StorageError
from hqclip.store import local, open_store
from tests.annotated_pools import Draw, pool_of, rows_of, sidecars
from tests.annotating import PART_ROWS, TellsUid
from tests.fakes.engines import ScriptedEngine
from tests.fakes.gcs import FakeGcs

ROOT = Path(__file__).parents[1]


# Twice is as good as once


def test_what_is_annotated_is_not_asked_again(tmp_path: Path, engine: ScriptedEngine, draw_samples: Draw):
    config = pool_of(tmp_path, draw_samples(4))
    first = stage.run(config)
    assert (first["already_done"], len(engine.asked)) == (0, 4)
    again = stage.run(config)
    assert (again["already_done"], len(engine.asked), engine.starts) == (1, 4, 1)
    assert again["statuses"] == first["statuses"]


@pytest.mark.slow
def test_killed_before_any_change_of_the_store_it_ends_as_if_nothing_had_been(tmp_path: Path, draw_samples: Draw):
    """Enumerated: a run of three shards is killed at every change it makes, and then continued."""
    shards = [draw_samples(30), draw_samples(1, first=100), draw_samples(20, first=200)]
    reference = pool_of(tmp_path / "reference", *shards, decode_threads=1)  # what is in which part does not vary
    whole = annotating(reference)
    assert whole["asked"] == 51
    wanted = sidecars(reference)
    assert whole["changes"] >= 12
    for kill_at in range(1, whole["changes"] + 1):
        config = pool_of(tmp_path / f"killed-{kill_at}", *shards, decode_threads=1)
        ended = annotating(config, kill_at=kill_at)
        assert ended == 137 or ended["changes"] < kill_at  # how many parts there are depends on the machine
        again = annotating(config)
        assert sidecars(config) == wanted, f"killed at change {kill_at}"
        assert again["statuses"] == whole["statuses"]


def test_a_kill_costs_no_more_than_the_window_and_two_parts(tmp_path: Path, draw_samples: Draw):
    shard = draw_samples(120)
    config = pool_of(tmp_path, shard, in_flight=4)
    kill_at = annotating(pool_of(tmp_path / "reference", shard, in_flight=4))["changes"] - 20
    assert annotating(config, kill_at=kill_at) == 137
    (folder,) = (Path(config.store) / "annotations").iterdir()
    saved = len(list((folder / "parts/00000").glob("*.parquet"))) * PART_ROWS
    assert saved > 0
    assert annotating(config)["asked"] <= 120 - saved
    # the window and what was being written when the kill came


def test_sigterm_keeps_what_is_finished(tmp_path: Path, draw_samples: Draw):
    config = pool_of(tmp_path, draw_samples(400), in_flight=4)
    process = start_annotating(config, delay_s=0.02)
    parts_of = Path(config.store) / "annotations"
    wait_for(lambda: len(list(parts_of.rglob("parts/00000/*.parquet"))) >= 3)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert time.monotonic() - asked < 10
    assert "what was finished is kept" in errors
    (log,) = parts_of.rglob("progress.json")
    finished = json.loads(log.read_text())["images"]
    again = annotating(config)
    assert again["asked"] == 400 - finished
    assert again["rows"] == 400
    assert [row.uid for row in rows_of(config, again["annotations"])] == [f"{n:032x}" for n in range(400)]


def test_a_full_disk_stops_the_stage_and_loses_nothing_that_was_stored(
    tmp_path: Path, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch
):
    told = TellsUid()
    monkeypatch.setattr(worker, "make_engine", lambda *_: told)
    monkeypatch.setattr(partial_rows, "PART_ROWS", 8)
    config = pool_of(tmp_path, draw_samples(60))
    publish, written = local._publish, []

    def full_after_two_parts(key: str, *rest: Any) -> Any:
        if "/parts/" in key or key.endswith("00000.parquet"):
            written.append(key)
            if len(written) > 2:
                raise OSError(28, "No space left on device")
        return publish(key, *rest)

    monkeypatch.setattr(local, "_publish", full_after_two_parts)
    with pytest.raises(StorageError, match="No space left on device; free some space and run again"):
        stage.run(config)
    monkeypatch.setattr(local, "_publish", publish)
    told.asked.clear()
    assert stage.run(config)["rows"] == 60
    assert len({request.uid for request in told.asked}) <= 60 - 2 * 8


def annotating(config: AnnotateConfig, kill_at: int = 0) -> Any:
    """What `tests.annotating` says, or the exit code if it dies."""
    process = start_annotating(config, kill_at)
    out, errors = process.communicate(timeout=600)
    if process.returncode:
        assert kill_at, errors
        return process.returncode
    return json.loads(out)


def start_annotating(config: AnnotateConfig, kill_at: int = 0, delay_s: float = 0.0) -> subprocess.Popen[str]:
    settings = json.dumps(config.to_mapping())
    command = [sys.executable, "-m", "tests.annotating", settings, str(kill_at), str(delay_s)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Several replicas


def test_replicas_share_the_shards(tmp_path: Path, draw_samples: Draw):
    shards = [draw_samples(20, first=100 * n) for n in range(6)]
    config = pool_of(tmp_path, *shards, claims=True, claim_stale_s=5.0)
    processes = [start_annotating(config, delay_s=0.02) for _ in range(3)]
    results = []
    for process in processes:
        out, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        results.append(json.loads(out))
    assert sum(result["asked"] for result in results) == 120
    assert all(result["rows"] == 120 for result in results)
    reference = pool_of(tmp_path / "alone", *shards)
    annotating(reference)
    assert sidecars(config) == sidecars(reference)


def test_in_a_bucket_it_is_the_same(tmp_path: Path, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch):
    """Also when the bucket answers with 503 now and then, and loses acknowledgements."""
    monkeypatch.setattr(worker, "make_engine", lambda *_: TellsUid())
    monkeypatch.setattr(partial_rows, "PART_ROWS", PART_ROWS)
    shards = [draw_samples(20), draw_samples(9, first=100)]
    here = pool_of(tmp_path, *shards)
    stage.run(here)
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        pool = download(DownloadConfig(store="gs://bucket/deep", shards=str(tmp_path / "pool")))["pool"]
        there = AnnotateConfig(**{**here.to_mapping(), "store": "gs://bucket/deep", "pool": pool, "claims": True})
        for kind in ("refuse", "lose", "lose"):
            fake.fault(kind, "POST uploadType=multipart")
        result = stage.run(there)
        store = open_store(there.store)
        left = list(store.list(f"{result['annotations']}/"))
        assert not [key for key in left if "/parts/" in key or "/claims/" in key]
        found = {key.rpartition("/")[2]: store.read(key) for key in left if key.endswith(".parquet")}
        assert not fake.unfired()
    assert found == sidecars(here)


def test_two_replicas_that_race_on_one_shard_both_end_well(tmp_path: Path, draw_samples: Draw):
    """Without claims both do everything; the sidecar of the first stays."""
    config = pool_of(tmp_path, draw_samples(40))
    processes = [start_annotating(config, delay_s=0.005) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert len(sidecars(config)) == 1
    (annotations,) = (Path(config.store) / "annotations").iterdir()
    assert [row.uid for row in rows_of(config, f"annotations/{annotations.name}")] == [f"{n:032x}" for n in range(40)]


def test_the_shards_of_a_dead_replica_are_taken_over(tmp_path: Path, draw_samples: Draw):
    config = pool_of(tmp_path, draw_samples(60), claims=True, claim_stale_s=1.0, in_flight=4)
    dead = start_annotating(config, delay_s=0.05)
    wait_for(lambda: any((Path(config.store) / "annotations").rglob("parts/00000/*.parquet")))
    dead.kill()
    dead.wait()
    result = annotating(config)
    assert result["rows"] == 60
    assert result["asked"] <= 60 - PART_ROWS


@pytest.mark.parametrize("finished", [True, False])
def test_parts_that_another_replica_deletes_meanwhile_are_no_fault(
    tmp_path: Path, engine: ScriptedEngine, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch, finished: bool
):
    """Between being listed and being read; the other one has finished the shard, or works on it anew."""
    config = pool_of(tmp_path, draw_samples(20), claims=True)
    reference = stage.run(config)
    (sidecar,) = Path(config.store, reference["annotations"]).glob("*.parquet")
    content, parts = sidecar.read_bytes(), Path(config.store, reference["annotations"], "parts/00000")
    sidecar.unlink()
    parts.mkdir(parents=True, exist_ok=True)
    (parts / "other-000000.parquet").write_bytes(b"to be deleted")
    read_part = partial_rows.read_part

    def deleted_before_it_is_read(*args: Any) -> Any:
        (parts / "other-000000.parquet").unlink(missing_ok=True)
        if finished:
            sidecar.write_bytes(content)
        return read_part(*args)

    monkeypatch.setattr(partial_rows, "read_part", deleted_before_it_is_read)
    engine.asked.clear()
    assert stage.run(config)["statuses"] == {"ok": 20}
    assert len(engine.asked) == (0 if finished else 20)
    assert sidecars(config) == {"00000.parquet": content}
