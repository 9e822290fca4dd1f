"""What tests of stores in buckets share: the service, and stores in it that are quick to try again.

A plugin of pytest (see `conftest.py`), so that its fixtures are everywhere; Google's client is imported on use only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.fakes.gcs import FakeGcs

if TYPE_CHECKING:
    from hqclip.store.gcs import GcsStore


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


def quick_store(uri: str, timeout_s: float = 30) -> GcsStore:
    """A store that waits next to nothing between two tries."""
    from hqclip.store.gcs import RETRY, GcsStore

    return GcsStore(uri, RETRY.with_timeout(timeout_s).with_delay(initial=0.001, maximum=0.01))
