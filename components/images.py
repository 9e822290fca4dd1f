"""Where the container images are: one place, so that a release pins them all.

`images/lock.json`, which `make pin` writes, holds the digests of a release. Without it, or told so by `HQCLIP_TAG`,
images are named by a tag; `HQCLIP_REGISTRY` names another place for the same images, such as a mirror.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hqclip import __version__
from hqclip.errors import ConfigError
from hqclip.stages import STAGES

REGISTRY = "hqclip"
ROLES = (*dict.fromkeys(stage.image for stage in STAGES.values()), "launch")  # the last only waits for a job
LOCK = Path(__file__).parents[1] / "images" / "lock.json"


def of_stage(stage: str) -> str:
    """The image of a stage, as the table of stages says."""
    return ref(STAGES[stage].image)


def ref(role: str) -> str:
    """The image of a role, one of `ROLES`. By digest if it is known and no tag is asked for."""
    locked = read_lock(LOCK)
    registry = os.environ.get("HQCLIP_REGISTRY") or locked["registry"]
    digest = locked["digests"].get(role)
    if digest and not os.environ.get("HQCLIP_TAG"):
        return f"{registry}/{role}@{digest}"
    return f"{registry}/{role}:{os.environ.get('HQCLIP_TAG') or __version__}"


def read_lock(path: Path) -> dict[str, Any]:
    """`registry` and `digests` by role; those of no release if there is no such file. Raises `ConfigError`."""
    if not path.is_file():
        return {"registry": REGISTRY, "digests": {}}
    try:
        locked = json.loads(path.read_text())
        return {"registry": str(locked["registry"]), "digests": dict(locked["digests"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a lock of images ({error!r}); write it again with `make pin`") from error


def check_pinned(references: Iterable[str]) -> None:
    """Raises `ConfigError` for images named by a tag, whose content may change, unless `HQCLIP_TAG` asks for one."""
    floating = sorted({reference for reference in references if "@sha256:" not in reference})
    if floating and not os.environ.get("HQCLIP_TAG"):
        raise ConfigError(
            f"images without a digest: {', '.join(floating)}. A tag can name another image tomorrow: push the images "
            "and run `make pin`, or accept tags with --allow-tags or HQCLIP_TAG"
        )
