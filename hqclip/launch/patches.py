"""The escape hatch: changes to a rendered object, in order; named things in lists are merged by name, as in kubectl."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hqclip.strict_json import read_json

Json = dict[str, Any]
TARGETS = "job, pod, container or container:NAME"
# the key by which the items of a list are the same thing; other lists are replaced
_SAME = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
}
_ADDED = ("tolerations",)


def read_patches(text: str) -> tuple[list[Json], list[str]]:
    """The patches of a JSON list, and what is wrong with it."""
    try:
        patches = read_json(text or "[]")
    except ValueError as error:
        return [], [f"patches {error}"]
    if not isinstance(patches, list):
        return [], ["patches must be a list of objects with target and patch"]
    problems = []
    for number, patch in enumerate(patches, start=1):
        if not isinstance(patch, dict) or set(patch) != {"target", "patch"} or not isinstance(patch["patch"], dict):
            problems.append(f"patches: number {number} must be an object with just target ({TARGETS}) and patch")
        elif patch["target"] not in ("job", "pod", "container") and not str(patch["target"]).startswith("container:"):
            problems.append(f"patches: number {number} has the target {patch['target']!r}; give {TARGETS}")
    return ([] if problems else patches), problems


def apply_patches(target: str, patched: Json, patches: Sequence[Json]) -> Json:
    """`patched` with the patches for `target` merged in; a null removes."""
    for patch in patches:
        if patch["target"] == target:
            patched = merge(patched, patch["patch"])
    return patched


def merge(old: Any, new: Any, key: str = "") -> Any:
    """`new` laid over `old`: objects key by key, lists of named things by name, everything else replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = copy.deepcopy(old)
        for name, value in new.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged[name], value, name) if name in merged else _bare(value)
        return merged
    if isinstance(old, list) and isinstance(new, list):
        return _merge_lists(old, new, key)
    return _bare(new)


def _bare(value: Any) -> Any:
    """A copy without nulls: what is not there needs no removal."""
    if isinstance(value, dict):
        return {name: _bare(item) for name, item in value.items() if item is not None}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _merge_lists(old: list[Any], new: list[Any], key: str) -> list[Any]:
    if key in _ADDED:
        return [*copy.deepcopy(old), *(item for item in _bare(new) if item not in old)]
    name = _SAME.get(key)
    if name is None or not all(isinstance(item, dict) for item in [*old, *new]):
        return [_bare(item) for item in new]
    merged = [copy.deepcopy(item) for item in old]
    for item in new:
        place = next((i for i, there in enumerate(merged) if there.get(name) == item.get(name)), None)
        if place is None:
            merged.append(_bare(item))
        else:
            merged[place] = merge(merged[place], item)
    return merged
