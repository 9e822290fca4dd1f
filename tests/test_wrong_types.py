"""Documents that are JSON, and say something of another type: a sentence of ours or nothing, and never a traceback."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from hqclip.cli import COMMANDS
from hqclip.config import PlanConfig
from hqclip.cycle import promote
from hqclip.cycle.keys import record_key
from hqclip.errors import ConfigError, DataError, HQClipError
from hqclip.records import Bar, CycleRecord, Manifest, Pool, Sample, ShardEntry
from hqclip.store import open_store
from hqclip.strict_json import DEEPEST
from hqclip.strict_yaml import read_yaml
from hqclip.task_records import TaskRecord
from hqclip.typed_json import WrongValueError, loads, read_as
from tests import promoting
from tests.test_formats import READ

GONE = object()
OTHERS: tuple[Any, ...] = (
    None,
    "x",
    -1,
    [],
    {},
    GONE,
    [None],
    {"a": None},
    10**400,
    True,
    1.5,
    "\ud800",
    "../\0",
    [[]],
)
Where = tuple[str | int, ...]


def places(said: Any, at: Where = ()) -> Iterator[Where]:
    """Where something stands in a document; of a list the first."""
    inside = said.items() if isinstance(said, dict) else enumerate(said[:1]) if isinstance(said, list) else ()
    for name, value in inside:
        yield (*at, name)
        yield from places(value, (*at, name))


def replaced(said: Any, at: Where, by: Any) -> bytes:
    """The document with another value at a place, or with none."""
    said = copy.deepcopy(said)
    inner = said
    for step in at[:-1]:
        inner = inner[step]
    if by is GONE:
        del inner[at[-1]]
    else:
        inner[at[-1]] = by
    return json.dumps(said).encode()


@pytest.mark.parametrize(("kind", "document"), READ, ids=[f"{k.KIND} {k.NUMBER}" for k, _ in READ])
def test_a_manifest_with_anything_anywhere_is_read_or_named_as_damaged(kind: type[Manifest], document: dict[str, Any]):
    refusals = []
    for at in places(document):
        for other in OTHERS:
            try:
                kind.from_json(replaced(document, at, other), "somewhere")
            except DataError as error:
                refusals.append(str(error))
    assert len(refusals) > 40
    assert {told for told in refusals if not told.startswith("somewhere: ")} == set()


RECORD = {
    "kind": "cycle",
    "format": 1,
    "cycle": 2,
    "parent": 1,
    "fingerprint": "f",
    "dataset": "datasets/a/dataset.json",
    "runs": [{"name": "raw", "run": "runs/a", "model_digest": "d", "evaluation": "e", "average": 1}],
    "candidate": "runs/a/model",
    "verdict": "promoted",
    "reason": "",
    "report": "",
    "gate": [{"rule": "margin", "metric": "average", "candidate": 0.5, "threshold": 0.1, "passed": True}],
    "provenance": {"stage": "promote", "packages": {"torch": "2.9"}},
}


@pytest.mark.parametrize(
    ("at", "other", "said"),
    [
        (("parent",), "x", "parent is text, where a whole number belongs"),
        (("parent",), 0.5, "parent is a fraction, where a whole number belongs"),
        (("parent",), True, "parent is true or false, where a whole number belongs"),
        (("parent",), 2**70, "parent is a number beyond all bounds, where a whole number belongs"),
        (("parent",), 2, "parent is 2, where a cycle before 2 belongs"),  # the lineage would have no end
        (("dataset",), "a", "dataset is no key of a data set"),
        (("runs",), "x", "runs is text, where a list belongs"),
        (("runs", 0), None, r"runs\[0\] is null, where an object belongs"),
        (("runs", 0, "evaluation"), {}, r"runs\[0\].evaluation is an object, where text belongs"),
        (("runs", 0, "average"), float("nan"), r"runs\[0\].average is no finite number, where a number belongs"),
        (("runs", 0, "name"), GONE, r"runs\[0\].name is missing"),
        (("gate", 0, "passed"), 1, r"gate\[0\].passed is a whole number, where true or false belongs"),
        (("gate", 0, "difference"), [1, 2], r"gate\[0\].difference is a list of 2, where a list of 3 belongs"),
        (("gate", 0, "colour"), "red", r"gate\[0\].colour is no field that it has"),
        (("provenance",), [], "provenance is a list of 0, where an object belongs"),
        (("provenance", "packages", "torch"), 2, "provenance.packages.torch is a whole number, where text belongs"),
    ],
)
def test_damage_is_named_by_file_and_field(at: Where, other: Any, said: str):
    with pytest.raises(DataError, match=rf"^cycles/000002.json: damaged cycle manifest \({said}\)$"):
        CycleRecord.from_json(replaced(RECORD, at, other) if other is GONE else with_new(at, other), record_key(2))


def with_new(at: Where, other: Any) -> bytes:
    said = copy.deepcopy(RECORD)
    inner: Any = said
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = other
    return json.dumps(said).encode()


def test_a_whole_number_stands_where_a_fraction_may_and_others_may_say_more_of_a_run():
    said = {**RECORD, "runs": [{**RECORD["runs"][0], "steps": 3}], "provenance": {"stage": "promote", "ranks": 8}}
    record = CycleRecord.from_json(json.dumps(said).encode(), "somewhere")
    assert record.runs[0]["average"] == 1 and record.runs[0]["steps"] == 3
    assert record.provenance == {"stage": "promote", "ranks": 8}
    assert record.gate == ({"rule": "margin", "metric": "average", "candidate": 0.5, "threshold": 0.1, "passed": True},)


def test_a_candidate_of_no_run_is_damage_of_its_record():
    record = CycleRecord.from_json(replaced(RECORD, ("candidate",), "runs/b/model"), "somewhere")
    with pytest.raises(DataError, match="cycles/000002.json is damaged: its candidate 'runs/b/model' is of none of"):
        assert record.chosen


class Shape(TypedDict, total=False):
    one: int | str
    rows: list[tuple[str, int]]
    bars: list[Annotated[dict[str, Any], Bar]]


def test_types_are_read_as_they_are_declared():
    assert read_as(Shape, {"one": "a", "rows": [["a", 1]], "more": None}) == {
        "one": "a",
        "rows": [("a", 1)],
        "more": None,
    }
    assert read_as(dict[str, float | None], {"a": 1, "b": None}) == {"a": 1, "b": None}
    assert read_as(ShardEntry, {"key": "a", "index": "b", "size": 1, "crc32c": 2, "rows": 3}).name == "a"
    for said, why in {
        "1": "it is a whole number, where an object belongs",
        '{"one": null}': "one is null, where text belongs",
        '{"rows": [["a", 1], ["b", "c"]]}': "rows[1][1] is text, where a whole number belongs",
        '{"rows": [["a"]]}': "rows[0] is a list of 1, where a list of 2 belongs",
        '{"bars": [{}]}': "bars[0].rule is missing",
    }.items():
        with pytest.raises(WrongValueError) as error:
            read_as(Shape, loads(said))
        assert str(error.value) == why


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 101 + "]" * 101, "1" * 5000, b"\xff\xfe", "", "[1,", "NaN]"]
)
def test_text_that_nobody_can_follow_is_no_json(text: str | bytes):
    with pytest.raises(json.JSONDecodeError):
        loads(text)
    with pytest.raises(DataError, match="somewhere: not a pool manifest"):
        Pool.from_json(text.encode() if isinstance(text, str) else text, "somewhere")
    assert loads("[" * DEEPEST + "]" * DEEPEST)


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 2000 + "]" * 2000, "a: " + "[" * 101 + "]" * 101, "a: &a {b: &b [*a, *b]}"]
)
def test_yaml_that_is_nested_too_deeply_or_holds_itself_is_refused(text: str):
    for as_written in (True, False):
        with pytest.raises(ConfigError, match="^a.yaml: (nested too deeply$|found unconstructable recursive node)"):
            read_yaml(text, "a.yaml", as_written=as_written)
    assert read_yaml("a: &a [1]\nb: [*a, *a]", "a.yaml") == {"a": [1], "b": [[1], [1]]}


def test_text_of_a_setting_may_not_be_nested_too_deeply(capsys: pytest.CaptureFixture[str]):
    for text in ("[" * 5000, "1" * 5000):
        with pytest.raises(ConfigError, match="overrides (is nested more than 100 deep|has a number of more than)"):
            COMMANDS["plan"].run(PlanConfig(store="/s", shards="x.tar", suite="/s", overrides=text))


VERBS: dict[str, dict[str, Any]] = {
    "history": {},
    "lineage": {},
    "lineage ": {"format": "openlineage"},
    "reproduce": {},
    "compare": {"runs": ["1/raw", "1/hqclip", "champion"]},
    "cost": {"shards": "{pool}/000.tar", "preset": "demo"},
    "gc": {},
}
KEYS = ("champion.json", "cycles/", "datasets/", "evaluations/", "pools/", "pipelines/", "runs/", "annotations/")


@pytest.fixture
def refined(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a cycle whose model is in force, and what a task said of itself."""
    root = promoting.make_cycle(tmp_path, draw_samples(12))
    promote.run(promoting.config_of(root))
    store = open_store(root)
    task = TaskRecord(run="r", stage="plan", started=1.0, decided={"cycle": 1, "has_work": True}, last=("a", "b"))
    store.write(task.key, task.to_json())
    store.write("cycles/000001.stages/annotate.json", json.dumps({"annotator": "a", "work": WORK}).encode())
    return root


WORK = {
    "images": 12,
    "prompt_tokens": 1,
    "output_tokens": 2,
    "gpu_seconds": 3.0,
    "devices": ["L4"],
    "seconds": 4.0,
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_with_anything_in_a_document_is_read_or_refused_with_a_sentence(refined: str, verb: str):
    store, draw = open_store(refined), random.Random(0)
    command, given = COMMANDS[verb.strip()], {"store": refined, **VERBS[verb]}
    if "shards" in given:
        given["shards"] = f"{refined}/shards/*.tar"
    documents = {key: store.read(key) for at in KEYS for key in store.list(at) if key.endswith(".json")}
    assert len(documents) > 12
    for key, data in documents.items():
        changes = [(at, other) for at in places(json.loads(data)) for other in OTHERS]
        for at, other in draw.sample(changes, min(4, len(changes))):
            store.write(key, replaced(json.loads(data), at, other), create_only=False)
            try:
                command.run(command.settings.from_mapping(given))
            except HQClipError:
                pass
            except Exception as error:
                raise AssertionError(f"{key} with {other!r} at {at}") from error
        store.write(key, data, create_only=False)
