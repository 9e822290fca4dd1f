"""Named hardware and networks, as data: `profiles.yaml` beside this file, and further ones of the user.

A profile is settings of `LaunchSpec`; a network is patches, and a script whose environment the ranks take over.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from hqclip.errors import ConfigError
from hqclip.launch.patches import Json, read_patches
from hqclip.settings import did_you_mean
from hqclip.strict_yaml import read_yaml

NETWORK = ("about", "security", "environment_script", "patches")
OWN = "HQCLIP_PROFILES"  # environment variable: a YAML file with further `profiles:` and `networks:`


def find_profile(name: str) -> dict[str, Any]:
    """Settings of a profile. Raises `ConfigError` for an unknown one."""
    known = read_profiles()["profiles"]
    if name not in known:
        raise ConfigError(
            f"unknown profile {name!r}{did_you_mean(name, known)}; one of {', '.join(known)}, or add it to the file "
            f"that {OWN} names"
        )
    return {key: value for key, value in known[name].items() if key != "about"}


def find_network(name: str) -> dict[str, Any]:
    """A network preset. Raises `ConfigError` for an unknown one."""
    known = read_profiles()["networks"]
    if name not in known:
        raise ConfigError(f"unknown network {name!r}{did_you_mean(name, known)}; one of {', '.join(known)}")
    return dict(known[name])


def network_patches(name: str) -> list[Json]:
    """What a network changes in the pods."""
    return list(find_network(name).get("patches", []))


def read_profiles() -> dict[str, dict[str, Any]]:
    """Profiles and networks by name, the user's over ours."""
    shipped = _read(Path(__file__).with_name("profiles.yaml"))
    own = _read(Path(os.environ[OWN])) if os.environ.get(OWN) else {}
    for name, network in (own.get("networks") or {}).items():
        _check_network(name, network)
    return {kind: {**shipped[kind], **(own.get(kind) or {})} for kind in ("profiles", "networks")}


def _check_network(name: str, network: Json) -> None:
    """Raises `ConfigError` for what would be passed over in silence."""
    unknown = sorted(set(network) - set(NETWORK))
    if unknown:
        raise ConfigError(f"network {name}: unknown {unknown[0]}{did_you_mean(unknown[0], NETWORK)}")
    problems = read_patches(json.dumps(network.get("patches", [])))[1]
    if not isinstance(network.get("environment_script", ""), str):
        problems.append("environment_script must be the path of a script")
    if problems:
        raise ConfigError(f"network {name}: {'; '.join(problems)}")


@cache
def _read(path: Path) -> dict[str, Any]:
    try:
        written = read_yaml(path.read_bytes(), f"profiles {path}")
    except OSError as error:
        raise ConfigError(f"profiles {path}: {error}") from error
    if not isinstance(written, dict) or not set(written) <= {"profiles", "networks"}:
        raise ConfigError(f"profiles {path}: give `profiles:` and `networks:`, each a mapping by name")
    for kind, named in written.items():
        if not isinstance(named or {}, dict) or not all(isinstance(it, dict) for it in (named or {}).values()):
            raise ConfigError(f"profiles {path}: {kind} must be a mapping of names to mappings")
    return written
