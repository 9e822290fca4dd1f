"""How busy GPUs were, what a run took of them, and what its restarts lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from hqclip import gpu
from hqclip.config import TrainConfig
from hqclip.cycle.gpu_use import gpu_use
from hqclip.gpu import GpuMeter, gpu_work, meter_of
from hqclip.launch.attempts import Attempt, queued_s
from hqclip.launch.exit_status import ExitStatus
from hqclip.records import Sample, canonical_json
from hqclip.report import GpuUse, Report
from hqclip.report.page import render
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from hqclip.train import stage
from hqclip.train import work as works
from hqclip.train.work import Work, total_work
from tests.training import tiny_run, words


class FakeNvml:
    """A driver with two GPUs, one busy and one idle; no others are known to it."""

    class NVMLError(Exception):
        """What the driver raises."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the driver's name
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        if uuid not in ("GPU-0", "GPU-1"):
            raise self.NVMLError
        return int(uuid.removeprefix("GPU-"))

    def nvmlDeviceGetUtilizationRates(self, number: int) -> Any:  # noqa: N802
        return type("Rates", (), {"gpu": 100 * number})()

    def nvmlDeviceGetMemoryInfo(self, number: int) -> Any:  # noqa: N802
        return type("Memory", (), {"used": 8 * 10**9 * (number + 1)})()


