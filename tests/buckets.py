"""What tests of stores in buckets share: the service, and stores in it that are quick to try again.

A plugin of pytest (see `conftest.py`), so that its fixtures are everywhere; the clients are imported on use only. The
server of S3 is started once; `HQCLIP_TEST_S3` names another one, for which the environment has the keys.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.gcs import FakeGcs

if TYPE_CHECKING:
    from hqclip.store.gcs import GcsStore
    from hqclip.store.s3 import S3Store
    from tests.fakes.s3 import FaultyLine


@pytest.fixture
def fake_gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The service; every fault a test scripts must have happened by its end."""
    with FakeGcs("bucket", "elsewhere") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield fake
        assert not fake.unfired()


@pytest.fixture
def gcs(fake_gcs: FakeGcs) -> GcsStore:
    """A store below a prefix."""
    return quick_store("gs://bucket/deep/prefix")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server with the buckets `bucket` and `elsewhere`."""
    from botocore.session import Session

    from tests.fakes.s3 import KEYS, SeaweedFS

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        url = os.environ.get("HQCLIP_TEST_S3", "")
        if not url:
            url = stack.enter_context(SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))).url
            for name, value in KEYS.items():
                patch.setenv(name, value)
        client = Session().create_client("s3", region_name="us-east-1", endpoint_url=url)
        for name in ("bucket", "elsewhere"):
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket=name)
        yield url


@pytest.fixture
def s3_line(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyLine]:
    """The way to the server; every fault a test scripts must have happened by its end."""
    from hqclip.store import s3_promises
    from tests.fakes.s3 import KEYS, FaultyLine

    monkeypatch.setattr(s3_promises, "_kept", set())  # ports come again
    with FaultyLine(s3_server) as line:
        for name in [name for name in os.environ if name.startswith("AWS_") and name not in KEYS]:
            monkeypatch.delenv(name)
        if "HQCLIP_TEST_S3" not in os.environ:
            for name, value in KEYS.items():
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield line
        assert not line.unfired()


@pytest.fixture
def s3(s3_line: FaultyLine) -> S3Store:
    """A store below a prefix that nobody else has."""
    return quick_s3(f"s3://bucket/{secrets.token_hex(8)}/deep/prefix")


def quick_s3(uri: str, timeout_s: float = 30) -> S3Store:
    """A store that waits next to nothing between two tries."""
    from hqclip.store.s3 import S3Store
    from hqclip.store.s3_client import Patience

    return S3Store(uri, Patience(timeout_s, 0.001, 0.01))


def quick_store(uri: str, timeout_s: float = 30) -> GcsStore:
    """A store that waits next to nothing between two tries."""
    from hqclip.store.gcs import RETRY, GcsStore

    return GcsStore(uri, RETRY.with_timeout(timeout_s).with_delay(initial=0.001, maximum=0.01))


class PassingTime:
    """Seconds that pass where somebody sleeps, and never while a request is on its way."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def put_in_s3(store: S3Store, key: str, data: bytes, **about: Any) -> None:
    """As any other program does."""
    from hqclip.store.s3_client import client

    bucket, _, root = store.uri.removeprefix("s3://").partition("/")
    client().put_object(Bucket=bucket, Key=f"{root}/{key}", Body=data, **about)


def names_in(folder: Path) -> list[str]:
    """All that is below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
