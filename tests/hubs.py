"""What tests of models share: a hub that the client in this process speaks to, and a cache of their own.

A plugin of pytest (see `conftest.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hub import FakeHub


@pytest.fixture
def models_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where models are kept; nothing is there."""
    monkeypatch.setenv("HQCLIP_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models_cache: Path) -> Iterator[FakeHub]:
    """The hub; the client read its environment when it was imported, and is told anew."""
    from huggingface_hub import constants

    with FakeHub() as fake:
        monkeypatch.setattr(constants, "ENDPOINT", fake.url)
        files = fake.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own"))
        yield fake


def environment_of(hub: FakeHub, cache: Path) -> dict[str, str]:
    """Of a process that speaks to this hub."""
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache.parent / "home")}
    return {**os.environ, **own, "HQCLIP_MODELS": str(cache)}
