"""Which members make up a sample: keys with dots, names that come twice, and files that belong to none."""

from __future__ import annotations

from itertools import count

import pytest

from hqclip.data.keys import samples
from hqclip.data.tar import Member


def told(names: str) -> dict[str, str]:
    """What these members, told apart by blanks, make up: keys with their extensions and the places of these."""
    place = count()
    found = samples([Member(name, next(place), 1) for name in names.split()])
    assert len({(one.key, one.place) for one in found}) == len(found)
    return {
        f"{one.key}{'+' * one.again}{'?' * one.mixed}": " ".join(f"{e}:{m.offset}" for e, m in one.parts.items())
        for one in found
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("1.jpg 1.txt 2.jpg 2.txt", {"1": "jpg:0 txt:1", "2": "jpg:2 txt:3"}),
        ("1.jpg 2.jpg 2.txt 1.txt", {"1": "jpg:0 txt:3", "2": "jpg:1 txt:2"}),
        ("a.b/1.jpg a.c/1.jpg", {"a.b/1": "jpg:0", "a.c/1": "jpg:1"}),
        ("1.JPG 1.Txt", {"1": "jpg:0 txt:1"}),
        (".1.jpg a/.DS_Store ._1.txt 1.jpg", {"1": "jpg:3"}),
        ("1.jpg 1.txt 1.seg.png 1.url.txt 1.npy", {"1": "jpg:0 txt:1 seg.png:2 url.txt:3 npy:4"}),
        ("1.url.txt 1.syn.json 1.paug.json 1.json", {"1": "url.txt:0 syn.json:1 paug.json:2 json:3"}),
        ("1.0.jpg 1.1.jpg 1.txt", {"1": "0.jpg:0 1.jpg:1 txt:2"}),
        ("1.small.jpg 1.small.json 1.jpg 1.txt", {"1": "small.jpg:0 small.json:1 jpg:2 txt:3"}),
    ],
)
def test_a_key_ends_at_the_first_dot(names: str, found: dict[str, str]):
    assert told(names) == found


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("c.0.jpg c.0.txt c.1.jpg c.1.txt", {"c.0": "jpg:0 txt:1", "c.1": "jpg:2 txt:3"}),
        ("c.0.jpg c.0.txt", {"c.0": "jpg:0 txt:1"}),
        ("c.0.jpg c.1.jpg", {"c.0": "jpg:0", "c.1": "jpg:1"}),
        ("c.0.jpg c.0.json c.json", {"c.0": "jpg:0 json:1"}),
        ("c.0.jpg c.0.txt c.1.txt", {"c.0": "jpg:0 txt:1", "c.1": "txt:2"}),
        ("c.jpg c.txt c.0.jpg c.0.txt", {"c": "jpg:0 txt:1", "c.0": "jpg:2 txt:3"}),
        ("2024.01.02.jpg 2024.01.02.cap", {"2024.01.02": "jpg:0 cap:1"}),
        ("d/c.0.PNG d/c.0.TXT e/c.0.png", {"d/c.0": "png:0 txt:1", "e/c.0": "png:2"}),
        ("c.0.jpg c.0.txt c.0.seg.png c.0.npy", {"c.0": "jpg:0 txt:1 seg.png:2 npy:3"}),
        ("c.0.jpg c.1.jpg c.0.txt c.1.txt", {"c.0": "jpg:0 txt:2", "c.1": "jpg:1 txt:3"}),
    ],
)
def test_keys_that_share_what_stands_before_the_first_dot_are_told_apart(names: str, found: dict[str, str]):
    assert told(names) == found


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (
            "v1.2.jpg v1.2.txt v1.2.3.jpg v1.2.3.txt v1.2.4.jpg v1.2.4.txt",
            {"v1.2": "jpg:0 txt:1", "v1.2.3": "jpg:2 txt:3", "v1.2.4": "jpg:4 txt:5"},
        ),
        (
            "t.1.jpg t.1.txt t.1.5.jpg t.1.5.txt t.2.jpg t.2.txt t.2.5.jpg t.2.5.json",
            {"t.1": "jpg:0 txt:1", "t.1.5": "jpg:2 txt:3", "t.2": "jpg:4 txt:5 5.jpg:6 5.json:7"},
        ),
        ("1.jpg 1.json 1.5.jpg 1.5.json", {"1": "jpg:0 json:1", "1.5": "jpg:2 json:3"}),
        ("c.0.jpg c.0.json c.0.1.jpg c.0.1.json", {"c.0": "jpg:0 json:1", "c.0.1": "jpg:2 json:3"}),
        ("1.jpg 1.txt 1.2.jpg 1.2.txt 1.2.a.png", {"1": "jpg:0 txt:1", "1.2": "jpg:2 txt:3 a.png:4"}),
        ("c.0.jpg c.0.txt c.0.url.txt c.0.a.seg.png", {"c.0": "jpg:0 txt:1 url.txt:2 a.seg.png:3"}),
        (
            "k.jpg k.json k.mask.png k.mask.json k.depth.png",
            {"k": "jpg:0 json:1 mask.png:2 mask.json:3 depth.png:4"},
        ),
        ("c.0.jpg c.0.json c.0.mask.png c.0.mask.json", {"c.0": "jpg:0 json:1 mask.png:2 mask.json:3"}),
        ("c.0.jpg c.0.txt c.0.1.jpg c.0.2.jpg", {"c.0": "jpg:0 txt:1 1.jpg:2 2.jpg:3"}),
        (
            "c.jpg c.txt c.0.jpg c.0.txt c.1.jpg c.2.txt c.seg.png c.url.txt",
            {"c": "jpg:0 txt:1 seg.png:6 url.txt:7", "c.0": "jpg:2 txt:3", "c.1": "jpg:4", "c.2": "txt:5"},
        ),
        (
            "1.left.jpg 1.left.json 1.right.jpg 1.right.json 1.json",
            {"1.left": "jpg:0 json:1", "1.right": "jpg:2 json:3"},
        ),
    ],
)
def test_a_key_that_continues_another_is_a_sample_if_it_has_what_the_other_has(names: str, found: dict[str, str]):
    assert told(names) == found


