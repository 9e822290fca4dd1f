"""What can go wrong with a bucket of either kind, and how the real clients and ours get over it."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hqclip.errors import ConflictError, NotFoundError, StorageError
from hqclip.store import Store
from hqclip.store import s3 as s3_module
from tests.buckets import names_in, put_in_s3
from tests.fakes.scripted import Script

BIG = bytes(range(256)) * (44 * 1024)  # 11 MiB: more than one request, for both


@dataclass(frozen=True)
class Bucket:
    """A store, what goes wrong with it, and what another program does. Words are of requests about `key`."""

    store: Store
    faults: Script
    put: Callable[..., object]  # key, data and their Content-Encoding, if any
    whole: str  # sends all of it
    last: str  # ends an upload in parts
    get: str


@pytest.fixture(params=["gcs", "s3"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    store = request.getfixturevalue(request.param)
    if request.param == "gcs":
        fake = request.getfixturevalue("fake_gcs")

        def put(key: str, data: bytes, encoding: str = "") -> None:
            fake.put("bucket", f"deep/prefix/{key}", data, {"contentEncoding": encoding} if encoding else {})

        return Bucket(store, fake, put, "POST uploadType=multipart", "PUT upload_id", "GET alt=media")
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(s3_module, "WHOLE_BYTES", 5 << 20)

    def put_by_another(key: str, data: bytes, encoding: str = "") -> None:
        put_in_s3(store, key, data, **({"ContentEncoding": encoding} if encoding else {}))

    line = request.getfixturevalue("s3_line")
    return Bucket(store, line, put_by_another, "PUT prefix/key", "POST prefix/key?uploadId", "GET prefix/key")


@pytest.mark.parametrize("data", [b"small", BIG], ids=["one request", "in parts"])
def test_a_lost_acknowledgement_is_a_success(bucket: Bucket, data: bytes):
    bucket.faults.fault("lose", bucket.last if data == BIG else bucket.whole, times=2)
    info = bucket.store.write("key", data)
    assert info == bucket.store.stat("key")
    assert bucket.store.read("key") == data


def test_a_swap_whose_acknowledgement_was_lost_is_a_success(bucket: Bucket):
    bucket.faults.fault("lose", bucket.whole, times=2)
    first = bucket.store.swap("key", b"1", expected=None)
    assert bucket.store.swap("key", b"2", expected=first) == bucket.store.stat("key")
    words = bucket.whole.split()
    assert len([line for line in bucket.faults.requests if all(word in line for word in words)]) == 4


def test_a_swap_to_the_bytes_that_another_has_put_there_is_still_a_conflict(bucket: Bucket):
    first = bucket.store.swap("lease", b"mine", expected=None)
    bucket.store.swap("lease", b"taken", expected=first)
    with pytest.raises(ConflictError):
        bucket.store.swap("lease", b"taken", expected=first)


def test_a_download_of_what_is_replaced_meanwhile_mixes_nothing(bucket: Bucket, tmp_path: Path):
    bucket.store.write("key", BIG)
    bucket.faults.fault("cut", bucket.get, 3_000_000, then=lambda: bucket.put("key", BIG[::-1]))
    with pytest.raises(NotFoundError, match="replaced while it was read"):
        bucket.store.download("key", tmp_path / "copy")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("broken_off", [False, True], ids=["in one piece", "after a break"])
def test_damaged_bytes_never_become_a_file(bucket: Bucket, tmp_path: Path, broken_off: bool):
    bucket.store.write("key", BIG)
    for _ in range(2):
        if broken_off:
            bucket.faults.fault("cut", bucket.get, 1_500_000)
        bucket.faults.fault("damage", bucket.get)
    (tmp_path / "copy").write_bytes(b"older")
    with pytest.raises(StorageError, match=rf"prefix/key: {len(BIG)} bytes with crc32c \w+ came through"):
        bucket.store.download("key", tmp_path / "copy")
    with pytest.raises(StorageError, match="came through"):
        bucket.store.read("key")
    assert names_in(tmp_path) == ["copy"]
    assert (tmp_path / "copy").read_bytes() == b"older"


def test_a_document_that_was_compressed_on_the_way_is_read_as_it_was_sent(bucket: Bucket, tmp_path: Path):
    sent, stored = b'{"kind": "suite"}' * 100, gzip.compress(b'{"kind": "suite"}' * 100)
    bucket.put("suite.json", stored, "gzip")
    assert bucket.store.read("suite.json") == sent
    assert bucket.store.read("suite.json", 0, 2) == b"\x1f\x8b", "a part of what is stored"
    assert bucket.store.download("suite.json", tmp_path / "copy") == bucket.store.stat("suite.json")
    assert (tmp_path / "copy").read_bytes() == stored
    bucket.put("texts.json.gz", stored)
    assert bucket.store.read("texts.json.gz") == stored, "a gzip file is a file"
    bucket.put("suite.json", b"\x1f\x8bnot really", "gzip")
    with pytest.raises(StorageError, match="suite.json: its Content-Encoding is gzip, but its content is not"):
        bucket.store.read("suite.json")


def test_a_full_disk_at_the_end_of_a_download_is_said(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bucket.store.write("key", b"x")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="copy: No space left on device; free some space"):
        bucket.store.download("key", tmp_path / "copy")
    assert names_in(tmp_path) == []


def test_a_forked_process_makes_its_own_connections(bucket: Bucket):
    bucket.store.write("key", b"x")
    before = len(bucket.faults.connections)
    child = os.fork()
    if child == 0:
        try:
            os._exit(bucket.store.read("key") != b"x")
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert len(bucket.faults.connections) == before + 1
    assert bucket.store.read("key") == b"x"
