"""TensorBoard's files in a folder: which come, what is fetched of them, and that TensorBoard sees them grow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip.errors import NotFoundError
from hqclip.store import Store, open_store
from hqclip.store.gcs import RETRY, GcsStore
from hqclip.sync import DONE, Mirror, keep_in_step
from hqclip.tensorboard import SummaryWriter
from tests.fakes.gcs import FakeGcs

ROOT = Path(__file__).parents[1]
RUN = "runs/000001-hqclip/tensorboard/events.out.tfevents.1.pod.1.0"
WORK = "annotations/3fa9/work/pod-7/tensorboard/events.out.tfevents.2.pod.7.0"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield fake
        assert not fake.unfired()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def put(store: Store, key: str, data: bytes) -> None:
    store.write(key, data, create_only=False)


def asked(fake: FakeGcs, mirror: Mirror, now: float) -> list[str]:
    """The requests of one turn: list, look or fetch."""
    before = len(fake.requests)
    mirror.turn(now)
    return ["list" if "prefix=" in r else "fetch" if "alt=media" in r else "look" for r in fake.requests[before:]]


def test_only_event_files_come(tmp_path: Path):
    store, folder = open_store(str(tmp_path / "store")), tmp_path / "events"
    for key in (RUN, WORK, "runs/sweep-1/lr-2/tensorboard/events.out.tfevents.3.pod.1.0"):
        put(store, key, b"events")
    for key in (
        "runs/000001-hqclip/checkpoints/step-000000500/model.safetensors",
        "runs/000001-hqclip/metrics.jsonl",
        "annotations/3fa9/work/pod-7/progress.json",
        "annotations/3fa9/00000.parquet",
        "datasets/86bf/tensorboard/events.out.tfevents.4.pod.1.0",
    ):
        put(store, key, b"something else")
    assert Mirror(store, folder).turn(0) == 3
    assert files(folder) == [DONE, WORK, RUN, "runs/sweep-1/lr-2/tensorboard/events.out.tfevents.3.pod.1.0"]


def test_only_what_was_added_is_fetched_and_a_reader_with_the_file_open_sees_it(fake: FakeGcs, tmp_path: Path):
    store = GcsStore("gs://bucket/hqclip")
    put(store, RUN, b"one")
    mirror = Mirror(store, tmp_path)
    mirror.turn(0)
    with (tmp_path / RUN).open("rb") as reader:
        assert reader.read() == b"one"
        put(store, RUN, b"ONE, two")
        assert mirror.turn(120) == 1
        assert reader.read() == b", two"
    assert (tmp_path / RUN).read_bytes() == b"one, two"  # the first part was not asked for


def test_a_file_that_rests_is_left_alone_longer_and_longer(fake: FakeGcs, tmp_path: Path):
    store = GcsStore("gs://bucket/hqclip")
    put(store, RUN, b"one")
    mirror = Mirror(store, tmp_path)
    assert asked(fake, mirror, 0) == ["list", "list", "look", "fetch"]
    looks = [now for now in range(120, 24 * 3600, 120) if "look" in asked(fake, mirror, now)]
    gaps = [later - earlier for earlier, later in zip(looks, looks[1:], strict=False)]
    assert gaps == sorted(gaps) and gaps[0] == 120 and gaps[-1] == 3600
    assert len(looks) < 24 * 3600 / 120 / 8
    put(store, RUN, b"one, two")
    assert asked(fake, mirror, looks[-1] + 3600) == ["list", "list", "look", "fetch"]
    assert asked(fake, mirror, looks[-1] + 3720)[2:] == ["look"]  # it grows again, so it is looked at again


def test_after_a_restart_nothing_is_fetched_twice(tmp_path: Path):
    store, folder = open_store(str(tmp_path / "store")), tmp_path / "events"
    put(store, RUN, b"one")
    Mirror(store, folder).turn(0)
    put(store, RUN, b"one, two")
    Mirror(store, folder).turn(0)
    Mirror(store, folder).turn(0)
    assert (folder / RUN).read_bytes() == b"one, two"


def test_what_is_deleted_in_the_store_stays_and_troubles_nobody(fake: FakeGcs, tmp_path: Path):
    store = GcsStore("gs://bucket/hqclip")
    put(store, RUN, b"one")
    put(store, WORK, b"two")
    fake.fault("refuse", "GET alt=media events.out.tfevents.1", 404)
    mirror = Mirror(store, tmp_path)
    assert mirror.turn(0) == 1 and files(tmp_path) == [DONE, WORK, RUN]
    assert mirror.turn(120) == 1 and (tmp_path / RUN).read_bytes() == b"one"
    store.delete(RUN)
    assert mirror.turn(240) == 0 and files(tmp_path) == [DONE, WORK, RUN]


def test_a_bucket_that_is_not_there_is_said(fake: FakeGcs, tmp_path: Path):
    with pytest.raises(NotFoundError, match="no such object or bucket"):
        Mirror(GcsStore("gs://nowhere/hqclip"), tmp_path).turn(0)


def test_a_store_that_does_not_answer_is_asked_again(fake: FakeGcs, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    impatient = GcsStore("gs://bucket/hqclip", RETRY.with_timeout(0.01).with_delay(initial=0.001, maximum=0.001))
    put(GcsStore("gs://bucket/hqclip"), RUN, b"one")
    stop = threading.Event()
    fake.fault("delay", "GET alt=media", 0, then=stop.set)
    fake.fault("refuse", "GET prefix=", 503, times=30)
    keep_in_step(Mirror(impatient, tmp_path), 0.001, stop)
    assert (tmp_path / RUN).read_bytes() == b"one"
    assert "503" in capsys.readouterr().err


def test_the_side_car_as_it_is_deployed_is_ready_alive_and_ends_when_told(tmp_path: Path):
    (sync,) = (container for container in containers() if container["name"] == "sync")
    store, folder = open_store(str(tmp_path / "store")), tmp_path / "events"
    put(store, RUN, b"one")
    swap = {
        "/events": str(folder),
        "/events/.synced": str(folder / DONE),
        "$(STORE)": store.uri,
        "python": sys.executable,
    }

    def told(words: list[str]) -> list[str]:
        return [swap.get(word, word) for word in words]

    def probe(name: str) -> int:
        return subprocess.run(told(sync[name]["exec"]["command"]), stderr=subprocess.DEVNULL, check=False).returncode

    assert probe("readinessProbe") and probe("livenessProbe")
    process = subprocess.Popen(told(sync["command"]), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (folder / DONE).exists())
    assert probe("readinessProbe") == probe("livenessProbe") == 0
    process.terminate()
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0 and said == "hqclip sync: files that have grown: 1\n"
    os.utime(folder / DONE, (time.time() - 3600,) * 2)
    assert probe("livenessProbe")


def test_a_store_that_is_not_filled_in_ends_it(tmp_path: Path):
    words = [sys.executable, "-m", "hqclip.sync", "--store", "ftp://bucket", "--to", str(tmp_path), "--every-s", "0.1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 64 and "give gs://bucket/prefix, s3://bucket/prefix or a local folder" in done.stderr
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == {"store": "ftp://bucket", "to": str(tmp_path), "every_s": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["auto", "false"])
def test_tensorboard_as_it_is_deployed_shows_curves_that_grow(tmp_path: Path, loader: str):
    store, folder = open_store(str(tmp_path / "store")), tmp_path / "events"
    writer, mirror = SummaryWriter(store, "runs/000001-hqclip/tensorboard"), Mirror(store, folder)
    writer.add(1, {"train/loss": 2.0})
    writer.upload()
    mirror.turn(0)
    with tensorboard(folder, "--load_fast", loader) as steps:
        wait_for(lambda: steps() == [1])
        writer.add(2, {"train/loss": 1.0})
        writer.upload()
        mirror.turn(120)
        wait_for(lambda: steps() == [1, 2])
    writer.close()


def containers() -> list[dict[str, Any]]:
    deployment = next(yaml.safe_load_all((ROOT / "manifests/components/tensorboard/deployment.yaml").read_text()))
    return list(deployment["spec"]["template"]["spec"]["containers"])


@contextmanager
def tensorboard(folder: Path, *more: str) -> Iterator[Callable[[], list[int]]]:
    """The command of the Deployment, at a port of this machine and quick to look again; gives the steps it shows."""
    (command,) = (container["command"] for container in containers() if container["name"] == "tensorboard")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    swap = {"/events": str(folder), "6006": port, "120": "1"}
    assert swap.keys() <= set(command)
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=runs/000001-hqclip/tensorboard&tag=train/loss"

    def steps() -> list[int]:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return [int(step) for _, step, _ in json.load(answer)]
        except OSError:
            return []

    program = str(Path(sys.executable).parent / command[0])
    process = subprocess.Popen([program, *(swap.get(word, word) for word in command[1:]), *more])
    try:
        yield steps
    finally:
        process.terminate()
        process.wait(600)


def wait_for(holds: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
