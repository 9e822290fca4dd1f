"""What can go wrong with Google Cloud Storage, and how the real client and ours get over it."""

from __future__ import annotations

import errno
import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from google.api_core.exceptions import PreconditionFailed
from google.cloud import storage

from hqclip.errors import AccessError, ConflictError, NotFoundError, StorageError, UnavailableError
from hqclip.store.gcs import CHUNK_BYTES, GcsStore
from tests.buckets import quick_store
from tests.fakes.gcs import FakeGcs

BIG = bytes(range(256)) * (36 * 1024)  # 9 MiB: above the limit for uploads in one request


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("data", "request_of"),
    [(b"small", "POST uploadType=multipart"), (BIG, "PUT upload_id")],
    ids=["one request", "resumable"],
)
def test_a_lost_acknowledgement_is_a_success(gcs: GcsStore, fake_gcs: FakeGcs, data: bytes, request_of: str):
    fake_gcs.fault("lose", request_of)
    info = gcs.write("key", data)
    assert info == gcs.stat("key")
    assert gcs.read("key") == data


def test_a_swap_whose_acknowledgement_was_lost_is_a_success(gcs: GcsStore, fake_gcs: FakeGcs):
    fake_gcs.fault("lose", "POST upload", times=2)
    first = gcs.swap("pointer", b"1", expected=None)
    assert gcs.swap("pointer", b"2", expected=first) == gcs.stat("pointer")
    assert len([line for line in fake_gcs.requests if line.startswith("POST")]) == 4


def test_a_swap_to_the_bytes_that_another_has_put_there_is_still_a_conflict(gcs: GcsStore):
    first = gcs.swap("lease", b"mine", expected=None)
    gcs.swap("lease", b"taken", expected=first)
    with pytest.raises(ConflictError):
        gcs.swap("lease", b"taken", expected=first)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_burst_of_busy_answers_is_outlived(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path, status: int):
    for request_of in ("POST upload", "GET alt=media", "GET prefix=", "POST rewriteTo", "DELETE"):
        fake_gcs.fault("refuse", request_of, status, times=2)
    gcs.write("key", b"x")
    gcs.download("key", tmp_path / "copy")
    gcs.copy("gs://bucket/deep/prefix/key", "copy")
    assert list(gcs.list()) == ["copy", "key"]
    gcs.delete("key")
    assert list(gcs.list()) == ["copy"]


def test_a_service_that_never_answers_is_unavailable(fake_gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch):
    fault = fake_gcs.fault("refuse", "", 503, times=10_000)
    with pytest.raises(UnavailableError, match=r"gs://bucket/key: .*503.*; run again"):
        quick_store("gs://bucket", timeout_s=0.2).read("key")
    assert fault.fired > 3
    fault.times = fault.fired
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(UnavailableError, match="gs://bucket/key"):
        quick_store("gs://bucket", timeout_s=0.2).write("key", b"x")


def test_a_download_that_breaks_off_goes_on_in_the_same_generation(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path):
    info = gcs.write("key", BIG)
    fake_gcs.fault("cut", "GET alt=media", 3_000_000)
    fake_gcs.fault("cut", "GET alt=media", 1_000_000)
    assert gcs.download("key", tmp_path / "copy") == info
    assert (tmp_path / "copy").read_bytes() == BIG
    media = [line for line in fake_gcs.requests if "alt=media" in line]
    assert [f"generation={info.generation}" in line for line in media] == [False, True, True]
    fake_gcs.fault("cut", "GET alt=media", 12_345)
    assert gcs.read("key") == BIG


def test_a_download_of_an_object_that_is_replaced_never_mixes(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path):
    gcs.write("key", BIG)
    fake_gcs.fault("cut", "GET alt=media", 100, then=lambda: fake_gcs.put("bucket", "deep/prefix/key", BIG[::-1]))
    with pytest.raises(NotFoundError, match="replaced while it was read"):
        gcs.download("key", tmp_path / "copy")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("broken_off", [False, True], ids=["in one piece", "after a break"])
def test_damaged_bytes_never_become_a_file(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path, broken_off: bool):
    gcs.write("key", BIG)
    for _ in range(2):
        if broken_off:
            fake_gcs.fault("cut", "GET alt=media", 1_000_000)
        fake_gcs.fault("damage", "GET alt=media")
    (tmp_path / "copy").write_bytes(b"older")
    with pytest.raises(StorageError, match=r"gs://bucket/deep/prefix/key: 9437184 bytes with crc32c \w+ came through"):
        gcs.download("key", tmp_path / "copy")
    with pytest.raises(StorageError, match="came through"):
        gcs.read("key")
    assert names_in(tmp_path) == ["copy"]
    assert (tmp_path / "copy").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("data", "request_of"),
    [(b"small", "POST uploadType=multipart"), (BIG, "PUT upload_id")],
    ids=["one request", "resumable"],
)
def test_an_upload_damaged_on_its_way_is_not_stored(gcs: GcsStore, fake_gcs: FakeGcs, data: bytes, request_of: str):
    fake_gcs.fault("damage", request_of)
    with pytest.raises(StorageError, match="doesn't match calculated CRC32C"):
        gcs.write("key", data)
    assert fake_gcs.objects == {}