@pytest.fixture(autouse=True)
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meters of these tests look when they are told to."""
    monkeypatch.setattr(GpuMeter, "_watch", lambda meter: None)


def test_the_busy_share_is_the_mean_over_gpus():
    meter = GpuMeter(FakeNvml())
    assert (meter.busy_share(), meter.since_last()) == (None, {})
    meter.look()
    assert meter.busy_share() == 0.5
    assert meter.since_last() == {"gpu_busy_share": 0.5, "gpu_memory_gb": 12.0}
    assert meter.since_last() == {}, "nothing was seen since"


def test_only_the_own_gpus_count():
    meter = GpuMeter(FakeNvml(), uuids=["GPU-1"])
    meter.look()
    assert meter.busy_share() == 1.0


def test_no_driver_no_busy_share(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuMeter().busy_share() is None


def test_a_driver_that_does_not_tell_of_a_gpu_ends_the_looking_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    meter = GpuMeter(FakeNvml(), uuids=["MIG-7"])
    meter._watch()  # returns
    assert meter.busy_share() is None


def test_without_a_gpu_nothing_looks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "_nvml", lambda: pytest.fail("asked for a driver"))
    assert meter_of(torch.device("cpu")) is None
    assert gpu_work(None, 10.0, 5) == {}


def test_a_stage_on_one_gpu_says_what_it_took():
    meter = GpuMeter(FakeNvml(), uuids=["GPU-1"], device="NVIDIA L4")
    unseen = gpu_work(meter, 1800.0, 1000)["work"]
    assert unseen["samples_per_gpu_hour"] == 2000.0 and "gpu_busy_share" not in unseen
    meter.look()
    work = gpu_work(meter, 1800.0, 1000)["work"]
    assert (work["gpu_seconds"], work["gpu_busy_share"], work["devices"]) == (1800.0, 1.0, ["NVIDIA L4"])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    return tiny_run(tmp_path_factory.mktemp("gpu"), draw_samples(24))


def curves(folder: Path) -> set[str]:
    """The names of all curves in the event files of a folder."""
    events = (event for path in folder.iterdir() for event in EventFileLoader(str(path)).Load())
    return {value.tag for event in events for value in event.summary.value}


def test_training_on_a_cpu_says_how_long_and_nothing_of_gpus(config: TrainConfig):
    result = stage.run(config)
    assert result["work"].keys() == {"seconds", "restarts", "lost_seconds", "waited_for_data_seconds"}
    assert (result["work"]["restarts"], result["work"]["lost_seconds"]) == (0, 0.0)
    assert 0 < result["work"]["waited_for_data_seconds"] < result["work"]["seconds"]
    drawn = curves(Path(config.store) / "runs/base/tensorboard")
    assert {name for name in drawn if name.startswith("system/")} == {
        "system/samples_per_s",
        "system/waited_for_data_share",
    }
    assert "train/loss" in drawn and not any("gpu" in name for name in result["losses"])


def test_training_on_gpus_draws_how_busy_they_are(config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    meter = GpuMeter(FakeNvml(), device="NVIDIA H100")
    looks = meter.since_last

    def since_last() -> dict[str, float]:
        meter.look()
        return looks()

    monkeypatch.setattr(meter, "since_last", since_last)
    monkeypatch.setattr(stage, "_timed", lambda store, c, ranks, start: Work(store, c.run, start, 8, 2, meter))
    result = stage.run(replace(config, run="busy"))
    work = result["work"]
    assert (work["num_gpus"], work["devices"], work["gpu_busy_share"]) == (2, ["NVIDIA H100"], 0.5)
    assert work["gpu_seconds"] == pytest.approx(2 * work["seconds"])
    assert work["samples_per_gpu_hour"] == pytest.approx(48 / work["gpu_seconds"] * 3600)
    drawn = curves(Path(config.store) / "runs/busy/tensorboard")
    assert {"system/gpu_busy_share", "system/gpu_memory_gb"} <= drawn


def log(store: LocalStore, started: int, **values: Any) -> None:
    store.write(f"runs/a/work/{started}.json", canonical_json({"num_gpus": 2, "device": "NVIDIA H100", **values}))


def test_restarts_lose_steps_and_the_time_to_get_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = LocalStore(tmp_path)
    about = {"setup_seconds": 10.0, "lost_steps": 0}
    # 100 steps in 100 s, and the checkpoint was of step 80; then 120 steps, 20 of them again after going back
    log(store, 1, first=0, step=100, seconds=110.0, gpu_seconds=220.0, gpu_busy_share=0.5, **about)
    second = {**about, "lost_steps": 20}
    log(store, 2, first=80, step=180, seconds=130.0, gpu_seconds=260.0, gpu_busy_share=1.0, **second)
    work = total_work(store, "a", 4800)
    assert (work["restarts"], work["lost_seconds"]) == (1, pytest.approx(20 + 20 + 10))
    assert (work["seconds"], work["gpu_seconds"], work["num_gpus"]) == (240.0, 480.0, 2)
    assert work["gpu_busy_share"] == pytest.approx((0.5 * 220 + 260) / 480)
    assert work["samples_per_gpu_hour"] == pytest.approx(36_000)
    store.write("runs/a/work/3.json", b"{")
    assert total_work(store, "a", 4800)["restarts"] == 1
    assert "3.json is damaged" in capsys.readouterr().err


def test_what_is_worked_is_told_once_a_minute_and_a_store_that_is_away_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = LocalStore(tmp_path)
    monkeypatch.setattr(works, "EVERY_S", 0.0)
    work = Work(store, "a", time.monotonic(), 8)
    work.begins(0)
    work.step = 3
    work.curves()
    work._writer.join(60)  # type: ignore[union-attr]
    (key,) = store.list("runs/a/work/")
    assert b'"step": 3' in store.read(key)
    away = Work(LocalStore(tmp_path / "file"), "a", time.monotonic(), 8)
    (tmp_path / "file").write_text("in the way")
    away.curves()
    away._writer.join(60)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_killed_run_says_what_the_kill_cost(config: TrainConfig, tmp_path: Path):
    root = tmp_path / "store"
    shutil.copytree(config.store, root, ignore=shutil.ignore_patterns("runs"))
    run = replace(config, store=str(root), run="killed", samples_seen=8 * 60, checkpoint_every=10, log_every=1)
    process = subprocess.Popen([sys.executable, *words(run)], env=os.environ.copy())
    deadline = time.monotonic() + 60
    while not list(root.glob("runs/killed/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    work = stage.run(run)["work"]
    assert work["restarts"] == 1
    assert work["lost_seconds"] > 0
    assert len(list(open_store(str(root)).list("runs/killed/work/"))) == 2


def attempt(node: int, number: int, begun: float, ended: float | None) -> Attempt:
    status = ExitStatus(exit_code=1, timestamp=ended) if ended is not None else None
    return Attempt(node=node, number=number, attempt="", pod="", begun=begun, progress="", exit_status=status)


def test_waiting_for_machines_counts_from_the_launch_and_after_each_end():
    first, second = attempt(0, 1, 130.0, 200.0), attempt(0, 2, 260.0, None)
    assert queued_s([first, second], 100.0) == 30 + 60
    other = attempt(1, 1, 110.0, None)
    assert queued_s([first, other, second, attempt(1, 2, 300.0, 400.0)], 100.0) == (90 + 10) / 2, "a kill has no end"
    assert queued_s([attempt(0, 1, 90.0, 99.0)], 100.0) == 0, "it was there before"
    assert queued_s([], 100.0) == 0


NOTES: dict[str, dict[str, Any]] = {
    "curate": {"rows": 5, "seconds": 3.0},
    "evaluate-hqclip": {"work": {"gpu_seconds": 0}},
    "annotate": {"work": {"gpu_seconds": 7200.0, "images": 100, "restarts": 1, "gpu_busy_share": 0.9}},
    "train-hqclip": {
        "work": {
            "gpu_seconds": 3600.0,
            "num_gpus": 4,
            "lost_seconds": 60.0,
            "restarts": 2,
            "samples_per_gpu_hour": 5e5,
            "gpu_busy_share": 0.25,
        },
        "launch": {"key": "job/1", "queued_seconds": 90.0, "nodes": 2, "gpus": 2},
    },
}


def test_the_page_of_a_cycle_says_how_gpus_were_used():
    rows = gpu_use(NOTES, {})
    assert rows == (
        GpuUse(task="annotate", gpu_seconds=7200.0, busy_share=0.9, restarts=1, an_hour=50.0, unit="images"),
        GpuUse(
            task="train-hqclip", gpu_seconds=3600.0, busy_share=0.25, queued=360.0, restarts=2, lost=240.0, an_hour=5e5
        ),
    )
    page = render(Report(title="cycle", gpus=rows))
    assert "How the GPUs were used" in page
    for cell in ("15 min 00 s (25.0 %)", "45 min 00 s", "6 min 00 s", "4 min 00 s", "500 000 samples", "50 images"):
        assert cell in page.replace("\u00a0", " ").replace("\u202f", " "), cell
    assert "How the GPUs were used" not in render(Report(title="cycle"))


def test_of_annotation_a_cycle_has_what_the_work_log_gained_in_it():
    before = {"gpu_seconds": 5400.0, "images": 40, "restarts": 1, "gpu_busy_share": 0.1}
    (row, _) = gpu_use(NOTES, before)
    assert row == GpuUse(task="annotate", gpu_seconds=1800.0, busy_share=0.9, an_hour=120.0, unit="images")
    assert [row.task for row in gpu_use(NOTES, NOTES["annotate"]["work"])] == ["train-hqclip"], "nothing was annotated"


def test_all_gpus_of_a_node_wait_for_it_whatever_its_processes_are():
    launch = {"key": "job/1", "queued_seconds": 90.0, "nodes": 2, "gpus": 4}
    (row, _) = gpu_use({**NOTES, "annotate": {**NOTES["annotate"], "launch": launch}}, {})
    assert row.queued == 2 * 4 * 90.0
    older = {"key": "job/1", "queued_seconds": 90.0}
    (row, _) = gpu_use({**NOTES, "annotate": {**NOTES["annotate"], "launch": older}}, {})
    assert row.queued is None