def test_only_keys_that_go_on_behind_the_first_dot_have_dots():
    found = samples([Member(name, n, 1) for n, name in enumerate(("v1.0/a.jpg", "c.0.jpg", "c.0.txt"))])
    assert [(one.key, one.dotted) for one in found] == [("v1.0/a", False), ("c.0", True)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("1.jpg 1.txt 2.jpg 2.txt 1.jpg 1.txt", {"1": "jpg:0 txt:1", "2": "jpg:2 txt:3", "1+": "jpg:4 txt:5"}),
        ("1.jpg 1.txt 1.jpg 1.txt", {"1": "jpg:0 txt:1", "1+": "jpg:2 txt:3"}),
        ("1.jpg 1.txt 2.jpg 1.txt", {"1": "jpg:0 txt:1", "2": "jpg:2", "1+": "txt:3"}),
        ("1.jpg 2.jpg 2.txt 1.jpg 1.txt", {"1": "jpg:0", "2": "jpg:1 txt:2", "1+": "jpg:3 txt:4"}),
        ("c.0.jpg c.0.txt c.1.jpg c.0.jpg c.0.txt", {"c.0": "jpg:0 txt:1", "c.1": "jpg:2", "c.0+": "jpg:3 txt:4"}),
        ("1.jpg 1.txt 1.TXT", {"1?": "jpg:0 txt:1"}),
        ("1.txt 1.txt", {"1": "txt:0", "1+": "txt:1"}),
        ("1.jpg 1.json 1.txt 1.jpg 1.json", {"1?": "jpg:0 json:1 txt:2", "1+?": "jpg:3 json:4"}),
    ],
)
def test_where_a_name_comes_twice_members_pair_with_their_neighbours(names: str, found: dict[str, str]):
    assert told(names) == found


def test_one_name_that_comes_twice_says_that_this_is_no_folder():
    """The picture of one run and the text of another bear the same number, and belong to nothing in common."""
    assert told("1.jpg 2.jpg 2.txt 2.jpg 2.txt 1.txt") == {
        "1": "jpg:0",
        "2": "jpg:1 txt:2",
        "2+": "jpg:3 txt:4",
        "1+": "txt:5",
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (
            "0.jpg 1.jpg 2.jpg 0.txt 1.txt 2.txt 1.txt",
            {"0": "jpg:0 txt:3", "1": "jpg:1 txt:4", "2": "jpg:2 txt:5", "1+": "txt:6"},
        ),
        (
            "0.jpg 1.jpg 2.jpg 0.txt 1.txt 2.txt 1.jpg 1.txt",
            {"0": "jpg:0 txt:3", "1": "jpg:1 txt:4", "2": "jpg:2 txt:5", "1+": "jpg:6 txt:7"},
        ),
        (
            "0.jpg 1.jpg 2.jpg 0.txt 1.txt 2.txt 0.jpg 1.jpg 0.txt 1.txt",
            {"0": "jpg:0 txt:3", "1": "jpg:1 txt:4", "2": "jpg:2 txt:5", "0+": "jpg:6 txt:8", "1+": "jpg:7 txt:9"},
        ),
        (
            "0.jpg 1.jpg 2.txt 1.txt 1.txt 0.txt",
            {"0": "jpg:0", "1": "jpg:1 txt:3", "2": "txt:2", "1+": "txt:4", "0+": "txt:5"},
        ),
    ],
)
def test_in_an_archive_sorted_by_kind_a_name_that_comes_again_begins_a_new_folder(names: str, found: dict[str, str]):
    assert told(names) == found


def test_files_that_are_no_part_of_a_sample_are_passed_over_however_often_they_come():
    strays = "README.md LICENSE stats.csv Thumbs.db d/index.html"
    assert told(f"{strays} 2.jpg 1.jpg 1.txt 2.txt {strays}") == {"2": "jpg:5 txt:8", "1": "jpg:6 txt:7"}


@pytest.mark.parametrize(
    "name", ["1.gif", "1.bmp", "1.HEIC", "1.txt", "1.json", "1.url.txt", "1.syn.json", "1", "1.npy", "1.jpg_large"]
)
def test_what_is_left_of_a_sample_is_not_passed_over(name: str):
    assert list(told(f"{name} 2.jpg 2.txt")) == ["1", "2"]
