"""What can go wrong with S3, and how the real client, a real server and ours get over it."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import google_crc32c
import pytest

from hqclip.data.sources import list_shards
from hqclip.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    HQClipError,
    NotFoundError,
    StorageError,
    TerminatedError,
    UnavailableError,
)
from hqclip.interruption import Interruption, interruptible
from hqclip.store import s3 as s3_module
from hqclip.store import s3_client
from hqclip.store.s3 import S3Store
from hqclip.store.s3_client import Patience, client
from hqclip.store.s3_promises import CREATES, DIGESTS, METADATA, PARTS, RACES, SWAPS
from tests.buckets import PassingTime, put_in_s3, quick_s3
from tests.certificates import certificate_for
from tests.fakes.s3 import FaultyLine

IN_PARTS = bytes(range(256)) * (44 * 1024)  # 11 MiB


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as servers take them, and what is larger is sent in parts on a condition, too."""
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(s3_module, "WHOLE_BYTES", 5 << 20)


def left_in(store: S3Store) -> list[str]:
    """All that is there, and the uploads that were begun and not ended."""
    bucket, _, root = store.uri.removeprefix("s3://").partition("/")
    objects = client().list_objects_v2(Bucket=bucket, Prefix=root).get("Contents", [])
    uploads = client().list_multipart_uploads(Bucket=bucket, Prefix=root).get("Uploads", [])
    return [found["Key"].removeprefix(f"{root}/") for found in [*objects, *uploads]]


def test_the_same_bytes_written_again_are_another_generation(s3: S3Store):
    """The ETag alone does not tell: whoever watches a lease sees that it was renewed."""
    first = s3.write("lease", b"x", create_only=False)
    assert s3.write("lease", b"x", create_only=False).generation != first.generation == first.generation
    assert s3.stat("lease") != first


@pytest.mark.parametrize("answer", ["500 InternalError", "502 BadGateway", "503 SlowDown", "429 TooMany"])
def test_a_burst_of_busy_answers_is_outlived(s3: S3Store, s3_line: FaultyLine, tmp_path: Path, answer: str):
    for request_of in ("PUT prefix/key", "GET prefix/key", "HEAD prefix/key", "GET list-type", "DELETE prefix/key"):
        s3_line.fault("refuse", request_of, answer, times=2)
    s3.write("key", b"x")
    assert s3.exists("key")
    s3.download("key", tmp_path / "copy")
    assert list(s3.list()) == ["key"]
    s3.delete("key")
    assert list(s3.list()) == []


def test_a_conflict_of_two_conditional_writes_is_tried_again(s3: S3Store, s3_line: FaultyLine):
    """AWS asks for that where two of them met."""
    s3_line.fault("refuse", "PUT prefix/key", "409 ConditionalRequestConflict", times=2)
    first = s3.swap("key", b"1", expected=None)
    s3_line.fault("refuse", "PUT prefix/key", "409 ConditionalRequestConflict", times=2)
    s3.swap("key", b"2", expected=first)


def test_a_service_that_never_answers_is_unavailable(s3_line: FaultyLine, monkeypatch: pytest.MonkeyPatch):
    clock = PassingTime()
    monkeypatch.setattr(s3_client, "time", clock)
    fault = s3_line.fault("refuse", "", "503 SlowDown", times=10_000)
    with pytest.raises(UnavailableError, match=r"s3://bucket/key: the service was busy .*SlowDown.*; run again"):
        S3Store("s3://bucket", Patience(60, first_s=1, longest_s=8)).read("key")
    assert clock.now <= 60 and fault.fired > 60 / 8
    fault.times = fault.fired
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(UnavailableError, match=r"s3://bucket/key: the service gave no answer .*run again"):
        quick_s3("s3://bucket", timeout_s=0.2).read("key")


def test_a_process_that_is_told_to_end_while_it_waits_for_an_answer_does(s3: S3Store, s3_line: FaultyLine):
    """botocore takes any Exception that is raised in a request for a fault of the line, which would be tried again."""

    def told(*_: object) -> None:
        raise Interruption(TerminatedError("SIGTERM was received"))

    def tell() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.5)

    before = signal.signal(signal.SIGUSR1, told)
    try:
        s3_line.fault("pass", "HEAD prefix/key").then = tell
        with pytest.raises(TerminatedError, match="SIGTERM was received"), interruptible():
            s3.exists("key")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_broken_download_goes_on_where_it_was(s3: S3Store, s3_line: FaultyLine, tmp_path: Path):
    info = s3.write("key", IN_PARTS)
    s3_line.requests.clear()
    for _ in range(3):
        s3_line.fault("cut", "GET prefix/key", 3_000_000)
    assert s3.download("key", tmp_path / "copy") == info
    assert (tmp_path / "copy").read_bytes() == IN_PARTS
    for _ in range(3):
        s3_line.fault("cut", "GET prefix/key", 3_000_000)
    assert s3.read("key") == IN_PARTS
    assert len(s3_line.requests) == 8


