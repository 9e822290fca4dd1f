"""What every store promises, on a local folder, on Google Cloud Storage and on a server of S3."""

from __future__ import annotations

import errno
import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import google_crc32c
import pytest

from hqclip.errors import ConfigError, ConflictError, HQClipError, NotFoundError
from hqclip.store import ObjectInfo, Store, open_store, read_uri
from hqclip.store.gcs import GcsStore
from hqclip.store.local import LocalStore
from hqclip.store.s3 import S3Store
from tests.buckets import names_in, quick_s3, quick_store
from tests.fakes.gcs import FakeGcs

BIG = bytes(range(256)) * (36 * 1024)  # 9 MiB: above the limit for uploads in one request
ODD_KEYS = [
    "a b.txt",
    "größe/日本語.json",
    "q?x=1&y=2#z.tar",
    "50%25.txt",
    "a+b=c,d;e.txt",
    "c:\\d'\"<e>",
    "~x/.hidden/-",
]


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def linkless(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """A folder on a file system without hard links."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)
    return local


@pytest.fixture(params=["local", "linkless", "gcs", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


@pytest.fixture
def neighbour(store: Store) -> Store:
    """Another store of the same kind."""
    if isinstance(store, LocalStore):
        return LocalStore(store.root.with_name("neighbour"))
    if isinstance(store, S3Store):
        return quick_s3(f"s3://elsewhere/{secrets.token_hex(8)}")
    return quick_store("gs://elsewhere")


def outcomes(count: int, action: Callable[[int], object]) -> list[object]:
    """What `action(0)`, `action(1)` … give or raise when they start at the same moment."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait()
        try:
            return action(number)
        except HQClipError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("data", [b"", b"some bytes", BIG], ids=["empty", "small", "big"])
def test_what_is_written_is_read_back_with_its_checksum(store: Store, tmp_path: Path, data: bytes):
    (tmp_path / "source").write_bytes(data)
    infos = [store.write("a/one", data), store.write("a/two", tmp_path / "source")]
    assert store.read("a/one") == store.read("a/two") == data
    for info in infos:
        assert (info.size, info.crc32c) == (len(data), google_crc32c.value(data))
        assert store.stat(info.key) == info and store.exists(info.key)


def test_an_object_that_exists_is_never_overwritten_unasked(store: Store):
    first = store.write("taken", b"first")
    with pytest.raises(ConflictError, match="taken exists with other content"):
        store.write("taken", b"later")
    assert store.read("taken") == b"first"
    assert store.stat("taken") == first


@pytest.mark.parametrize("data", [b"the same", BIG], ids=["small", "big"])
def test_writing_the_same_again_is_a_success_and_changes_nothing(store: Store, data: bytes):
    assert store.write("key", data) == store.write("key", data)


def test_overwriting_on_request_gives_a_new_generation_even_for_the_same_bytes(store: Store):
    generations = {store.write("key", data, create_only=False).generation for data in [b"a", b"b", b"a", b"a"] * 5}
    assert len(generations) == 20
    assert store.read("key") == b"a"


def test_of_sixteen_racers_with_different_content_exactly_one_creates_the_object(store: Store):
    results = outcomes(16, lambda number: store.write("race/key", b"content %d" % number))
    winners = [number for number, result in enumerate(results) if isinstance(result, ObjectInfo)]
    assert len(winners) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 15
    assert store.read("race/key") == b"content %d" % winners[0]
    assert list(store.list()) == ["race/key"]


def test_a_swap_replaces_only_what_was_seen(store: Store):
    first = store.swap("pointer", b"1", expected=None)
    second = store.swap("pointer", b"2", expected=first)
    for seen in (None, first):
        with pytest.raises(ConflictError, match="pointer was"):
            store.swap("pointer", b"2", expected=seen)
    store.delete("pointer")
    with pytest.raises(ConflictError):
        store.swap("pointer", b"3", expected=second)
    assert store.stat("pointer") is None


def test_eight_counters_that_swap_lose_no_count(store: Store):
    store.write("count", b"0")

    def count(_: int) -> None:
        while True:
            seen = store.stat("count")
            number = int(store.read("count"))
            try:
                store.swap("count", b"%d" % (number + 1), expected=seen)
                return
            except ConflictError:
                time.sleep(0.001)

    assert outcomes(8, count) == [None] * 8
    assert store.read("count") == b"8"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_may_have_any_printable_letter(store: Store, tmp_path: Path, key: str):
    if isinstance(store, S3Store) and "\\" in key:
        with pytest.raises(ConfigError, match="backslash"):
            store.write(key, b"odd")
        return
    info = store.write(key, b"odd")
    assert info.key == key
    assert list(store.list()) == list(store.list(key[:1])) == [key]
    assert store.read(key) == b"odd"
    assert store.download(key, tmp_path / "copy") == store.stat(key) == info
    store.delete(key)
    assert list(store.list()) == []


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd", "a//b", "", ".", "a/", "new\nline"])
def test_keys_that_lead_out_of_the_store_are_refused(store: Store, tmp_path: Path, key: str):
    (tmp_path / "outside").write_bytes(b"secret")
    calls: list[Callable[[], object]] = [
        lambda: store.write(key, b"x"),
        lambda: store.swap(key, b"x", expected=None),
        lambda: store.download(key, tmp_path / "copy"),
        lambda: store.open(key),
        lambda: store.read(key),
        lambda: store.stat(key),
        lambda: store.copy(f"{store.uri}/a", key),
        lambda: store.delete(key),
    ]
    store.write("a", b"")
    for call in calls:
        with pytest.raises(ConfigError, match="is not a key"):
            call()
    with pytest.raises(ConfigError):
        store.list("../")
    assert (tmp_path / "outside").read_bytes() == b"secret"
    assert not (tmp_path / "copy").exists()


def test_half_a_character_names_nothing(store: Store):
    with pytest.raises(ConfigError, match=r"'images/\\ud800' is not a key of a store: half a character is no name"):
        store.stat("images/\ud800")


def test_a_listing_is_sorted_by_whole_keys_and_its_prefix_is_a_string(store: Store):
    keys = ["a-b", "a.tar", "a/b", "a/c/d", "a0", "ab/c", "b", "Z"]
    for key in keys:
        store.write(key, b"")
    assert list(store.list()) == ["Z", "a-b", "a.tar", "a/b", "a/c/d", "a0", "ab/c", "b"]
    assert list(store.list("a")) == ["a-b", "a.tar", "a/b", "a/c/d", "a0", "ab/c"]
    assert list(store.list("a/")) == ["a/b", "a/c/d"]
    assert list(store.list("a/c")) == ["a/c/d"]
    assert list(store.list("b")) == list(store.list("b")) == ["b"]
    for nothing in ["c", "b/", "a/b/", "no/such/folder"]:
        assert list(store.list(nothing)) == []


def test_any_range_of_bytes_can_be_read(store: Store):
    store.write("key", b"0123456789")
    assert store.read("key", 3, 4) == b"3456"
    assert store.read("key", 7) == b"789"
    assert store.read("key", 0, 1) == b"0"
    assert store.read("key", 8, 100) == b"89"
    assert store.read("key", 10) == store.read("key", 99, 5) == store.read("key", 2, 0) == b""
    with pytest.raises(ValueError, match="negative"):
        store.read("key", -1)


def test_an_open_object_can_be_read_in_any_order(store: Store):
    store.write("big", BIG)
    with store.open("big") as file:
        assert file.read(5) == BIG[:5]
        assert file.tell() == 5
        file.seek(-7, os.SEEK_END)
        assert file.read() == BIG[-7:]
        assert file.read(1) == b""
        file.seek(1_000_003)
        assert file.read(5_000_000) == BIG[1_000_003:6_000_003]
        file.seek(3, os.SEEK_CUR)
        assert file.read() == BIG[6_000_006:]
        file.seek(len(BIG) + 10)
        assert file.read(4) == b""
        file.seek(0)
        assert file.read() == BIG


def test_an_open_object_never_mixes_old_and_new_bytes(store: Store):
    store.write("key", b"old" * 2_000_000)
    with store.open("key") as file:
        assert file.read(3) == b"old"
        store.write("key", b"new" * 2_000_000, create_only=False)
        file.seek(5_999_997)
        with suppress(NotFoundError):  # a bucket without versions has lost the old bytes
            assert file.read(3) == b"old"


def test_a_download_makes_its_folder_and_replaces_an_older_file(store: Store, tmp_path: Path):
    info = store.write("key", BIG)
    target = tmp_path / "new" / "folder" / "file"
    assert store.download("key", target) == info
    target.write_bytes(b"stale")
    assert store.download("key", target) == info
    assert target.read_bytes() == BIG
    assert names_in(target.parent) == ["file"]


def test_what_does_not_exist_is_named_and_leaves_no_file(store: Store, tmp_path: Path):
    assert store.stat("no/such") is None
    for call in (store.read, store.open, lambda key: store.download(key, tmp_path / "copy")):
        with pytest.raises(NotFoundError, match="no/such"):
            call("no/such")
    with pytest.raises(NotFoundError, match="missing.tar"):
        store.write("key", tmp_path / "missing.tar")
    assert "copy" not in names_in(tmp_path)
    assert list(store.list()) == []


def test_deleting_twice_is_harmless(store: Store):
    store.write("a/key", b"x")
    store.delete("a/key")
    store.delete("a/key")
    store.delete("never/was")
    assert store.stat("a/key") is None and not store.exists("a/key")


def test_a_copy_creates_and_never_overwrites(store: Store, neighbour: Store):
    neighbour.write("b/source.html", b"content")
    source = f"{neighbour.uri}/b/source.html"
    info = store.copy(source, "a/copy")
    assert info == store.copy(source, "a/copy") == store.stat("a/copy")
    assert store.read("a/copy") == read_uri(source) == b"content"
    neighbour.write("b/other", b"other content")
    with pytest.raises(ConflictError, match="a/copy exists"):
        store.copy(f"{neighbour.uri}/b/other", "a/copy")
    with pytest.raises(NotFoundError, match="b/missing"):
        store.copy(f"{neighbour.uri}/b/missing", "a/new")
    with pytest.raises(ConfigError, match="https://"):
        store.copy("https://bucket/key", "a/new")


def test_a_store_travels_to_worker_processes(store: Store):
    store.write("key", b"x")
    twin = pickle.loads(pickle.dumps(store))
    assert twin.uri == store.uri
    assert twin.read("key") == b"x"


def test_a_uri_says_which_store(tmp_path: Path, fake_gcs: FakeGcs):
    open_store(f"file://{tmp_path}").write("a/b", b"x")
    assert read_uri(f"{tmp_path}/a/b") == read_uri(f"file://{tmp_path}/a/b") == b"x"
    assert isinstance(open_store("gs://bucket"), GcsStore)
    assert isinstance(open_store("s3://bucket"), S3Store)
    for wrong in [
        "s3://",
        "s3://B_UCKET",
        "s3://bucket/../other",
        "https://host/x",
        "gs://",
        "gs://B_UCKET",
        "gs://bucket/../other",
        "gs://bucket/a//b",
    ]:
        with pytest.raises(ConfigError):
            open_store(wrong)
    assert fake_gcs.requests == []


def test_when_an_object_changed_is_told_by_one_clock_for_all_of_a_store(store: Store):
    assert store.changed_at("a") is None
    assert store.changed_at("a/b") is None
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: int((real() + 1e6) * 1e9))
        written = store.write("a", b"1")  # by a process whose clock is wrong
    tick_s = 1.1 if isinstance(store, S3Store) else 0.02  # S3 tells whole seconds
    first = store.changed_at("a")
    time.sleep(tick_s)
    store.write("b", b"1")
    second = store.changed_at("b")
    time.sleep(tick_s)
    store.swap("a", b"1", expected=written)
    third = store.changed_at("a")
    assert first is not None and second is not None and third is not None
    assert first < second < third < first + 600


def test_a_scan_tells_of_each_object_what_a_listing_and_its_clock_tell(store: Store):
    for number in range(3):
        store.write(f"runs/a/{number}", b"x" * number)
    store.write("runs/b", b"12345")
    store.write("other", b"1")
    found = {one.key: one for one in store.scan("runs/")}
    assert sorted(found) == list(store.list("runs/")) and len(found) == 4
    assert {key: one.size for key, one in found.items()} == {"runs/a/0": 0, "runs/a/1": 1, "runs/a/2": 2, "runs/b": 5}
    assert all(one.changed == pytest.approx(store.changed_at(key), abs=1e-3) for key, one in found.items())
    assert list(store.scan("none/")) == []
    with pytest.raises(ConfigError):
        store.scan("../")
