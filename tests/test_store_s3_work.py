"""What stands on stores, on a server of S3: shards that are brought, claims, the lock, curves that grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hqclip.annotate.claims import Claims
from hqclip.config import DownloadConfig
from hqclip.cycle import lock
from hqclip.data.download import run
from hqclip.data.index import ShardImages
from hqclip.data.shards import write_shard
from hqclip.errors import ConflictError
from hqclip.launch.lease import LeaseKeeper, LeaseWatch
from hqclip.records import Pool, Sample
from hqclip.store.s3 import S3Store
from hqclip.sync import Mirror
from tests.buckets import put_in_s3
from tests.fakes.s3 import FaultyLine


def test_shards_that_others_have_uploaded_are_brought_once_and_known_again(
    s3: S3Store, s3_line: FaultyLine, draw_samples: Callable[..., list[Sample]], tmp_path: Path
):
    for number in range(2):
        write_shard(draw_samples(10, first=10 * number), tmp_path / f"{number:05d}.tar")
        put_in_s3(s3, f"source/{number:05d}.tar", (tmp_path / f"{number:05d}.tar").read_bytes())
    config = DownloadConfig(shards=f"{s3.uri}/source/{{00000..00001}}.tar", store=f"{s3.uri}/store", parallel=2)
    first = run(config)
    assert (first["num_shards"], first["rows"], first["already_done"]) == (2, 20, 0)
    store = S3Store(f"{s3.uri}/store")
    pool = Pool.from_json(store.read(first["pool"]), first["pool"])
    with ShardImages(store, pool.shards[0], cache_dir=tmp_path / "cache") as images:
        assert images.read(0) == draw_samples(1)[0].image
    s3_line.requests.clear()
    assert run(config)["already_done"] == 2
    assert not [line for line in s3_line.requests if line.startswith("GET") and line.endswith(".tar")]
    put_in_s3(s3, "source/00001.tar", (tmp_path / "00000.tar").read_bytes())
    with pytest.raises(ConflictError, match="00001.tar is not .*, but has its name"):
        run(config)


def test_a_shard_is_claimed_by_one_and_taken_over_when_its_holder_sleeps(s3: S3Store):
    now = [0.0]
    ann = Claims(s3, "claims", stale_s=60, owner="ann")
    bob = Claims(s3, "claims", stale_s=60, owner="bob", clock=lambda: now[0])
    assert ann.take("00000") and not bob.take("00000")
    for _ in range(3):
        now[0] += 50
        assert ann.beat() == []
        assert not bob.take("00000"), "it beats"
    now[0] += 61
    assert bob.take("00000")
    assert ann.beat() == ["00000"]
    bob.release("00000")
    assert ann.take("00000")


def test_one_run_at_a_time_by_the_clock_of_the_server(s3: S3Store, monkeypatch: pytest.MonkeyPatch):
    assert lock.take(s3, "first", 1) is None
    busy = lock.take(s3, "second", 2)
    assert busy and "cycle 1 is being refined by run first" in busy.reason
    lock.mark_ending(s3, "first")
    busy = lock.take(s3, "second", 2)
    assert busy and "told to end" in busy.reason
    with lock.held(s3, "first"):  # another task of it goes on
        pass
    monkeypatch.setattr(lock, "STALE_S", 0.0)
    assert lock.take(s3, "second", 2) is None
    lock.release(s3, "second")
    assert lock.take(s3, "third", 3) is None


def test_workers_see_that_their_launcher_lives_and_that_it_does_not(s3: S3Store):
    now = [0.0]
    keeper = LeaseKeeper(s3, "job", interval_s=3600)
    watch = LeaseWatch(s3, "job", stale_s=60, lost=lambda: None, clock=lambda: now[0])
    for _ in range(3):
        keeper.renew()
        watch.look()
        now[0] += 50
        assert not watch.is_stale()
    watch.look()
    now[0] += 11
    assert watch.is_stale()


def test_a_curve_that_grows_is_followed(s3: S3Store, tmp_path: Path):
    mirror = Mirror(s3, tmp_path)
    key = "runs/a/tensorboard/events.out.tfevents.1.host"
    for number in range(1, 4):
        s3.write(key, b"x" * number, create_only=False)
        assert mirror.turn(1000.0 * number) == 1
        assert (tmp_path / key).read_bytes() == b"x" * number
