"""Where the container images are: one place, so that a release pins them all."""

from __future__ import annotations

import os

REGISTRY = "hqclip"  # `HQCLIP_REGISTRY` and `HQCLIP_TAG` at compile time name another place and version
TAG = "0.1.0"


def ref(role: str) -> str:
    """The image of a role: base, annotate, train or launch."""
    return f"{os.environ.get('HQCLIP_REGISTRY', REGISTRY)}/{role}:{os.environ.get('HQCLIP_TAG', TAG)}"
