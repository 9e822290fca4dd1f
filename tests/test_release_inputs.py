"""No input of a pipeline changes from one release to the next without a line in CHANGELOG.md.

`tests/releases/inputs.json` has the inputs of every release; a release adds its own, as `inputs()` has them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compiling import PIPELINES, compile_pipeline

ROOT = Path(__file__).parents[1]
RELEASED: dict[str, dict[str, dict[str, Any]]] = json.loads((ROOT / "tests/releases/inputs.json").read_text())
LAST = RELEASED[max(RELEASED, key=lambda version: [int(part) for part in version.split(".")])]
UNRELEASED = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def inputs(pipeline: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Type and default of each input, as Kubeflow is told."""
    compiled = compile_pipeline(pipeline, folder / f"{pipeline}.yaml")
    told = next(yaml.safe_load_all(compiled.read_text()))["root"]["inputDefinitions"]["parameters"]
    return {
        name: {
            "type": one["parameterType"],
            **({"default": one["defaultValue"]} if "defaultValue" in one else {}),
        }
        for name, one in told.items()
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_changed_since_the_last_release_is_in_the_changelog(pipeline: str, tmp_path: Path) -> None:
    assert UNRELEASED.startswith("Unreleased")
    names = changed(LAST.get(pipeline, {}), inputs(pipeline, tmp_path))
    unsaid = sorted(name for name in names if f"`{name}`" not in UNRELEASED)
    assert not unsaid, f"inputs of {pipeline} that changed: add them to CHANGELOG.md, Pipeline inputs"


def test_a_new_default_another_type_and_a_name_that_is_gone_are_changes() -> None:
    text, number = {"type": "STRING", "default": "a"}, {"type": "NUMBER_INTEGER", "default": 1.0}
    before = {"same": text, "default": text, "type": text, "gone": text}
    after = {"same": text, "default": {**text, "default": "b"}, "type": number, "new": text}
    assert changed(before, after) == {"default", "type", "gone", "new"}