def test_an_upload_in_several_chunks_outlives_lost_and_refused_chunks(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path):
    (tmp_path / "huge").write_bytes(os.urandom(1 << 20) * 33)
    assert (tmp_path / "huge").stat().st_size > CHUNK_BYTES
    fake_gcs.fault("refuse", "PUT upload_id")
    fake_gcs.fault("lose", "PUT upload_id", times=2)
    gcs.write("huge", tmp_path / "huge")
    assert fake_gcs.objects["bucket", "deep/prefix/huge"].data == (tmp_path / "huge").read_bytes()


def test_an_upload_of_which_less_was_kept_is_tried_again_by_the_scheduler(gcs: GcsStore, fake_gcs: FakeGcs):
    fake_gcs.fault("keep", "PUT upload_id", 1 << 20)
    with pytest.raises(UnavailableError, match="the upload broke off"):
        gcs.write("key", BIG)
    assert fake_gcs.objects == {}


def test_a_big_object_that_exists_is_not_sent_at_all(gcs: GcsStore, fake_gcs: FakeGcs):
    gcs.write("key", BIG)
    fake_gcs.requests.clear()
    gcs.write("key", BIG)
    assert [line.split()[0] for line in fake_gcs.requests] == ["POST", "GET"]


@pytest.mark.parametrize(
    ("method", "arguments", "permission"),
    [
        ("write", [b"x"], "storage.objects.create"),
        ("read", [], "storage.objects.get"),
        ("stat", [], "storage.objects.get"),
        ("open", [], "storage.objects.get"),
        ("delete", [], "storage.objects.delete"),
    ],
)
def test_a_missing_permission_is_named_after_one_request(
    gcs: GcsStore, fake_gcs: FakeGcs, method: str, arguments: list[bytes], permission: str
):
    fake_gcs.fault("refuse", "", 403)
    with pytest.raises(AccessError, match=f"gs://bucket/deep/prefix/some/key: permission {permission} is missing"):
        getattr(gcs, method)("some/key", *arguments)
    assert len(fake_gcs.requests) == 1


def test_a_listing_without_permission_names_it(gcs: GcsStore, fake_gcs: FakeGcs):
    fake_gcs.fault("refuse", "", 403)
    with pytest.raises(AccessError, match=r"gs://bucket/deep/prefix/a: permission storage.objects.list is missing"):
        list(gcs.list("a"))
    assert len(fake_gcs.requests) == 1


def test_missing_credentials_are_an_access_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_gcs: FakeGcs):
    fake_gcs.fault("refuse", "", 401)
    with pytest.raises(AccessError, match="no valid credentials; run `gcloud auth"):
        GcsStore("gs://bucket").read("key")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(AccessError, match="missing.json"):
        GcsStore("gs://bucket").read("key")


def test_a_listing_goes_over_all_pages_and_leaves_folder_markers_out(gcs: GcsStore, fake_gcs: FakeGcs):
    for name in ["deep/prefix/", "deep/prefix/a/", "deep/prefixed/no"]:
        fake_gcs.put("bucket", name, b"")
    keys = [f"a/{number}" for number in range(10, 17)]
    for key in keys:
        gcs.write(key, b"")
    fake_gcs.page_size = 2
    fake_gcs.requests.clear()
    listing = gcs.list()
    assert next(listing) == "a/10"
    assert len(fake_gcs.requests) == 2  # the first page has only markers
    assert list(listing) == keys[1:]


def test_a_bucket_that_does_not_exist_is_named(fake_gcs: FakeGcs):
    with pytest.raises(NotFoundError, match="gs://missing/a"):
        list(GcsStore("gs://missing").list("a"))
    with pytest.raises(NotFoundError, match="gs://missing/a"):
        GcsStore("gs://missing").write("a", b"x")


def test_a_copy_between_regions_takes_several_requests_and_keeps_what_is_said_about_it(
    gcs: GcsStore, fake_gcs: FakeGcs
):
    fake_gcs.put("elsewhere", "report.html", b"x" * 1000, {"contentType": "text/html", "metadata": {"a": "b"}})
    fake_gcs.rewrite_bytes = 300
    fake_gcs.fault("lose", "POST rewriteTo", times=4)
    assert gcs.copy("gs://elsewhere/report.html", "report").size == 1000
    about = fake_gcs.objects["bucket", "deep/prefix/report"].about
    assert about == {"contentType": "text/html", "metadata": {"a": "b"}}


