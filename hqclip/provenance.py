"""What a process is out: the `provenance` that it writes into what it makes. Standard library only.

It says who made something first, and is no part of what that is: no digest covers it, and equal manifests may differ
in it. What is not known is said to be `unknown`, or empty, and never guessed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, TypedDict

from hqclip import __version__
from hqclip.known_secrets import without_user

RUN, IMAGE, REVISION = "HQCLIP_RUN", "HQCLIP_IMAGE", "HQCLIP_REVISION"  # environment of a task
UNKNOWN = "unknown"
PACKAGES = (
    *("numpy", "pyarrow", "pillow", "safetensors"),
    *("torch", "torchvision", "open_clip_torch", "transformers", "vllm", "trl", "peft"),
)  # those whose version may change what is made


class Lvlm(TypedDict, total=False):
    """Which one annotated: its name, the revision that a hub gave, the digest of its files."""

    model: str
    revision: str
    digest: str


class Source(TypedDict, total=False):
    """What a pattern of shards named when a cycle was planned."""

    digest: str
    shards: int


class Provenance(TypedDict, total=False):
    """What `made_by` says; each stage may say more."""

    stage: str
    time: str
    code_version: str
    commit: str
    image: str
    run: str
    python: str
    packages: dict[str, str]
    settings: dict[str, Any]
    parents: list[str]
    lvlm: Lvlm
    source: Source


def made_by(stage: str, settings: Mapping[str, Any], parents: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    """The provenance of what this process makes as `stage`, with these settings, out of `parents`, keys in the store.

    Names and passwords in addresses are left out. `more` is said as it is.
    """
    return {
        "stage": stage,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": __version__,
        "commit": commit(),
        "image": os.environ.get(IMAGE, ""),
        "run": os.environ.get(RUN, ""),
        "python": platform.python_version(),
        "packages": packages(),
        "settings": {
            name: without_user(value) if isinstance(value, str) else value for name, value in settings.items()
        },
        "parents": [parent for parent in parents if parent],
        **more,
    }


def completed(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance with all that is asked of one: what it does not say is unknown, or empty."""
    names = ("stage", "time", "code_version", "commit")
    return {**dict.fromkeys(names, UNKNOWN), "image": "", "run": "", "packages": {}, "settings": {}, **provenance}


def commit() -> str:
    """The git commit of this code: as its image says, or the package that pip built from a repository; or `unknown`."""
    if told := os.environ.get(REVISION, ""):
        return told
    try:
        installed = json.loads(metadata.distribution("hqclip").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return UNKNOWN
    return str(installed.get("vcs_info", {}).get("commit_id") or UNKNOWN)


def packages() -> dict[str, str]:
    """The versions of those packages that are installed here."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
