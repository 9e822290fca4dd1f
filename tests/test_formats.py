"""The examples of docs/formats.md are what the code reads and writes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hqclip.data import images, index, shards, sidecar
from hqclip.data.shards import CUT_OFF, REPAIRS
from hqclip.errors import DataError
from hqclip.evaluate.judging import SetRecord
from hqclip.evaluate.manifest import OneShardManifest, SuiteManifest
from hqclip.records import (
    Approval,
    Champion,
    CyclePlan,
    CycleRecord,
    DatasetVersion,
    Evaluation,
    FailedTrial,
    Manifest,
    Pool,
    Status,
)

DOCS = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
SOURCES = "".join(inspect.getsource(module) for module in (shards, images))
FAULTS = {*REPAIRS, CUT_OFF, *re.findall(r'(?:refuse|Fault|_content)\(.*?"([a-z_0-9]+)"[,)]', SOURCES)}
KINDS: dict[tuple[str, int], type[Manifest]] = {
    (kind.KIND, kind.NUMBER): kind
    for kind in (
        *(Pool, DatasetVersion, OneShardManifest, SuiteManifest),
        *(Evaluation, SetRecord, CyclePlan, CycleRecord, Approval, Champion, FailedTrial),
    )
}
READ = [(KINDS[document["kind"], document["format"]], document) for document in map(json.loads, EXAMPLES)]
examples = pytest.mark.parametrize(("kind", "document"), READ, ids=[f"{k.KIND} {k.NUMBER}" for k, _ in READ])


def test_every_kind_of_manifest_has_an_example():
    assert {kind for kind, _ in READ} == set(KINDS.values())


@examples
def test_an_example_is_read_and_written_back_the_same(kind: type[Manifest], document: dict[str, Any]):
    manifest = kind.from_json(json.dumps(document).encode(), "docs/formats.md")
    assert json.loads(manifest.to_json()) == document


@examples
def test_a_manifest_of_a_newer_format_another_kind_or_with_other_fields_is_refused(
    kind: type[Manifest], document: dict[str, Any]
):
    newer = kind.NUMBER + 1
    with pytest.raises(DataError, match=f"format {newer} is newer than {kind.NUMBER}; upgrade hqclip"):
        kind.from_json(json.dumps({**document, "format": newer}).encode(), "somewhere")
    with pytest.raises(DataError, match=f"somewhere: this is a mug manifest; a {kind.KIND} manifest is needed here"):
        kind.from_json(json.dumps({**document, "kind": "mug"}).encode(), "somewhere")
    with pytest.raises(DataError, match="damaged"):
        kind.from_json(json.dumps({**document, "colour": "red"}).encode(), "somewhere")
    for other in (b"<html>", b"[]", b'["kind"]', b'"kind"', b"7", b"null", b"{}", b"\xff"):
        with pytest.raises(DataError, match=f"somewhere: not a {kind.KIND} manifest"):
            kind.from_json(other, "somewhere")
    for number in ("1", None, [1], 1.5):
        with pytest.raises(DataError, match="somewhere: format .* is no number"):
            kind.from_json(json.dumps({**document, "format": number}).encode(), "somewhere")


@examples
def test_a_manifest_that_lost_a_field_is_damaged(kind: type[Manifest], document: dict[str, Any]):
    missing = dataclasses.MISSING
    optional = {f.name for f in dataclasses.fields(kind) if (f.default, f.default_factory) != (missing, missing)}
    for name in document.keys() - {"kind", "format", *optional}:
        cut = {key: value for key, value in document.items() if key != name}
        with pytest.raises(DataError, match=f"somewhere: damaged {kind.KIND} manifest .*{name}"):
            kind.from_json(json.dumps(cut).encode(), "somewhere")


def test_the_document_names_every_column_status_fault_and_flag():
    columns = {name for schema in (index.SCHEMA, sidecar.CURATED, sidecar.SCORES) for name in schema.names}
    assert {name for name in columns if f"`{name}`" not in DOCS} == set()
    assert {status for status in Status if f"`{status}`" not in DOCS} == set()
    assert {fault for fault in FAULTS if f"`{fault}`" not in DOCS} == set()
    flags = {name: int(bit) for bit, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCS, re.MULTILINE)}
    assert flags == {str(flag.name).lower(): int(flag) for flag in sidecar.Flag}
