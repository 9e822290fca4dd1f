"""Who made what is in every manifest of a cycle, and is told as a tree, as OpenLineage events, and as commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from hqclip import __version__, cli, provenance
from hqclip.config import DemoWorldConfig, PlanConfig
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.reproduce import INPUTS as REPRODUCED
from hqclip.demo.world import make_world
from hqclip.records import digest_of
from hqclip.store import open_store
from pipelines.__main__ import _parser
from pipelines.inputs import INPUTS
from tests.cycle import Cycle
from tests.vanishing import vanishes

RUN = "c29983ca-0d60-47e9-acd6-55b463a90003"
COMMIT = "8f02abfb7a252783b95df79f443edb13959bf52c"
IMAGE = "hub/train@sha256:" + "1f" * 32
ENVIRONMENT = {provenance.RUN: RUN, provenance.IMAGE: IMAGE, provenance.REVISION: COMMIT}
MADE = "provenance"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A store with a closed cycle, and the world that it is of."""
    folder = tmp_path_factory.mktemp("lineage")
    world = make_world(DemoWorldConfig(store=str(folder / "world"), images=40, scenes=8))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        Cycle(str(folder / "store"), world, folder / "results").run("raw,hqclip", cycle=1)
    return {**world, "store": str(folder / "store")}


