"""Which shards a pattern names, and what is said where it names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip.data.sources import list_shards
from hqclip.data.sources.patterns import expand, split_patterns
from hqclip.errors import ConfigError, NotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards 08 to 11, something else beside them, and another folder below."""
    for name in ["08.tar", "09.tar", "10.tar", "11.tar", "notes.txt", "deep/08.tar", "deep/12.tar", ".hqclip-0.tmp"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def names(pattern: str) -> list[str]:
    return [shard.name for _, shard in list_shards(pattern)]


@pytest.mark.parametrize(
    ("name", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{00009..00010}.tar", ["00009.tar", "00010.tar"]),
        ("{3..3}.tar", ["3.tar"]),
        ("a{0..1}-{1..2}b.tar", ["a0-1b.tar", "a0-2b.tar", "a1-1b.tar", "a1-2b.tar"]),
        ("{a..b}.tar", ["{a..b}.tar"]),
        ("{1..2.tar", ["{1..2.tar"]),
        ("{-1..2}.tar", ["{-1..2}.tar"]),
    ],
)
def test_ranges_are_counted_out_in_order(name: str, expanded: list[str]):
    assert expand(name) == expanded


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{11..08}.tar", r"shard range \{11..08\} is empty"),
        ("{0..2000000}.tar", "names 2,000,001 shards or more; the limit is 2,000,000"),
        ("{0..1999}{0..1999}.tar", "names 4,000,000 shards"),
        ("{0..9}" * 5000 + ".tar", "names 10,000,000 shards or more"),
        ("{0..999999999999999999}.tar", "names 1,000,000,000,000,000,000 shards"),
        ("{0.." + "9" * 5000 + "}.tar", "more than 18 digits"),
        ("{" + "0" * 5000 + "..9}.tar", "more than 18 digits"),
    ],
)
def test_ranges_that_cannot_be_meant_are_refused_at_once(name: str, said: str):
    with pytest.raises(ConfigError, match=said):
        expand(name)


def test_a_folder_names_its_shards_and_nothing_below(folder: Path):
    for pattern in (f"{folder}", f"{folder}/", f"file://{folder}", f"{folder}/*.tar"):
        assert names(pattern) == ["08.tar", "09.tar", "10.tar", "11.tar"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("0*.tar", ["08.tar", "09.tar"]),
        ("1?.tar", ["10.tar", "11.tar"]),
        ("[01][09].tar", ["09.tar", "10.tar"]),
        ("*1*.tar", ["10.tar", "11.tar"]),
    ],
)
def test_globs_name_what_is_there(folder: Path, glob: str, found: list[str]):
    assert names(f"{folder}/{glob}") == found


def test_a_folder_of_packed_shards_names_them_as_they_will_be_unpacked(tmp_path: Path):
    for name in ("0.tar.gz", "1.tgz", "2.tar.zst", "3.tar.bz2", "4.tar.xz", "notes.gz", "5.tar.part"):
        (tmp_path / name).write_bytes(b"")
    assert names(f"{tmp_path}") == [f"{n}.tar" for n in range(5)]
    assert names(f"{tmp_path}/{{0..0}}.tar.gz,{tmp_path}/*.tgz") == ["0.tar", "1.tar"]


def test_packed_archives_beside_plain_ones_are_left_out_and_this_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    (folder / "08.tar.gz").write_bytes(b"")
    assert [shard.uri for _, shard in list_shards(str(folder))][0] == f"{folder}/08.tar"
    assert not caplog.messages, "the same shard, packed"
    (folder / "texts.tar.gz").write_bytes(b"")
    assert names(str(folder)) == ["08.tar", "09.tar", "10.tar", "11.tar"]
    assert caplog.messages == [
        f"{folder}/*: of the 6 archives there, 4 end in .tar and are taken; "
        "1 are packed and are not (first: texts.tar): name them if they are shards"
    ]
    with pytest.raises(ConfigError, match="have the same name"):
        list_shards(f"{folder}/08.tar,{folder}/08.tar.gz")


def test_ranges_name_shards_that_must_exist(folder: Path):
    assert names(f"{folder}/{{08..10}}.tar") == ["08.tar", "09.tar", "10.tar"]
    with pytest.raises(NotFoundError) as missing:
        list_shards(f"{folder}/{{08..13}}.tar")
    assert str(missing.value) == (
        f"{folder}/12.tar does not exist (4 of the 6 shards of {folder}/{{08..13}}.tar found)"
    )


def test_commas_join_patterns_in_the_order_given(folder: Path):
    assert names(f"{folder}/{{10..11}}.tar, {folder}/08.tar,,{folder}/deep/12.tar,") == [
        "10.tar",
        "11.tar",
        "08.tar",
        "12.tar",
    ]


def test_a_shard_named_twice_counts_once(folder: Path):
    assert names(f"{folder}/10.tar,{folder}/*.tar,{folder}") == ["10.tar", "08.tar", "09.tar", "11.tar"]


def test_two_shards_of_one_name_are_refused_by_both_places(folder: Path):
    with pytest.raises(ConfigError) as refused:
        list_shards(f"{folder},{folder}/deep")
    assert str(refused.value) == (
        f"{folder}/08.tar and {folder}/deep/08.tar have the same name; rename one, or give one of them"
    )


@pytest.mark.parametrize("pattern", ["", " , ,", ","])
def test_a_pattern_of_nothing_is_refused(pattern: str):
    with pytest.raises(ConfigError, match="no shards are named"):
        split_patterns(pattern)


@pytest.mark.parametrize("name", ["nothing-*.tar", "empty", "08.tar.gz", "12.tar"])
def test_what_matches_nothing_is_named(folder: Path, name: str):
    (folder / "empty").mkdir()
    with pytest.raises(NotFoundError) as missing:
        list_shards(f"{folder}/{name}")
    assert f"{folder}/{name}" in str(missing.value)


def test_one_part_that_matches_nothing_is_enough(folder: Path):
    with pytest.raises(NotFoundError, match="13.tar does not exist"):
        list_shards(f"{folder},{folder}/13.tar")


@pytest.mark.parametrize("pattern", ["a/{0..1}/x.tar", "a*/x.tar", "a/??/x.tar", "a/{0..1}"])
def test_only_the_name_of_a_shard_may_vary(pattern: str):
    with pytest.raises(ConfigError, match="in the name of the shard only, not in its folder"):
        list_shards(pattern)


def test_places_that_cannot_be_read_are_refused():
    with pytest.raises(ConfigError, match="give gs://bucket/prefix, s3://bucket/prefix or a local folder"):
        list_shards("https://host/{0..1}.tar")