def test_a_gzipped_object_comes_as_it_is_stored(gcs: GcsStore, fake_gcs: FakeGcs, tmp_path: Path):
    fake_gcs.put("bucket", "deep/prefix/texts.tar.gz", b"\x1f\x8bnot really", {"contentEncoding": "gzip"})
    assert gcs.download("texts.tar.gz", tmp_path / "texts.tar.gz") == gcs.stat("texts.tar.gz")
    assert (tmp_path / "texts.tar.gz").read_bytes() == b"\x1f\x8bnot really"


def test_a_document_that_was_compressed_on_the_way_is_read_as_it_was_sent(gcs: GcsStore, fake_gcs: FakeGcs):
    sent, stored = b'{"kind": "suite"}' * 100, gzip.compress(b'{"kind": "suite"}' * 100)
    fake_gcs.put("bucket", "deep/prefix/suite.json", stored, {"contentEncoding": "gzip"})
    assert gcs.read("suite.json") == sent
    assert gcs.read("suite.json", 0, 2) == b"\x1f\x8b", "a part of what is stored"
    fake_gcs.put("bucket", "deep/prefix/texts.json.gz", stored)
    assert gcs.read("texts.json.gz") == stored, "a gzip file is a file"
    fake_gcs.put("bucket", "deep/prefix/suite.json", b"\x1f\x8bnot really", {"contentEncoding": "gzip"})
    with pytest.raises(StorageError, match="suite.json: its Content-Encoding is gzip, but its content is not"):
        gcs.read("suite.json")


def test_the_fake_decompresses_for_those_who_do_not_take_gzip(fake_gcs: FakeGcs):
    """As the service does: whole, whatever range is asked for, with the checksum of what is stored."""
    stored = fake_gcs.put("bucket", "page.html", gzip.compress(b"<html>"), {"contentEncoding": "gzip"})
    place = f"{fake_gcs.url}/download/storage/v1/b/bucket/o/page.html?alt=media"
    with urlopen(Request(place, headers={"Range": "bytes=0-1"})) as answer:
        assert (answer.status, answer.read()) == (200, b"<html>")
        assert answer.headers["Content-Encoding"] is None
        assert stored.resource()["crc32c"] in answer.headers["X-Goog-Hash"]
    with urlopen(Request(place, headers={"Range": "bytes=0-1", "Accept-Encoding": "gzip"})) as answer:
        assert (answer.status, answer.read(), answer.headers["Content-Encoding"]) == (206, b"\x1f\x8b", "gzip")


def test_a_full_disk_at_the_end_of_a_download_is_said(gcs: GcsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gcs.write("key", b"x")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="copy: No space left on device; free some space"):
        gcs.download("key", tmp_path / "copy")
    assert names_in(tmp_path) == []


def test_many_threads_keep_their_connections(gcs: GcsStore, fake_gcs: FakeGcs):
    gcs.write("key", b"x")
    fake_gcs.fault("delay", "alt=media", 30, times=96)
    with ThreadPoolExecutor(32) as pool:
        for _ in range(3):
            assert list(pool.map(gcs.read, ["key"] * 32)) == [b"x"] * 32
    assert len(fake_gcs.connections) <= 32


def test_a_forked_process_makes_its_own_connections(gcs: GcsStore, fake_gcs: FakeGcs):
    gcs.write("key", b"x")
    child = os.fork()
    if child == 0:
        try:
            os._exit(gcs.read("key") != b"x")
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert len(fake_gcs.connections) == 2
    assert gcs.read("key") == b"x"


def test_the_fake_honours_preconditions_wherever_the_service_does(fake_gcs: FakeGcs):
    fake_gcs.put("bucket", "key", b"x")
    fake_gcs.put("bucket", "source", b"y")
    bucket = storage.Client(project=None).bucket("bucket")
    for condition in ({"if_generation_match": 1}, {"if_metageneration_match": 9}, {"if_generation_match": 0}):
        for call in (
            lambda blob, **only: blob.upload_from_string(b"z", **only),
            lambda blob, **only: blob.upload_from_string(BIG, **only),
            lambda blob, **only: blob.download_as_bytes(**only),
            lambda blob, **only: blob.reload(**only),
            lambda blob, **only: blob.patch(**only),
            lambda blob, **only: blob.delete(**only),
            lambda blob, **only: blob.compose([bucket.blob("source")], **only),
            lambda blob, **only: blob.rewrite(bucket.blob("source"), **only),
        ):
            with pytest.raises(PreconditionFailed):
                call(bucket.blob("key"), **condition)
    with pytest.raises(PreconditionFailed):
        bucket.blob("new").rewrite(bucket.blob("source"), if_source_generation_match=1)
    with pytest.raises(PreconditionFailed):
        bucket.blob("new").upload_from_string(b"", if_generation_not_match=0)
    assert {name: stored.data for (_, name), stored in fake_gcs.objects.items()} == {"key": b"x", "source": b"y"}
    both = bucket.blob("both")
    both.compose([bucket.blob("key"), bucket.blob("source")], if_generation_match=0)
    assert both.download_as_bytes() == b"xy"
