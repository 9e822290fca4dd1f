"""A look at samples shows what is there, wherever it lies, and a terminal obeys none of it."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.config import CurateConfig
from hqclip.curate.stage import run as curate
from hqclip.data.index import read_index
from hqclip.data.shards import MEMBERS_AT_ONCE, first_samples, write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.data.tar import write_tar
from hqclip.errors import ConfigError, DataError
from hqclip.peek import show
from hqclip.peek.config import PeekConfig
from hqclip.peek.show import run
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, Status
from hqclip.store import open_store
from tests.annotated_pools import pool_of
from tests.vanishing import vanishes

Draw = Callable[..., list[Sample]]
HOSTILE = "a ring\x1b[31m\x1b]0;owned\x07 \u202egnir \x9b2J red"
TEXTS = Annotation(
    desc=("a ring", "a square \x1b[2J above"), neg_desc=("a cross",), tags=("ring", "square"), neg_tags=("cross",)
)


def samples(**given: Any) -> list[dict[str, Any]]:
    result = run(PeekConfig(**given, format="json"))
    assert isinstance(result, dict)
    return list(result["samples"])


def shard(folder: Path, draw: Draw, count: int = 6) -> Path:
    write_shard(draw(count), folder / "00000.tar")
    return folder / "00000.tar"


def test_a_shard_shows_its_first_samples(tmp_path: Path, draw_samples: Draw):
    path = shard(tmp_path, draw_samples)
    found = samples(shards=str(path), num=2)
    assert [(one["uid"], one["text"], one["row"]) for one in found] == [
        (f"{n:032x}", f"alt-text {n}", n) for n in range(2)
    ]
    text = run(PeekConfig(shards=str(path), num=2))
    assert isinstance(text, str)
    first = draw_samples(1)[0]
    assert text.splitlines()[0] == f"{first.uid}  00000.tar, row 0, 56 x 56 jpg, {len(first.image):,} bytes"
    assert "  alt-text    alt-text 1" in text
    assert len(samples(shards=str(path), num=100)) == 6


def test_a_folder_goes_on_with_the_next_shard(tmp_path: Path, draw_samples: Draw):
    shard(tmp_path, draw_samples, 2)
    write_shard(draw_samples(2, first=7), tmp_path / "00001.tar")
    assert [one["text"] for one in samples(shards=str(tmp_path), num=3)] == ["alt-text 0", "alt-text 1", "alt-text 7"]


def test_a_packed_shard_is_shown_too_also_under_a_plain_name(tmp_path: Path, draw_samples: Draw):
    packed = gzip.compress(shard(tmp_path, draw_samples).read_bytes())
    for name in ("a.tar.gz", "b.tar"):
        (tmp_path / name).write_bytes(packed)
        assert len(samples(shards=str(tmp_path / name), num=4)) == 4


@pytest.mark.parametrize("service", ["fake_gcs", "s3"])
def test_shards_in_buckets_are_shown_where_they_lie(
    service: str, tmp_path: Path, draw_samples: Draw, request: pytest.FixtureRequest
):
    request.getfixturevalue(service)
    uri = {"fake_gcs": "gs", "s3": "s3"}[service] + "://bucket/peek"
    open_store(uri).write("00000.tar", shard(tmp_path, draw_samples))
    assert [one["text"] for one in samples(shards=f"{uri}/00000.tar", num=1)] == ["alt-text 0"]


class Counted(io.BytesIO):
    """A file that knows how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.furthest = max(self.furthest, self.tell())
        return data


def test_no_more_of_a_shard_is_read_than_its_first_samples_need(tmp_path: Path, draw_samples: Draw):
    file = Counted(shard(tmp_path, draw_samples, 200).read_bytes())
    assert len(first_samples(file, 4).samples) == 4
    assert file.furthest < len(file.getvalue()) / 5


def test_members_that_lie_apart_are_found(tmp_path: Path, draw_samples: Draw):
    drawn = draw_samples(MEMBERS_AT_ONCE * 2)
    members = [(f"{one.uid}.jpg", one.image) for one in drawn] + [
        (f"{one.uid}.txt", one.text.encode()) for one in drawn
    ]
    with (tmp_path / "apart.tar").open("wb") as file:
        write_tar(file, members)
    assert [one["text"] for one in samples(shards=str(tmp_path / "apart.tar"), num=2)] == ["alt-text 0", "alt-text 1"]