@pytest.mark.parametrize(
    ("data", "request_of"),
    [(b"small", "PUT prefix/key"), (IN_PARTS, "PUT prefix/key partNumber=2")],
    ids=["one request", "in parts"],
)
def test_an_upload_damaged_on_its_way_is_not_stored(s3: S3Store, s3_line: FaultyLine, data: bytes, request_of: str):
    s3_line.fault("damage", request_of)
    with pytest.raises(StorageError, match=r"prefix/key: .*(SHA256|Digest)"):
        s3.write("key", data)
    assert left_in(s3) == []


def test_of_an_upload_in_parts_only_what_broke_is_sent_again(s3: S3Store, s3_line: FaultyLine, tmp_path: Path):
    (tmp_path / "file").write_bytes(IN_PARTS)
    s3_line.fault("refuse", "PUT partNumber=2")
    s3_line.fault("lose", "PUT partNumber=3", times=2)
    s3.write("key", tmp_path / "file")
    assert s3.read("key") == IN_PARTS
    sent = [line.partition("partNumber=")[2][:1] for line in s3_line.requests if "deep/prefix/key?" in line]
    assert sorted(filter(str.isdecimal, sent)) == ["1", "2", "2", "3", "3", "3"]


def test_a_big_object_in_one_request_is_sent_again_whole(
    s3: S3Store, s3_line: FaultyLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3_module, "WHOLE_BYTES", 1 << 30)
    (tmp_path / "file").write_bytes(IN_PARTS)
    s3_line.fault("refuse", "PUT prefix/key", times=2)
    s3_line.fault("lose", "PUT prefix/key")
    info = s3.write("key", tmp_path / "file")
    assert s3.stat("key") == info and s3.read("key") == IN_PARTS


def test_of_an_upload_that_fails_nothing_is_left(s3: S3Store, s3_line: FaultyLine):
    fault = s3_line.fault("refuse", "PUT prefix/key partNumber=2", "503 SlowDown", times=10_000)
    with pytest.raises(UnavailableError, match="busy"):
        S3Store(s3.uri, quick_s3(s3.uri, timeout_s=0.2)._patience).write("key", IN_PARTS)
    fault.times = fault.fired
    assert left_in(s3) == []


def test_a_file_that_changes_while_it_is_sent_is_not_stored(s3: S3Store, s3_line: FaultyLine, tmp_path: Path):
    (tmp_path / "file").write_bytes(IN_PARTS)
    begun = s3_line.fault("pass", "POST prefix/key?uploads")
    begun.then = lambda: (tmp_path / "file").write_bytes(IN_PARTS[::-1])
    with pytest.raises(StorageError, match="prefix/key: the file changed while it was sent; run again"):
        s3.write("key", tmp_path / "file")
    assert left_in(s3) == []


def test_a_big_object_that_exists_is_not_sent_at_all(s3: S3Store, s3_line: FaultyLine):
    s3.write("key", IN_PARTS)
    s3_line.requests.clear()
    s3.write("key", IN_PARTS)
    with pytest.raises(ConflictError, match="prefix/key exists with other content"):
        s3.write("key", IN_PARTS + b"1")
    assert {line.split()[0] for line in s3_line.requests} == {"HEAD"}


def test_a_race_for_a_big_object_has_one_winner(s3: S3Store, monkeypatch: pytest.MonkeyPatch):
    """Each looks whether it exists before it sends, and it does not: the condition decides at the end."""
    monkeypatch.setattr(s3_module, "WHOLE_BYTES", 1 << 30)  # in parts SeaweedFS lets several win

    def write(number: int) -> bool:
        try:
            return bool(s3.write("key", IN_PARTS + bytes([number])))
        except ConflictError:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 1
    assert left_in(s3) == ["key"]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ("403 AccessDenied", AccessError, "some/key: permission s3:GetObject is missing"),
        ("403 InvalidAccessKeyId", AccessError, "does not take these keys; look at AWS_ACCESS_KEY_ID"),
        ("403 SignatureDoesNotMatch", AccessError, "does not take these keys"),
        ("400 ExpiredToken", AccessError, "the credentials have expired"),
        ("403 RequestTimeTooSkewed", AccessError, "the clock of this machine is not that of the service"),
        ("400 AuthorizationHeaderMalformed", ConfigError, "another region; set AWS_REGION"),
        ("400 SomethingElse", StorageError, "SomethingElse"),
    ],
)
@pytest.mark.parametrize("method", ["read", "stat"])
def test_what_the_service_refuses_is_said_with_what_helps(
    s3: S3Store, s3_line: FaultyLine, method: str, answer: str, kind: type[HQClipError], said: str
):
    s3_line.fault("refuse", "some/key", answer, times=2 if method == "stat" else 1)  # of HEAD the body says why
    with pytest.raises(kind, match=said):
        getattr(s3, method)("some/key")


