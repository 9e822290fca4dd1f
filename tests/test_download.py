"""Bringing shards into a store: again, after a kill, from a bucket, and damaged."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DownloadConfig
from hqclip.data.download import run
from hqclip.data.index import ShardImages, read_about, read_index
from hqclip.data.shards import write_shard
from hqclip.data.tar import BLOCK, write_tar
from hqclip.errors import ConflictError, DataError, StorageError
from hqclip.records import Pool, Sample
from hqclip.store import Store, open_store
from tests.fakes.gcs import FakeGcs

Draw = Callable[..., list[Sample]]


@pytest.fixture
def source(draw_samples: Draw, tmp_path: Path) -> Path:
    """Three shards of ten samples."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(3):
        write_shard(draw_samples(10, first=10 * number), folder / f"{number:05d}.tar")
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield fake


def bring(source: Path | str, store: Path | str, **settings: Any) -> dict[str, Any]:
    summary = run(DownloadConfig(shards=str(source), store=str(store), parallel=2, **settings))
    assert summary.pop("seconds") >= 0
    return summary


def pool_in(store: Store, summary: dict[str, Any]) -> Pool:
    return Pool.from_json(store.read(summary["pool"]), summary["pool"])


def damage(path: Path) -> int:
    """Cut a shard before the JSON of its third sample is complete; the place of the cut."""
    whole = path.read_bytes()
    at = whole.index(b".json", whole.index(b".json", whole.index(b".json") + BLOCK) + BLOCK) + BLOCK
    path.write_bytes(whole[:at])
    return at


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_every_sample_arrives_and_can_be_read_by_row(source: Path, tmp_path: Path, draw_samples: Draw):
    summary = bring(source, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    pool = pool_in(store, summary)
    assert summary == {
        "pool": summary["pool"],
        "num_shards": 3,
        "rows": 30,
        "faults": {},
        "damaged": {},
        "already_done": 0,
    }
    assert (pool.rows, pool.source, pool.refused) == (30, str(source), {})
    found = []
    for entry in pool.shards:
        index = read_index(store, entry)
        with ShardImages(store, entry) as images:
            found += [Sample(uid, images.read(n), index.texts[n]) for n, uid in enumerate(index.uids)]
    assert found == draw_samples(30)


def test_shards_arrive_as_they_are(source: Path, tmp_path: Path):
    bring(source, tmp_path / "store")
    assert contents(tmp_path / "store" / "shards").items() >= contents(source).items()


def test_a_second_run_does_nothing_and_says_so(source: Path, tmp_path: Path):
    first = bring(source, tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert bring(source, tmp_path / "store") == {**first, "already_done": 3}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_another_folder_gets_the_same_bytes(source: Path, tmp_path: Path):
    first, second = bring(source, tmp_path / "a"), bring(f"{source}/{{00000..00002}}.tar", tmp_path / "b")
    assert first == second
    assert contents(tmp_path / "a" / "shards") == contents(tmp_path / "b" / "shards")


def test_names_do_not_change_what_a_pool_is(source: Path, tmp_path: Path):
    first = bring(source, tmp_path / "a")
    for number in range(3):
        (source / f"{number:05d}.tar").rename(source / f"web-{number}.tar")
    assert bring(source, tmp_path / "b")["pool"] == first["pool"]
    assert bring(f"{source}/web-0.tar", tmp_path / "b")["pool"] != first["pool"]


def test_a_bucket_gives_and_takes_the_same(source: Path, tmp_path: Path, fake: FakeGcs):
    local = bring(source, tmp_path / "store")
    for name, data in contents(source).items():
        fake.put("bucket", f"web/{name}", data)
    into_bucket = bring("gs://bucket/web", "gs://bucket/store")
    assert into_bucket == local
    assert bring("gs://bucket/web/{00000..00002}.tar", "gs://bucket/store") == {**local, "already_done": 3}
    stored = {name: o.data for (_, name), o in fake.objects.items() if name.startswith("store/shards/")}
    assert stored == {f"store/shards/{name}": data for name, data in contents(tmp_path / "store" / "shards").items()}


def test_a_bucket_that_sends_damaged_bytes_is_found_out(source: Path, tmp_path: Path, fake: FakeGcs):
    fake.put("bucket", "web/0.tar", (source / "00000.tar").read_bytes())
    fake.fault("damage", "GET alt=media", times=50)
    with pytest.raises(StorageError, match=r"web/0.tar: .* came through"):
        bring("gs://bucket/web", tmp_path / "store")
    assert contents(tmp_path / "store") == {}


def test_damage_is_named_with_its_place_and_the_other_shards_are_done(source: Path, tmp_path: Path):
    at = damage(source / "00001.tar")
    with pytest.raises(DataError) as refused:
        bring(source, tmp_path / "store")
    first, second, third = str(refused.value).splitlines()
    assert first == "1 of 3 shards are damaged, the others are done:"
    assert second.startswith(f"  00001.tar: cut at byte {at}: member 8 ({12:032x}.json) should go on to byte ")
    assert second.endswith("; 2 samples before that are whole")
    assert third.endswith("or go on with what is whole: --skip-damaged true")
    assert [name for name in contents(tmp_path / "store" / "shards") if name.endswith(".tar")] == [
        "00000.tar",
        "00002.tar",
    ]


def test_a_mended_shard_takes_its_place(source: Path, tmp_path: Path):
    whole = (source / "00001.tar").read_bytes()
    damage(source / "00001.tar")
    with pytest.raises(DataError):
        bring(source, tmp_path / "store")
    (source / "00001.tar").write_bytes(whole)
    summary = bring(source, tmp_path / "store")
    assert (summary["rows"], summary["already_done"]) == (30, 2)
    assert summary["pool"] == bring(source, tmp_path / "undisturbed")["pool"]


def test_whole_samples_of_damaged_shards_can_be_kept(source: Path, tmp_path: Path, draw_samples: Draw):
    at = damage(source / "00001.tar")
    with pytest.raises(DataError, match="1 of 23 samples cannot be used, more than 1.0%: 1 cut_off"):
        bring(source, tmp_path / "store", skip_damaged=True)
    keep = partial(bring, source, tmp_path / "store", skip_damaged=True, max_fault_rate=0.05)
    summary = keep()
    store = open_store(str(tmp_path / "store"))
    kept = [uid for entry in pool_in(store, summary).shards for uid in read_index(store, entry).uids]
    assert kept == [sample.uid for sample in draw_samples(12) + draw_samples(10, first=20)]
    assert summary["faults"] == {"cut_off": 1}
    assert list(summary["damaged"]) == ["00001"], "what was lost is said"
    assert read_about(store, "shards/00001.index.parquet")["damage"].startswith(f"cut at byte {at}")
    assert keep() == {**summary, "already_done": 3}
    with pytest.raises(DataError, match=f"cut at byte {at}"):
        bring(source, tmp_path / "store")


def test_a_shard_of_which_nothing_is_whole_is_left_out(source: Path, tmp_path: Path):
    (source / "00000.tar").write_bytes(b"<html>no such page</html>" * 100)
    (source / "00001.tar").write_bytes(b"")
    summary = bring(source, tmp_path / "store", skip_damaged=True)
    assert (summary["num_shards"], summary["rows"]) == (1, 10)
    assert summary["damaged"]["00000"].startswith("a web page")
    assert not (tmp_path / "store/shards/00000.tar").exists(), "a mended one can take its place"


def test_what_is_no_shard_is_called_what_it_is(source: Path, tmp_path: Path):
    (source / "00001.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    with pytest.raises(DataError) as refused:
        bring(source, tmp_path / "store")
    assert str(refused.value).splitlines()[1] == (
        "  00001.tar: a Git LFS pointer, not the shard that it stands for: run `git lfs pull` where it comes from"
    )


def test_packed_shards_make_the_same_pool_and_are_known_again(source: Path, tmp_path: Path):
    plain = bring(source, tmp_path / "plain")
    packed = tmp_path / "packed"
    packed.mkdir()
    for number, name in enumerate(("00000.tar", "00001.tar.gz", "00002.tgz")):
        (packed / name).write_bytes(gzip.compress((source / f"{number:05d}.tar").read_bytes(), mtime=0))
    pattern = f"{packed}/00000.tar,{packed}/00001.tar.gz,{packed}/00002.tgz"
    assert bring(pattern, tmp_path / "store") == plain
    assert contents(tmp_path / "store" / "shards").items() >= contents(source).items()
    assert bring(pattern, tmp_path / "store") == {**plain, "already_done": 3}
    assert bring(source, tmp_path / "store") == {**plain, "already_done": 3}, "unpacked, it is the same shard"
    (packed / "00002.tgz").write_bytes((packed / "00001.tar.gz").read_bytes())
    with pytest.raises(ConflictError, match=r"shards/00002.tar is not .*00002.tgz, but has its name"):
        bring(pattern, tmp_path / "store")


def test_objects_that_a_bucket_keeps_compressed_arrive_as_they_were_sent(source: Path, tmp_path: Path, fake: FakeGcs):
    plain = bring(source, tmp_path / "plain")
    for path in source.iterdir():
        data = gzip.compress(path.read_bytes())
        fake.put("bucket", f"web/{path.name}", data, {"contentEncoding": "gzip", "contentType": "application/x-tar"})
    assert bring("gs://bucket/web", tmp_path / "store") == plain
    assert bring("gs://bucket/web", tmp_path / "store") == {**plain, "already_done": 3}
    fake.fault("damage", "GET alt=media", times=50)
    with pytest.raises(StorageError, match=r"web/00000.tar: .* came through"):
        bring("gs://bucket/web", tmp_path / "other")


def test_a_shard_of_which_the_first_half_comes_twice_is_refused_by_the_rule(source: Path, tmp_path: Path):
    with (source / "00000.tar").open("wb") as file:
        write_tar(file, [(f"{n}.txt", b"x") for n in (1, 2, 1, 2)])
    with pytest.raises(DataError) as refused:
        bring(source, tmp_path / "store")
    assert "2 duplicate_member, members whose names came before and that are no whole sample" in str(refused.value)


def test_shards_without_any_sample_are_refused(tmp_path: Path):
    with (tmp_path / "0.tar").open("wb") as file:
        write_tar(file, [])
    with pytest.raises(DataError, match="hold no sample at all"):
        bring(tmp_path / "0.tar", tmp_path / "store")


@pytest.fixture
def faulty(source: Path, draw_samples: Draw) -> Path:
    """Of its 30 samples one has no text in UTF-8, which is mended, and two no image."""
    parts = [(f"{s.uid}.{kind}", data) for s in draw_samples(10) for kind, data in (("jpg", s.image), ("txt", b"ring"))]
    del parts[6], parts[3 * 2 + 1]
    parts[1] = (parts[1][0], "Öl".encode("cp1252"))
    with (source / "00000.tar").open("wb") as file:
        write_tar(file, parts)
    return source


def test_too_many_faults_are_refused_with_their_names_and_first_places(faulty: Path, tmp_path: Path):
    with pytest.raises(DataError) as refused:
        bring(faulty, tmp_path / "store", max_fault_rate=0.05)
    assert str(refused.value) == (
        "2 of 30 samples cannot be used, more than 5.0%: "
        f"2 no_image (first: shards/00000.tar: {3:032x}); "
        "mend the shards, or allow more with --max-fault-rate"
    )
    assert not (tmp_path / "store" / "pools").exists()


def test_as_many_faults_as_are_allowed_are_counted_and_left_out(faulty: Path, tmp_path: Path):
    summary = bring(faulty, tmp_path / "store", max_fault_rate=2 / 30)
    assert (summary["rows"], summary["faults"]) == (28, {"no_image": 2, "text_not_utf8": 1})
    assert bring(faulty, tmp_path / "store", max_fault_rate=0.1) == {**summary, "already_done": 3}
    assert pool_in(open_store(str(tmp_path / "store")), summary).refused == summary["faults"]


@pytest.mark.parametrize("indexed", [True, False], ids=["with its index", "without its index"])
def test_a_name_that_stands_for_other_content_is_a_conflict(source: Path, tmp_path: Path, indexed: bool):
    bring(source, tmp_path / "store")
    if not indexed:
        (tmp_path / "store" / "shards" / "00001.index.parquet").unlink()
    before = contents(tmp_path / "store")
    (source / "00002.tar").replace(source / "00001.tar")
    with pytest.raises(ConflictError, match="shards/00001.tar"):
        bring(source, tmp_path / "store")
    assert contents(tmp_path / "store") == before


def test_a_run_killed_between_shard_and_index_is_continued(source: Path, tmp_path: Path):
    summary = bring(source, tmp_path / "undisturbed")
    shards = tmp_path / "store" / "shards"
    shards.mkdir(parents=True)
    (shards / "00001.tar").write_bytes((source / "00001.tar").read_bytes())
    (shards / ".hqclip-dead.tmp").write_bytes(b"half a shard")
    assert bring(source, tmp_path / "store") == summary
    pools = [pool_in(open_store(str(root)), summary) for root in (tmp_path / "store", tmp_path / "undisturbed")]
    assert pools[0] == pools[1]  # but for who made it
    there, undisturbed = contents(tmp_path / "store"), contents(tmp_path / "undisturbed")
    assert there.keys() == undisturbed.keys()
    del there[summary["pool"]], undisturbed[summary["pool"]]
    assert there == undisturbed


def test_a_run_killed_before_the_pool_is_continued(source: Path, tmp_path: Path):
    summary = bring(source, tmp_path / "store")
    (tmp_path / "store" / summary["pool"]).unlink()
    assert bring(source, tmp_path / "store") == {**summary, "already_done": 3}
    assert (tmp_path / "store" / summary["pool"]).is_file()


@pytest.mark.parametrize("garbage", [b"", b"PAR1 and nothing behind it", b"{}"])
def test_an_index_that_is_none_is_named(source: Path, tmp_path: Path, garbage: bytes):
    bring(source, tmp_path / "store")
    (tmp_path / "store" / "shards" / "00001.index.parquet").write_bytes(garbage)
    with pytest.raises(DataError, match=r"shards/00001.index.parquet: not a whole Parquet file .*; delete it"):
        bring(source, tmp_path / "store")


def test_an_index_is_refused_for_other_content(source: Path, tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    first, second, _ = pool_in(store, bring(source, tmp_path / "store")).shards
    with pytest.raises(DataError, match="made for another content of shards/00000.tar"):
        read_index(store, dataclasses.replace(first, index=second.index))


def test_a_store_can_be_its_own_source(source: Path, tmp_path: Path):
    summary = bring(source, tmp_path / "store")
    assert bring(tmp_path / "store" / "shards", tmp_path / "store") == {**summary, "already_done": 3}


def test_many_threads_may_read_one_shard(source: Path, tmp_path: Path, draw_samples: Draw):
    store = open_store(str(tmp_path / "store"))
    entry = pool_in(store, bring(source, tmp_path / "store")).shards[0]
    right = [sample.image for sample in draw_samples(10)]
    with ShardImages(store, entry) as images, ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda number: images.read(number % 10), range(4000)))
    assert read == right * 400


def test_a_shard_that_was_altered_since_it_was_indexed_is_not_opened(source: Path, tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    entry = pool_in(store, bring(source, tmp_path / "store")).shards[1]
    path = tmp_path / "store" / entry.key
    whole = path.read_bytes()
    for altered in (whole[:-BLOCK], whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:]):
        path.write_bytes(altered)
        with pytest.raises(DataError, match=r"store/shards/00001.tar is not the shard that was indexed"):
            ShardImages(store, entry)


def downloads(fake: FakeGcs) -> int:
    return sum("alt=media" in request and ".tar" in request for request in fake.requests)


def test_a_shard_in_a_bucket_is_fetched_once_however_many_images_are_read(
    source: Path, tmp_path: Path, draw_samples: Draw, fake: FakeGcs, monkeypatch: pytest.MonkeyPatch
):
    store = open_store("gs://bucket/store")
    entry = pool_in(store, bring(source, "gs://bucket/store")).shards[0]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    right = [sample.image for sample in draw_samples(10)]
    before = downloads(fake)
    with ShardImages(store, entry) as images:
        assert [images.read(number) for number in range(10)] == right
    assert downloads(fake) == before + 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing is left behind"
    for _ in range(2):
        with ShardImages(store, entry, cache_dir=tmp_path / "cache") as images:
            assert images.read(3) == right[3]
    assert downloads(fake) == before + 2, "what lies in the cache is not fetched again"


def test_a_shard_in_a_bucket_that_was_replaced_is_not_opened(source: Path, fake: FakeGcs):
    store = open_store("gs://bucket/store")
    entry = pool_in(store, bring(source, "gs://bucket/store")).shards[0]
    fake.put("bucket", f"store/{entry.key}", (source / "00001.tar").read_bytes())
    with pytest.raises(DataError, match="gs://bucket/store/shards/00000.tar is not the shard that was indexed"):
        ShardImages(store, entry)
