"""Settings of `hqclip models`."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.config import STORE
from hqclip.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ModelsFetchConfig(Settings):
    """Fetch a model from a hub or bucket into the cache of this machine, and mirror it into a store."""

    model: str = setting("name of the hub with its revision (org/name@revision), gs://, s3://, or a folder")
    to: str = setting(f"{STORE} to mirror it into; empty only fills the cache", "")