def test_a_missing_permission_to_write_list_or_delete_is_named(s3: S3Store, s3_line: FaultyLine):
    s3.write("key", b"x")
    s3_line.fault("refuse", "PUT other", "403 AccessDenied")
    with pytest.raises(AccessError, match="prefix/other: permission s3:PutObject is missing"):
        s3.write("other", b"x")
    s3_line.fault("refuse", "GET list-type", "403 AccessDenied")
    with pytest.raises(AccessError, match="prefix/a: permission s3:ListBucket is missing"):
        list(s3.list("a"))
    s3_line.fault("refuse", "DELETE", "403 AccessDenied")
    with pytest.raises(AccessError, match="prefix/key: permission s3:DeleteObject is missing"):
        s3.delete("key")


def test_wrong_keys_are_refused_by_the_server_itself(s3: S3Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for call in (s3.read, s3.stat):
        with pytest.raises(AccessError, match="does not take these keys; look at AWS_ACCESS_KEY_ID"):
            call("key")


def test_missing_credentials_are_an_access_error(s3: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AccessError, match="no valid credentials; set AWS_ACCESS_KEY_ID and"):
        s3.read("key")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "store.example", "store.example"),
        ("AWS_REGION", "no region", "no region"),
        ("AWS_PROFILE", "nobody", "nobody"),
        ("AWS_CA_BUNDLE", "/no/such/file", "AWS_CA_BUNDLE is '/no/such/file', and there is no such file"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/file", "AWS_WEB_IDENTITY_TOKEN_FILE is '/no/such/file'"),
    ],
)
def test_settings_that_cannot_be_are_named(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        s3.read("key")


def test_the_region_is_that_of_the_environment(s3_line: FaultyLine, monkeypatch: pytest.MonkeyPatch):
    assert client().meta.region_name == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert client().meta.region_name == "eu-north-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert client().meta.region_name == "eu-west-3"


def test_a_ca_of_ones_own_is_trusted_by_its_file_and_by_nothing_else(
    s3_server: str, s3: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    certificate_for("127.0.0.1", tmp_path / "cert.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with FaultyLine(s3_server, context) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        with pytest.raises(ConfigError, match="not trusted; name a file with that of its CA in AWS_CA_BUNDLE"):
            s3.write("key", b"x")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        s3.write("key", b"x")
        assert s3.read("key") == b"x"


def test_a_listing_goes_over_all_pages_in_the_order_of_whole_keys(s3: S3Store, monkeypatch: pytest.MonkeyPatch):
    keys = ["a-b", "a/b", "a/c/d", "a0", *(f"b/{number}" for number in range(10, 17))]
    for key in reversed(keys):
        s3.write(key, b"")
    put_in_s3(s3, "b/", b"")
    monkeypatch.setattr(client(), "list_objects_v2", partial(client().list_objects_v2, MaxKeys=3))
    assert list(s3.list()) == keys
    assert list(s3.list("b/1")) == keys[4:]


def test_a_bucket_that_does_not_exist_is_named(s3_line: FaultyLine):
    fault = s3_line.fault("refuse", "missing", "404 NoSuchBucket", times=10_000)  # SeaweedFS makes it
    store = quick_s3("s3://missing")
    for call in (lambda: list(store.list("a")), lambda: store.write("a", b"x"), lambda: store.read("a")):
        with pytest.raises(NotFoundError, match="s3://missing/.*: there is no such bucket; make it"):
            call()
    fault.times = fault.fired
    assert quick_s3("s3://bucket/nothing").stat("a") is None


def test_what_others_have_uploaded_is_read_for_its_checksum(s3: S3Store, s3_line: FaultyLine, tmp_path: Path):
    put_in_s3(s3, "00000.tar", b"0123456789")
    info = s3.stat("00000.tar")
    assert info and (info.size, info.crc32c) == (10, google_crc32c.value(b"0123456789"))
    assert s3.read("00000.tar") == b"0123456789"
    assert s3.download("00000.tar", tmp_path / "copy") == info
    known = base64.b64encode(google_crc32c.value(b"x").to_bytes(4, "big")).decode()
    put_in_s3(s3, "known", b"x", ChecksumCRC32C=known)
    s3_line.requests.clear()
    stat = s3.stat("known")
    assert stat and stat.crc32c == google_crc32c.value(b"x")
    assert [line.split()[0] for line in s3_line.requests] == ["HEAD"]
    put_in_s3(s3, "odd", b"x", Metadata={"hqclip-crc32c": "nonsense"})
    stat = s3.stat("odd")
    assert stat and stat.crc32c == google_crc32c.value(b"x")


def test_to_name_shards_none_is_read(s3: S3Store, s3_line: FaultyLine, tmp_path: Path):
    put_in_s3(s3, "pool/00000.tar", b"theirs")
    ours = s3.write("pool/00001.tar", b"ours")
    s3_line.requests.clear()
    found = list_shards(f"{s3.uri}/pool/{{00000..00001}}.tar")
    etag = hashlib.md5(b"theirs", usedforsecurity=False).hexdigest()
    assert [(shard.size, shard.identity) for _, shard in found] == [(6, f'"{etag}"'), (4, ours.crc32c)]
    assert {line.split()[0] for line in s3_line.requests} == {"HEAD"}
    assert [shard.name for _, shard in list_shards(f"{s3.uri}/pool")] == ["00000.tar", "00001.tar"]
    for source, shard in found:
        source.download(shard, tmp_path / shard.name)
    assert (tmp_path / "00000.tar").read_bytes() == b"theirs"
    with pytest.raises(NotFoundError, match=r"00002.tar does not exist \(2 of the 3 shards"):
        list_shards(f"{s3.uri}/pool/{{00000..00002}}.tar")


def test_a_server_that_keeps_all_promises_is_left_as_it_was(s3: S3Store):
    assert s3.broken_promises() == ()
    assert left_in(s3) == []


@pytest.mark.parametrize(
    ("request_of", "header", "broken"),
    [
        ("PUT probe", "If-None-Match", CREATES),
        ("PUT probe", "If-Match", SWAPS),
        ("POST probe uploadId", "If-None-Match", PARTS),
        ("PUT probe", "Content-MD5", DIGESTS),
        ("PUT probe", "x-amz-meta-a", METADATA),
    ],
)
def test_each_promise_that_a_server_breaks_is_named(
    s3: S3Store, s3_line: FaultyLine, request_of: str, header: str, broken: str
):
    fault = s3_line.fault("ignore", request_of, header, times=20)
    assert s3.broken_promises() == (broken,)
    fault.times = fault.fired
    assert left_in(s3) == []


def test_a_server_that_looks_and_writes_later_is_named(s3: S3Store, s3_line: FaultyLine):
    """It keeps its promise to one after another, and breaks it to those who come at the same moment."""
    s3_line.fault("ignore", "PUT probe", "If-None-Match", times=4)
    assert s3.broken_promises() == (RACES,)
    s3_line.fault("ignore", "PUT probe", "If-None-Match", times=4)
    with pytest.raises(ConfigError, match="of several who create the same object at the same moment more than one"):
        s3.write("key", b"x")
    assert left_in(s3) == []


def test_a_lost_answer_to_a_probe_is_no_broken_promise(s3: S3Store, s3_line: FaultyLine):
    s3_line.fault("lose", "PUT probe", times=4)
    assert s3.broken_promises() == ()


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_nothing_is_written_to_a_server_that_ignores_conditions(s3: S3Store, s3_line: FaultyLine, header: str):
    fault = s3_line.fault("ignore", "", header, times=20)
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"cannot hold a store; take another server. {header} is ignored"):
            s3.write("key", b"x")
    fault.times = fault.fired
    assert left_in(s3) == []
    s3.write("key", b"x")


def test_nothing_big_is_written_to_a_server_that_ignores_conditions_for_parts(s3: S3Store, s3_line: FaultyLine):
    s3.write("small", b"x")
    fault = s3_line.fault("ignore", "POST uploadId", "If-None-Match", times=20)
    with pytest.raises(ConfigError, match="If-None-Match is ignored or refused for uploads in parts"):
        s3.write("key", IN_PARTS)
    fault.times = fault.fired
    assert left_in(s3) == ["small"]


def test_a_server_that_refuses_conditions_is_named(s3: S3Store, s3_line: FaultyLine):
    s3_line.fault("refuse", "PUT probe", "501 NotImplemented", times=4)
    with pytest.raises(ConfigError, match="If-None-Match is ignored or refused for uploads"):
        s3.write("key", b"x")


def test_conditions_are_tried_once_in_a_process(s3: S3Store, s3_line: FaultyLine):
    for number in range(3):
        s3.write(f"{number}", b"x")
    probes = [line.split()[0] for line in s3_line.requests if ".hqclip-probe-" in line]
    assert probes == ["PUT"] * 6 + ["DELETE"]


def test_what_a_probe_has_left_behind_is_in_no_listing(s3: S3Store):
    put_in_s3(s3, ".hqclip-probe-1", b"x")
    assert list(s3.list()) == []
