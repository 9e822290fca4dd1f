"""JSON that a person wrote: what a reader would pass over in silence, or choke on, is said by its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import AnnotateConfig, PlanConfig
from hqclip.cycle.sweep import read_trials
from hqclip.errors import ConfigError
from hqclip.launch.component import stage
from hqclip.launch.platform import read_workers
from hqclip.launch.spec import LaunchSpec
from hqclip.project import Project, Value
from hqclip.settings import as_items, read_overrides
from hqclip.strict_json import DEEPEST, read_json
from pipelines.client.inputs import read_inputs
from pipelines.run_sweep import make_trials

MANY_DIGITS = "9" * 5000
DEEP = "[" * 100_000


def refused(text: str | bytes, **how: Any) -> str:
    with pytest.raises(ValueError, match=r"^(has|is) .") as fault:
        read_json(text, **how)
    return str(fault.value)


@pytest.mark.parametrize("text", ["{}", "3", '"a"', '[{"a": 1, "b": [1.5, null]}, {"a": -2e3}]', '{"a": {"a": {}}}'])
def test_what_json_says_is_what_it_means(text: str) -> None:
    assert read_json(text) == read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "has 'a' twice"),
        ('{"a": 1, "\\u0061": 1}', "has 'a' twice"),
        ('[1, {"patch": {"spec": {"x": 1, "x": 2}}}]', "has 'x' twice in [1].patch.spec"),
        ('{"train.seed": [{"100%": 1, "100%": {"a": 1, "a": 2}}]}', "has '100%' twice in ['train.seed'][0]"),
        ('[{"a": 1, "a": 2}, {"b": 1, "b": 2}]', "has 'a' twice in [0]"),
        ("NaN", "has NaN, which is no number of JSON"),
        ('{"a": [1, -Infinity]}', "has -Infinity in a[1], which is no number of JSON"),
        ('{"a": -1e999}', "has -1e999 in a, which is too large a number"),
        (MANY_DIGITS, "has a number of more than 4,300 digits"),
        (DEEP, "is nested more than 100 deep"),
        ('{"a":' * 100_000, "is nested more than 100 deep"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "is nested more than 100 deep"),
        ("[1,]", "is not valid JSON at character 3: Expecting value"),
        ('{\n "a": b}', "is not valid JSON at line 2, column 7: Expecting value"),
        ("", "is not valid JSON at character 0: Expecting value"),
        (b'"\xff"', "is no text (invalid start byte at byte 1)"),
    ],
)
def test_what_would_be_lost_or_make_no_sense_is_named_by_its_place(text: str | bytes, said: str) -> None:
    assert refused(text) == said


def test_what_is_as_deep_as_anything_may_be_is_read() -> None:
    text = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(read_json(text)) == text


def test_data_that_a_program_wrote_may_have_what_python_writes_for_no_number() -> None:
    assert read_json('{"area": [NaN, Infinity]}', finite=False)["area"][1] == float("inf")
    assert refused('{"a": NaN, "a": NaN}', finite=False) == "has 'a' twice"


def read_below(text: str) -> None:
    """Overrides over what a project file says of stages."""
    Project(None, {("curate", "name"): Value("n", "hqclip.yaml:1")}).under("plan", PlanConfig, {"overrides": text})


READERS: dict[str, Callable[[str], Any]] = {
    "overrides": read_overrides,
    "overrides over a project file": read_below,
    "trials": read_trials,
    "patches": lambda text: LaunchSpec(patches=text),
    "node_affinity": lambda text: LaunchSpec(node_affinity=text),
    "engine_options": lambda text: AnnotateConfig(store="s", pool="p", engine_options=text),
    "settings": lambda text: stage("train", "none.yaml", text),
    "workers": read_workers,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": 1, "x": 2}', "has 'x' twice"),
        ('[{"x": {"y": 1, "y": 2}}]', "has 'y' twice in [0].x"),
        ('{"x": NaN}', "has NaN in x, which is no number of JSON"),
        ('{"x": 1e999}', "has 1e999 in x, which is too large a number"),
        (DEEP, "is nested more than 100 deep"),
        ('{"x": ' + MANY_DIGITS + "}", "has a number of more than 4,300 digits"),
        ("{", "is not valid JSON at character 1"),
    ],
)
def test_every_setting_that_is_json_is_read_so(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as fault:
        READERS[name](text)
    assert f"{name.split()[0]} {said}" in str(fault.value)


def test_a_list_that_is_json_is_read_so() -> None:
    with pytest.raises(ValueError, match="^is nested more than 100 deep"):
        as_items(DEEP)
    with pytest.raises(ConfigError, match=r"^env has 'a' twice in \[0\], got"):
        LaunchSpec.from_mapping({"env": '[{"a": "b", "a": "c"}]'})


def test_an_input_of_a_pipeline_that_asks_for_json_says_what_is_wrong_with_it() -> None:
    known = {"text": {"parameterType": "STRING"}, "mapping": {"parameterType": "STRUCT"}}
    assert read_inputs(known, [f"text={DEEP}", 'mapping={"a": 1}']) == {"text": DEEP, "mapping": {"a": 1}}
    with pytest.raises(ConfigError, match="which has 'a' twice; give a mapping as JSON"):
        read_inputs(known, ['mapping={"a": 1, "a": 2}'])


def test_a_setting_of_a_trial_is_given_once_whatever_it_is_called() -> None:
    for text in ('[{"settings": {"seed": 1, "train.seed": 2}}]', '{"train.seed": [1, 2], "seed": [3]}'):
        with pytest.raises(ConfigError, match="seed and train.seed are one; give it once"):
            read_trials(text)


def test_a_grid_may_hold_any_word_and_a_list_any_date(tmp_path: Path) -> None:
    (deep,) = make_trials([f"train.model={'[' * 1000}"], None)
    assert deep["settings"] == {"model": "[" * 1000}
    (tmp_path / "trials.yaml").write_text("- {name: a, settings: {model: 2026-01-01}}\n")
    (trial,) = make_trials([], tmp_path / "trials.yaml")
    assert trial["settings"] == {"model": "2026-01-01"}
