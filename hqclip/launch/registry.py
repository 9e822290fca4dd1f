"""The table of schedulers: the name that a spec gives, and where all that is particular to it stands.

The spec lists the names and asks each for its refusals, so this stands below it: a scheduler is loaded when it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

LOCAL = "local"  # processes of this machine, see schedulers/local.py
# a `Scheduler` for each kind of object that runs jobs on Kubernetes; each has an entry point for TorchX, in
# pyproject.toml
KUBERNETES = {
    "volcano": "hqclip.launch.schedulers.volcano:Volcano",
    "jobset": "hqclip.launch.schedulers.jobset:JobSet",
}
SCHEDULERS = (LOCAL, *KUBERNETES)


def load(name: str) -> Any:
    """The `Scheduler` of this name. Raises `KeyError` for what is none of Kubernetes."""
    module, _, kind = KUBERNETES[name].partition(":")
    return getattr(importlib.import_module(module), kind)()