def test_what_cannot_be_used_says_why_and_damage_is_a_fault(tmp_path: Path, draw_samples: Draw):
    good = draw_samples(2)
    path = tmp_path / "odd.tar"
    with path.open("wb") as file:
        write_tar(file, [("a.jpg", b"no picture"), ("a.txt", b"x"), ("b.jpg", good[0].image), ("b.txt", b"fine")])
    bad, fine = samples(shards=str(path))
    assert (bad["fault"], fine["text"]) == ("not_an_image", "fine")
    assert "  unusable    not_an_image" in str(run(PeekConfig(shards=str(path))))
    path.write_bytes(path.read_bytes()[:-1100])
    assert len(samples(shards=str(path), num=2)) == 2, "the damage is behind them"
    with pytest.raises(DataError, match=r"odd\.tar is damaged: cut at byte"):
        samples(shards=str(path), num=3)


@pytest.fixture
def refined(tmp_path: Path, draw_samples: Draw) -> dict[str, str]:
    """A store with a pool of two shards, of which the first is annotated, and a data set version of both."""
    hostile = Sample("f" * 32, draw_samples(1)[0].image, HOSTILE)
    config = pool_of(tmp_path, [*draw_samples(2), hostile], draw_samples(2, 9))
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    for entry in pool.shards:
        rows = [AnnotatedRow(uid, Status.OK, TEXTS) for uid in read_index(store, entry).uids]
        rows[-1] = AnnotatedRow(rows[-1].uid, Status.NOT_JSON, None, answer="I \x1b[5mcannot")
        write_annotations(store, f"annotations/teacher/{entry.name}.parquet", rows, entry, "teacher")
    about = {"store": config.store, "pool": config.pool}
    dataset = curate(CurateConfig(**about, annotations="annotations/teacher", max_drop_rate=1, gate="warn"))["dataset"]
    store.delete(f"annotations/teacher/{pool.shards[1].name}.parquet")
    return {**about, "dataset": dataset}


def test_a_pool_shows_its_texts_as_far_as_there_are_any(refined: dict[str, str]):
    about = {"store": refined["store"], "pool": refined["pool"]}
    assert "desc" not in samples(**about)[0]
    found = samples(**about, annotations="annotations/teacher", num=5)
    assert [one.get("status") for one in found] == ["ok", "ok", "not_json", None, None]
    assert (found[0]["desc"], found[0]["neg_tags"]) == (list(TEXTS.desc), ["cross"])


def test_texts_that_are_deleted_meanwhile_are_no_fault(refined: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    (path,) = Path(refined["store"]).glob("annotations/teacher/*.parquet")
    vanishes(monkeypatch, path)
    given = {"store": refined["store"], "pool": refined["pool"], "annotations": "annotations/teacher"}
    assert len(samples(**given, num=5)) == 5


def test_a_data_set_shows_what_was_curated(refined: dict[str, str]):
    found = samples(store=refined["store"], dataset=refined["dataset"], num=1)
    assert found[0]["tags"] == ["ring", "square"]
    text = str(run(PeekConfig(store=refined["store"], dataset=refined["dataset"], num=1)))
    assert "  true tags   ring, square" in text and "  false       a cross" in text


def test_a_terminal_obeys_nothing_of_the_data(refined: dict[str, str]):
    given = {"store": refined["store"], "pool": refined["pool"], "annotations": "annotations/teacher"}
    text = str(run(PeekConfig(**given, num=5)))
    assert "a square above" in text and "owned gnir" in text and "I cannot" in text
    assert all(letter == "\n" or letter.isprintable() for letter in text)


def test_pictures_are_drawn_in_a_terminal_with_colours_only(
    tmp_path: Path, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = PeekConfig(shards=str(shard(tmp_path, draw_samples)), num=1, pictures=True)
    assert "▀" not in str(run(config))
    assert "pictures are left out: stdout is no terminal with colours" in capsys.readouterr().err
    monkeypatch.setattr(show.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = [line for line in str(run(config)).splitlines() if "▀" in line]
    assert (len(lines), lines[0].count("▀")) == (20, 40)
    assert all(line.endswith("\x1b[0m") for line in lines)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "▀" not in str(run(config))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of shards, pool and dataset, not none"),
        ({"shards": "a", "pool": "b", "store": "c"}, "not shards and pool"),
        ({"pool": "b"}, "store is missing"),
        ({"shards": "a", "annotations": "b"}, "annotations belong to a pool"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, str], said: str):
    with pytest.raises(ConfigError, match=said):
        PeekConfig(**given)


def test_the_command_prints_it(tmp_path: Path, draw_samples: Draw, capsys: pytest.CaptureFixture[str]):
    path = shard(tmp_path, draw_samples)
    assert cli.main(["peek", "--shards", str(path), "--num", "1", "--format", "json"]) == 0
    assert [one["text"] for one in json.loads(capsys.readouterr().out)["samples"]] == ["alt-text 0"]


def test_random_bytes_are_damage_and_no_traceback(tmp_path: Path):
    path = tmp_path / "noise.tar"
    path.write_bytes(random.Random(0).randbytes(5000))
    with pytest.raises(DataError, match="is damaged"):
        samples(shards=str(path))
