"""What can go wrong with Google Cloud Storage, and how the real client and ours get over it."""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from google.api_core.exceptions import PreconditionFailed
from google.api_core.retry import retry_base, retry_unary
from google.cloud import storage

from hqclip.errors import AccessError, NotFoundError, StorageError, UnavailableError
from hqclip.store.gcs import CHUNK_BYTES, RETRY, GcsStore
from tests.buckets import PassingTime, quick_store
from tests.fakes.gcs import FakeGcs

BIG = bytes(range(256)) * (36 * 1024)  # 9 MiB: above the limit for uploads in one request


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
    clock = PassingTime()
    for module in (retry_base, retry_unary):
        monkeypatch.setattr(module, "time", clock)
    fault = fake_gcs.fault("refuse", "", 503, times=10_000)
    with pytest.raises(UnavailableError, match=r"gs://bucket/key: .*503.*; run again"):
        GcsStore("gs://bucket", RETRY.with_timeout(60).with_delay(initial=1, maximum=8)).read("key")
    assert clock.now <= 60 and fault.fired > 60 / 8
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


def test_many_threads_keep_their_connections(gcs: GcsStore, fake_gcs: FakeGcs):
    gcs.write("key", b"x")
    fake_gcs.fault("delay", "alt=media", 30, times=96)
    with ThreadPoolExecutor(32) as pool:
        for _ in range(3):
            assert list(pool.map(gcs.read, ["key"] * 32)) == [b"x"] * 32
    assert len(fake_gcs.connections) <= 32


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