@pytest.fixture
def store(made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to take things away from; this process is of the same code."""
    monkeypatch.setenv(provenance.REVISION, COMMIT)
    return Path(shutil.copytree(made["store"], tmp_path / "store"))


def document(store: Path, pattern: str) -> dict[str, Any]:
    (path,) = store.glob(pattern)
    return dict(json.loads(path.read_text()))


def change(store: Path, pattern: str, **values: Any) -> None:
    """Other values in the provenance of a document."""
    (path,) = store.glob(pattern)
    told = json.loads(path.read_text())
    told[MADE] |= values
    path.write_text(json.dumps(told))


def hqclip(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


STAGES = {
    "cycles/000001.plan.json": "plan",
    "pools/*.json": "download",
    "annotations/*/annotator.json": "annotate",
    "datasets/*/dataset.json": "curate",
    "runs/000001-raw/result.json": "train",
    "runs/000001-hqclip/result.json": "train",
    "cycles/000001.json": "promote",
    "champion.json": "promote",
}


@pytest.mark.parametrize("pattern", STAGES)
def test_every_manifest_of_a_cycle_says_who_made_it_out_of_what(store: Path, pattern: str):
    told = document(store, pattern)[MADE]
    assert (told["stage"], told["run"], told["image"], told["commit"]) == (STAGES[pattern], RUN, IMAGE, COMMIT)
    assert told["code_version"] == __version__
    assert {"torch", "numpy", "open_clip_torch", "transformers"} <= told["packages"].keys()
    assert told["settings"]["store"]
    there = open_store(str(store))
    for parent in told["parents"]:
        assert there.exists(parent) or next(there.list(f"{parent}/"), None), parent
    assert told["parents"] or told["stage"] in ("plan", "download")


def test_every_evaluation_says_which_model_it_judged(store: Path):
    told = [json.loads(path.read_text()) for path in store.glob("evaluations/*/*.json") if path.name.count(".") == 1]
    assert len(told) == 2
    assert [each[MADE]["parents"] for each in told] == [[each["model"]] for each in told]


def test_the_annotator_says_which_lvlm_it_is(store: Path):
    about = document(store, "annotations/*/annotator.json")
    assert about[MADE]["lvlm"] == {"model": "demo", "revision": "", "digest": about["model_digest"]}


def test_nobody_who_made_it_changes_what_it_is(store: Path):
    dataset = document(store, "datasets/*/dataset.json")
    del dataset[MADE]
    pool = document(store, "pools/*.json")
    assert pool["digest"] == digest_of([[s["size"], s["crc32c"], s["rows"]] for s in pool["shards"]])
    assert (store / "datasets" / dataset["digest"]).is_dir()


def test_a_password_in_an_address_is_not_told(monkeypatch: pytest.MonkeyPatch):
    told = provenance.made_by("annotate", {"server": "http://me:secret@host:8000/v1"})
    assert told["settings"] == {"server": "http://host:8000/v1"}


def test_a_commit_that_nobody_told_is_unknown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(provenance.REVISION, raising=False)
    assert provenance.commit() == provenance.UNKNOWN


def test_the_tree_shows_all_that_a_model_comes_from(store: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = hqclip(capsys, "lineage", "--store", str(store))
    assert code == 0
    assert out.startswith("cycle 1: promoted, there was no champion before")
    pool, annotator = document(store, "pools/*.json"), document(store, "datasets/*/dataset.json")["annotator"]
    for told in (
        "── model runs/000001-",
        "── also trained: runs/000001-",
        f"── pool {pool['digest']}, {sum(s['rows'] for s in pool['shards'])} samples of ",
        f"{len(pool['shards'])} shards, 00000 to ",
        f"── annotator {annotator}: demo, content ",
        f"commit {COMMIT}, image {IMAGE}, torch ",
        f"run {RUN}",
    ):
        assert told in out


@pytest.mark.parametrize("words", [(), ("--format", "json"), ("--format", "openlineage")], ids=lambda words: words[-1:])
def test_a_data_set_that_is_deleted_meanwhile_is_no_fault(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
):
    (path,) = store.glob("datasets/*/dataset.json")
    vanishes(monkeypatch, path)
    code, out, said = hqclip(capsys, "lineage", "--store", str(store), *words)
    assert (code, said) == (0, "") and "000001-hqclip" in out


def test_a_store_of_the_first_version_has_a_tree_without_makers(store: Path, capsys: pytest.CaptureFixture[str]):
    forget(store)
    code, out, _ = hqclip(capsys, "lineage", "--store", str(store), "--cycle", "1")
    assert code == 0
    assert "── pool " in out and "made by" not in out


def forget(store: Path) -> None:
    """As version 0.1 left it: nobody said who made it."""
    for path in store.rglob("*.json"):
        told = json.loads(path.read_text())
        if MADE in told:
            del told[MADE]
            path.write_text(json.dumps(told))


PAGE = (Path(__file__).parents[1] / "docs" / "lineage.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_shows_commands_that_work(store: Path, command: str, capsys: pytest.CaptureFixture[str]):
    program, *words = shlex.split(command.replace("STORE", str(store)))
    assert program == "hqclip"
    assert hqclip(capsys, *words)[0] == 0


def test_the_formats_name_every_field_of_provenance_and_every_package(store: Path):
    told = (Path(__file__).parents[1] / "docs" / "formats.md").read_text().partition("## Provenance")[2]
    told = told.partition("\n## ")[0]
    patterns = (*STAGES, "evaluations/*/" + document(store, "cycles/000001.plan.json")[MADE]["suite"] + ".json")
    fields = {
        name for pattern in patterns for path in store.glob(pattern) for name in json.loads(path.read_text())[MADE]
    }
    assert {name for name in fields if f'"{name}"' not in told and f"`{name}`" not in told} == set()
    assert [name for name in provenance.PACKAGES if name not in told] == []


SCHEMAS = [json.loads(path.read_text()) for path in (Path(__file__).parent / "openlineage").glob("*.json")]
REGISTRY = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS)
EVENT = {"$ref": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"}


def check_facets(value: Any) -> Iterator[str]:
    """Every facet is as the schema that it names says; their names."""
    if isinstance(value, dict):
        if "_schemaURL" in value:
            jsonschema.Draft202012Validator({"$ref": value["_schemaURL"]}, registry=REGISTRY).validate(value)
            yield value["_schemaURL"].rpartition("/")[2]
        for inner in value.values():
            yield from check_facets(inner)
    if isinstance(value, list):
        for inner in value:
            yield from check_facets(inner)


@pytest.mark.parametrize("of_first_version", [False, True])
def test_openlineage_events_are_as_the_published_schemas_say(
    store: Path, of_first_version: bool, capsys: pytest.CaptureFixture[str]
):
    if of_first_version:
        forget(store)
    code, out, _ = hqclip(capsys, "lineage", "--store", str(store), "--format", "openlineage")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    stages = ["download", "annotate", "curate", *["train", "evaluate"] * 2, "promote"]
    assert [event["job"]["name"] for event in events] == stages
    validator = jsonschema.Draft202012Validator(EVENT, registry=REGISTRY, format_checker=jsonschema.FormatChecker())
    facets: set[str] = set()
    for event in events:
        validator.validate(event)
        facets |= set(check_facets(event))
    own = set() if of_first_version else {"ProcessingEngineRunFacet", "ParentRunFacet", "RunFacet"}
    data = {"DatasetVersionDatasetFacet", "DatasourceDatasetFacet", "OutputStatisticsOutputDatasetFacet"}
    assert facets == {"JobTypeJobFacet", "DatasetFacet", *data, *own}
    assert len({event["run"]["runId"] for event in events}) == len(events)


def test_events_make_one_graph_from_the_shards_to_the_verdict(store: Path, capsys: pytest.CaptureFixture[str]):
    _, out, _ = hqclip(capsys, "lineage", "--store", str(store), "--format", "openlineage")
    made: set[tuple[str, str]] = set()
    for event in map(json.loads, out.splitlines()):
        names = {(each["namespace"], each["name"]) for each in event["inputs"]}
        from_outside = {name for name in names if name not in made}
        assert len(from_outside) == (1 if event["job"]["name"] in ("download", "evaluate") else 0)  # shards, suite
        made |= {(each["namespace"], each["name"]) for each in event["outputs"]}
        assert event["run"]["facets"]["parent"]["run"]["runId"] == RUN
    assert ("file", f"{store}/cycles/000001.json") in made


def test_the_inputs_that_reproduce_names_are_those_of_the_pipeline():
    names = {setting: name for name, setting in INPUTS["refine"].settings.items()}
    assert {setting: names[setting] for setting in REPRODUCED} == REPRODUCED


def test_a_cycle_is_made_again_with_the_settings_that_it_had(
    made: dict[str, Any], store: Path, capsys: pytest.CaptureFixture[str]
):
    words = ("reproduce", "--store", str(store), "--into", "gs://bucket/again")
    code, out, err = hqclip(capsys, *words)
    assert (code, err) == (0, "")
    commands = [line for line in out.splitlines() if "pipelines run" in line]
    assert len(commands) == 2 and commands[1].startswith("# ")
    for command in (commands[0], commands[1].removeprefix("# ")):
        given = _parser("run").parse_args(shlex.split(command)[3:])
        assert given.local is ("--local" in command)
        assert given.config == "none"  # whatever a project file says
        inputs = dict(each.split("=", 1) for each in given.set)
        assert (inputs["store"], inputs["evaluate_suite"]) == ("gs://bucket/again", made["suite"])
        settings = {INPUTS["refine"].settings[name]: value for name, value in inputs.items()}
        planned = document(store, "cycles/000001.plan.json")
        again, trials = resolve(PlanConfig.from_mapping(settings))
        assert again == planned["settings"] and trials == planned["points"]
    code, out, _ = hqclip(capsys, *words, "--format", "json")
    assert (code, json.loads(out)["missing"]) == (0, [])


def cut(path: Path) -> None:
    path.unlink()


def with_other_recipes(store: Path) -> None:
    """A cycle of a version whose recipes this one does not know."""
    path = store / "cycles/000001.plan.json"
    planned = json.loads(path.read_text())
    path.write_text(json.dumps({**planned, "points": [{"name": "hqclip-2", "settings": {"tag_weight": 3.0}}]}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda store: change(store, "pools/*.json", image="hub/base:0.1.0"), "image of download: hub/base:0.1.0 was"),
        (lambda store: change(store, "pools/*.json", commit="0" * 40), f"commit {'0' * 40}; this is"),
        (lambda store: change(store, "pools/*.json", code_version="0.0.9"), "code of download: hqclip 0.0.9"),
        (lambda store: change(store, "pools/*.json", image="", packages={"numpy": "1"}), "of download: numpy 1 (here"),
        (lambda store: [cut(path) for path in store.glob("runs/*/model/*.safetensors")], "its weights are gone"),
        (lambda store: cut(next(store.glob("pools/*.json"))), "the manifest of the pool is gone"),
        (forget, "where it lay was not recorded"),
        (with_other_recipes, "recipe hqclip-2: it was"),
    ],
)
def test_what_is_no_longer_there_is_told_with_its_own_exit_code(
    store: Path, damage: Any, said: str, capsys: pytest.CaptureFixture[str]
):
    damage(store)
    code, out, err = hqclip(capsys, "reproduce", "--store", str(store))
    assert code == 66
    assert said in err
    assert "python -m pipelines run refine --set" in out  # what is known is told all the same


def test_other_shards_and_another_suite_are_told_by_name(
    made: dict[str, Any], store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shards = tmp_path / "elsewhere"
    shutil.copytree(Path(made["shards"]).parent if "{" in made["shards"] else made["shards"], shards)
    settings = document(store, "cycles/000001.plan.json")[MADE]["settings"]
    moved = {**settings, "shards": str(shards), "suite": str(tmp_path / "none" / "suite.json")}
    change(store, "cycles/000001.plan.json", settings=moved)
    first = min(shards.glob("*.tar"))
    shutil.copy(first, shards / "99999.tar")
    with first.open("ab") as file:
        file.write(b"\0" * 512)
    code, _, err = hqclip(capsys, "reproduce", "--store", str(store))
    assert code == 66
    assert f"shard {first.name}: it has {first.stat().st_size} bytes and crc32c" in err
    assert "shard 99999.tar: " in err
    assert "suite: " in err
