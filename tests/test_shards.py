"""Shards as people have them: in any order, with anything missing, and one bad sample costs no other."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hqclip.data.captions import MAX_ALT_TEXT, MAX_TEXT
from hqclip.data.shards import CUT_OFF, ShardScan, scan_shard, write_shard
from hqclip.data.tar import BLOCK, members, write_tar
from hqclip.records import Sample

Members = list[tuple[str, bytes]]
Draw = Callable[..., list[Sample]]


@pytest.fixture
def scan(tmp_path: Path) -> Callable[[Members], ShardScan]:
    """Write a shard of these members and read it."""

    return lambda contents: scan_shard(written(tmp_path / "shard.tar", contents))


def written(path: Path, contents: Members) -> Path:
    """A shard of these members."""
    with path.open("wb") as file:
        write_tar(file, contents)
    return path


Scan = Callable[[Members], ShardScan]


@pytest.fixture
def whole(scene_jpeg: Callable[[int], bytes]) -> Callable[[str], Members]:
    """The members of a sample with nothing wrong, and with no uid of its own."""

    def sample(key: str, text: bytes = b"a ring", about: object = None) -> Members:
        document = json.dumps({"url": "https://x.example/1.jpg"} if about is None else about).encode()
        return [(f"{key}.jpg", scene_jpeg(3)), (f"{key}.txt", text), (f"{key}.json", document)]

    return sample


Whole = Callable[..., Members]


@pytest.fixture
def hashed(scene_jpeg: Callable[[int], bytes]) -> Callable[[str], str]:
    """The uid of a whole sample that only its key names."""
    return lambda key: hashlib.sha256(scene_jpeg(3) + key.encode()).hexdigest()[:32]


Hashed = Callable[[str], str]


def test_what_is_written_is_what_is_read(draw_samples: Draw, tmp_path: Path):
    samples = draw_samples(4)
    write_shard(samples[::-1], tmp_path / "a.tar")
    found = scan_shard(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    assert [
        Sample(row.uid, data[row.image_offset : row.image_offset + row.image_size], row.text) for row in found.rows
    ] == samples
    assert [(row.width, row.height) for row in found.rows] == [(56, 56)] * 4
    assert [row.sha256 for row in found.rows] == [hashlib.sha256(sample.image).digest() for sample in samples]
    assert not found.faults
    assert not found.damage


def test_the_same_samples_give_the_same_shard_in_any_order(draw_samples: Draw, tmp_path: Path):
    for name, samples in (("a", draw_samples(3)), ("b", draw_samples(3)[::-1])):
        write_shard(samples, tmp_path / f"{name}.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_an_image_is_written_under_the_name_of_its_kind(tmp_path: Path, kind: str, extension: str):
    picture, uid = io.BytesIO(), "0" * 32
    Image.new("RGB", (20, 30)).save(picture, kind)
    write_shard([Sample(uid, picture.getvalue(), "a ring")], tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == [f"{uid}.{extension}", f"{uid}.txt", f"{uid}.json"]
        about = json.load(tar.extractfile(f"{uid}.json"))  # type: ignore[arg-type]
    assert set(about) == {"uid", "caption", "sha256", "width", "height", "original_width", "original_height"}


def test_half_a_letter_is_replaced_in_what_is_written(draw_samples: Draw, tmp_path: Path):
    write_shard([dataclasses.replace(draw_samples(1)[0], text="half \ud83d a letter")], tmp_path / "a.tar")
    found = scan_shard(tmp_path / "a.tar")
    assert [row.text for row in found.rows] == ["half ? a letter"]
    assert not found.faults


def test_two_samples_with_one_uid_are_not_written(draw_samples: Draw, tmp_path: Path):
    with pytest.raises(ValueError, match=f"a.tar: two samples have the uid {1:032x}"):
        write_shard([*draw_samples(3), draw_samples(2)[1]], tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


def test_members_of_a_sample_may_lie_apart(scan: Scan, whole: Whole, hashed: Hashed):
    one, two = whole("s1"), whole("s2")
    found = scan([two[2], two[1], one[0], two[0], one[1], one[2]])
    assert [row.uid for row in found.rows] == [hashed("s1"), hashed("s2")], "in the order of their images"
    assert not found.faults


def test_extensions_may_be_upper_case(scan: Scan, whole: Whole, hashed: Hashed):
    found = scan([(key[:2] + key[2:].upper(), data) for key, data in whole("s1")])
    assert [row.uid for row in found.rows] == [hashed("s1")]


@pytest.mark.parametrize("extension", ["jpeg", "png", "webp", "jpg"])
def test_images_are_known_by_their_content_not_their_name(scan: Scan, whole: Whole, extension: str):
    picture = io.BytesIO()
    Image.new("RGB", (20, 30)).save(picture, "PNG")
    found = scan([(f"s1.{extension}", picture.getvalue()), *whole("s1")[1:]])
    assert [(row.width, row.height) for row in found.rows] == [(20, 30)]


def test_each_bad_sample_is_counted_by_name_and_costs_no_other(scan: Scan, whole: Whole, hashed: Hashed):
    tiny = io.BytesIO()
    Image.new("RGB", (1, 1)).save(tiny, "PNG")
    jpg, txt, about = (data for _, data in whole("x"))
    bad = {
        "no_image": [("{}.txt", txt), ("{}.json", about)],
        "no_text": [("{}.jpg", jpg), ("{}.json", about)],
        "not_an_image": [("{}.jpg", b"<svg/>"), ("{}.txt", txt)],
        "too_small": [("{}.png", tiny.getvalue()), ("{}.txt", txt)],
        "image_too_large": [("{}.jpg", jpg + bytes(32 << 20)), ("{}.txt", txt)],
        "bad_json": [("{}.jpg", jpg), ("{}.txt", txt), ("{}.json", b"{'uid': 1}")],
        "unsafe_name": [("../{}.jpg", jpg)],
    }
    contents = [
        (name.format(fault), data) for fault, parts in bad.items() for name, data in [*parts, *whole(f"good-{fault}")]
    ]
    found = scan(contents)
    assert found.faults == dict.fromkeys(bad, 1)
    assert found.examples == {**{fault: fault for fault in bad}, "unsafe_name": "'../unsafe_name.jpg'"}
    assert [row.uid for row in found.rows] == [hashed(f"good-{fault}") for fault in bad]
    assert not found.damage


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"null", b'"uid"', b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
    ids=["empty", "list", "null", "text", "cut", "utf-16", "deep", "enormous number"],
)
def test_json_that_is_none_costs_its_sample_only(scan: Scan, whole: Whole, document: bytes, hashed: Hashed):
    found = scan([*whole("s1")[:2], ("s1.json", document), *whole("s2")])
    assert found.faults == {"bad_json": 1}
    assert [row.uid for row in found.rows] == [hashed("s2")]


def test_json_beyond_its_limit_is_not_read(scan: Scan, whole: Whole):
    found = scan([*whole("s1")[:2], ("s1.json", b" " * ((1 << 20) + 1)), *whole("s2")])
    assert found.faults == {"bad_json": 1}


@pytest.mark.parametrize("uid", [7, None, ["a"], {"a": 1}, True])
def test_a_uid_that_is_no_text_is_none(scan: Scan, whole: Whole, uid: object, hashed: Hashed):
    assert [row.uid for row in scan(whole("s1", about={"uid": uid})).rows] == [hashed("s1")]


def test_a_uid_of_half_a_letter_costs_nothing(scan: Scan, whole: Whole):
    broken = [*whole("s1")[:2], ("s1.json", b'{"uid": "\\ud800"}')]
    found = scan([*broken, *whole("s2")])
    assert len({row.uid for row in found.rows}) == 2
    assert not found.faults


def test_the_uid_is_that_of_the_json_else_of_the_key(scan: Scan, whole: Whole):
    stated, key = "0" * 31 + "a", "0" * 31 + "b"
    found = scan([*whole("000000001", about={"uid": stated}), *whole(key), *whole(f"folder/{'0' * 31}c")])
    assert [row.uid for row in found.rows] == [stated, key, "0" * 31 + "c"]


def test_keys_that_are_no_uid_are_hashed_the_same_way_every_time(scan: Scan, whole: Whole, hashed: Hashed):
    keys = ["ring-7", "a/x", "b/x", "größe", "f" * 33, "0" * 31 + "g"]
    found = scan([part for key in keys for part in whole(key)])
    assert [row.uid for row in found.rows] == [hashed(key) for key in keys]


def test_a_uid_in_capitals_is_the_same_uid(scan: Scan, whole: Whole):
    found = scan([*whole("a", about={"uid": "AB" * 16}), *whole("CD" * 16), *whole("b", about={"uid": "ab" * 16})])
    assert [row.uid for row in found.rows] == ["ab" * 16, "cd" * 16]
    assert found.faults == {"duplicate_uid": 1}


def test_a_key_is_told_from_that_of_another_run_by_the_image(
    scan: Scan, whole: Whole, scene_jpeg: Callable[[int], bytes]
):
    def uid(*contents: tuple[str, bytes]) -> str:
        return scan([*contents]).rows[0].uid

    for key in ("000010007", "sample000007", "cam1.00007", "a/dog_7"):
        one = whole(key)
        other = [(f"{key}.jpg", scene_jpeg(4)), *one[1:]]
        assert uid(*one) == uid(*one) == hashlib.sha256(scene_jpeg(3) + key.encode()).hexdigest()[:32]
        assert uid(*other) != uid(*one)
        assert uid(*whole(f"{key}8")) != uid(*one), "the same image under two keys is two samples"
        assert uid(*whole(f"run-2/{key}")) != uid(*one)
    stated = uid(*whole("000010007", about={"uid": "7"}))
    assert stated == hashlib.sha256(b"7").hexdigest()[:32], "a uid that is stated is taken at its word"


def test_where_somebody_refers_to_a_key_its_uid_is_of_the_key_alone(whole: Whole, hashed: Hashed, tmp_path: Path):
    """Benchmarks were written by this rule, which no picture changes; running numbers were never in it."""
    members = [*whole("ring-7"), *whole("a/000010007"), *whole("c", about={"uid": "a" * 32})]
    found = scan_shard(written(tmp_path / "images.tar", members), referred=True)
    ring = hashlib.sha256(b"ring-7").hexdigest()[:32]
    assert [row.uid for row in found.rows] == [ring, hashed("a/000010007"), "a" * 32]


@pytest.mark.parametrize("name", ["{:06d}", "sample{:06d}", "cam.{:06d}"])
def test_two_runs_in_one_tar_are_kept_whatever_their_keys_look_like(
    scan: Scan, whole: Whole, scene_jpeg: Callable[[int], bytes], name: str
):
    run = [whole(name.format(n)) for n in range(5)]
    other = [[(one[0][0], scene_jpeg(4)), *one[1:]] for one in run]
    found = scan([part for one in (*run, *other) for part in one])
    assert (len(found.rows), found.faults["repeated_key"], found.faults["duplicate_uid"]) == (10, 5, 0)


def test_a_folder_with_a_dot_in_its_name_holds_samples_like_any_other(scan: Scan, whole: Whole, hashed: Hashed):
    found = scan([part for key in ("v1.0/a", "v1.0/b", "./w.x/c") for part in whole(key)])
    assert [row.uid for row in found.rows] == [hashed(key) for key in ("v1.0/a", "v1.0/b", "w.x/c")]


def test_hidden_files_belong_to_no_sample(scan: Scan, whole: Whole):
    found = scan([("._1.jpg", b"mac"), (".DS_Store", b""), *whole("s1"), ("d/._2.jpg", b"mac")])
    assert len(found.rows) == 1
    assert not found.faults


def test_files_about_the_whole_shard_are_no_samples(scan: Scan, whole: Whole):
    names = ("README.md", "LICENSE", "stats.csv", "Thumbs.db", "classes.names")
    found = scan([(name, b"about all of them") for name in names] + whole("s1"))
    assert (len(found.rows), found.faults) == (1, {})


def test_one_text_added_to_a_shard_sorted_by_kind_is_one_loss(scan: Scan, whole: Whole):
    sorted_by_kind = sorted((part for n in range(10) for part in whole(f"{n:04d}")), key=lambda part: part[0][-3:])
    found = scan([*sorted_by_kind, ("0003.txt", b"a corrected ring")])
    assert (len(found.rows), found.faults) == (10, {"duplicate_member": 1})
    assert found.examples == {"duplicate_member": "0003"}


def test_further_members_of_a_sample_are_of_no_interest(scan: Scan, whole: Whole):
    found = scan([*whole("s1"), ("s1.cls", b"3"), ("s1.seg.png", b"no picture"), ("s1.npy", b"\x93NUMPY")])
    assert len(found.rows) == 1
    assert not found.faults


def test_the_first_of_two_samples_with_one_uid_is_kept(scan: Scan, whole: Whole):
    uid = {"uid": "f" * 32}
    found = scan([*whole("s1", b"first", uid), *whole("s2", b"second", uid), *whole("s3")])
    assert [row.text for row in found.rows] == ["first", "a ring"]
    assert (found.faults, found.examples) == ({"duplicate_uid": 1}, {"duplicate_uid": "s2"})


def test_of_two_runs_in_one_tar_every_sample_is_kept_with_its_own_text(
    scan: Scan, whole: Whole, scene_jpeg: Callable[[int], bytes]
):
    first = [part for n in range(5) for part in whole(f"{n:09d}", f"first {n}".encode())]
    second = [
        (f"{n:09d}.{kind}", data)
        for n in range(5)
        for kind, data in (("jpg", scene_jpeg(4)), ("txt", f"second {n}".encode()))
    ]
    found = scan(first + second)
    texts = [(row.text, row.sha256 == hashlib.sha256(scene_jpeg(4)).digest()) for row in found.rows]
    assert texts == [(f"first {n}", False) for n in range(5)] + [(f"second {n}", True) for n in range(5)]
    assert len({row.uid for row in found.rows}) == 10
    assert (found.faults, found.examples) == ({"repeated_key": 5}, {"repeated_key": "000000000"})


def test_a_picture_never_gets_the_text_of_another_that_bears_its_name(
    scan: Scan, whole: Whole, scene_jpeg: Callable[[int], bytes]
):
    found = scan([("1.jpg", scene_jpeg(5)), ("1.json", b"{}"), *whole("2"), *whole("1", b"of the second")])
    assert [(row.text, row.sha256) for row in found.rows] == [
        (text, hashlib.sha256(scene_jpeg(3)).digest()) for text in ("a ring", "of the second")
    ]
    assert found.faults == {"no_text": 1, "repeated_key": 1}


def test_a_text_that_was_added_to_the_end_is_a_loss_and_the_first_stands(scan: Scan, whole: Whole):
    found = scan([*whole("s1", b"first"), *whole("s2"), ("s1.txt", b"second")])
    assert [row.text for row in found.rows] == ["first", "a ring"]
    assert (found.faults, found.examples) == ({"duplicate_member": 1}, {"duplicate_member": "s1"})


def test_neighbours_of_one_name_that_nobody_can_tell_apart_are_one_sample_lost(
    scan: Scan, whole: Whole, hashed: Hashed
):
    found = scan([*whole("s1", b"first"), ("s1.txt", b"second"), ("s1.TXT", b"third"), *whole("s2")])
    assert [row.uid for row in found.rows] == [hashed("s2")]
    assert found.faults == {"duplicate_member": 1}


def test_the_same_run_twice_is_half_lost_by_name(scan: Scan, whole: Whole):
    run = [part for n in range(3) for part in whole(f"{n:09d}")]
    found = scan(run + run)
    assert (len(found.rows), found.faults) == (3, {"duplicate_uid": 3})


def test_keys_with_dots_are_samples_each(scan: Scan, whole: Whole, hashed: Hashed):
    found = scan([part for key in ("a", "cam1.00000", "cam1.00001", "cam2.7.8") for part in whole(key)])
    assert [row.uid for row in found.rows] == [hashed(key) for key in ("a", "cam1.00000", "cam1.00001", "cam2.7.8")]
    assert (found.faults, found.examples) == ({"dotted_key": 3}, {"dotted_key": "cam1.00000"})


def test_every_sample_of_a_dotted_key_that_is_lost_counts(scan: Scan, whole: Whole):
    found = scan([(f"cam1.{n}.jpg", b"<svg/>") for n in range(7)] + whole("cam1.7"))
    assert (len(found.rows), found.faults) == (1, {"no_text": 7, "dotted_key": 1})


@pytest.mark.parametrize("keys", [["../up", "/etc/a", "a\\b"], ["v1/a\x1b"]])
def test_a_sample_of_unsafe_names_is_lost_once(scan: Scan, whole: Whole, keys: list[str]):
    found = scan([part for key in keys for part in whole(key)])
    assert (found.rows, found.faults) == ([], {"unsafe_name": len(keys)})


def test_of_two_pictures_the_first_kind_is_taken_and_this_is_said(scan: Scan, whole: Whole):
    found = scan([("s1.png", b"no picture"), *whole("s1")])
    assert [row.sha256 for row in found.rows] == [hashlib.sha256(whole("s1")[0][1]).digest()]
    assert found.faults == {"second_image": 1}


@pytest.mark.parametrize("name", ["txt", "text", "caption", "cap", "CAP"])
@pytest.mark.parametrize("image", ["jpg", "img", "jfif", "image"])
def test_captions_and_pictures_have_more_than_one_name(scan: Scan, whole: Whole, name: str, image: str):
    found = scan([(f"s1.{image}", whole("s1")[0][1]), (f"s1.{name}", b"a cube")])
    assert ([row.text for row in found.rows], found.faults) == (["a cube"], {})


def test_the_caption_of_the_json_stands_in_for_a_text(scan: Scan, whole: Whole):
    def said(caption: object, *text: bytes) -> list[str]:
        about = json.dumps({"caption": caption}).encode()
        return [
            row.text for row in scan([whole("s1")[0], ("s1.json", about), *(("s1.txt", data) for data in text)]).rows
        ]

    assert said("a\tred  cube\n") == ["a red cube"]
    assert said("half \ud83d a letter") == ["half ? a letter"]
    assert said("x" * 100_000) == ["x" * MAX_ALT_TEXT]
    assert said("of the json", b"of the text") == ["of the text"]
    assert said("of the json", b" \n") == ["of the json"]
    assert said("") == [""]
    assert said(None) == said(7) == said(["a"]) == []


def test_a_caption_that_is_nowhere_is_no_text(scan: Scan, whole: Whole):
    assert scan([whole("s1")[0], whole("s1")[2]]).faults == {"no_text": 1}
    assert scan([whole("s1")[0], ("s1.json", b'{"caption": "\\u0000\\u0000"}')]).faults == {"text_garbled": 1}


def test_text_in_another_encoding_is_read_and_counted(scan: Scan, whole: Whole):
    found = scan([*whole("s1", "Café “größer”".encode("cp1252")), *whole("s2", "猫".encode("utf-16")), *whole("s3")])
    assert [row.text for row in found.rows] == ["Café “größer”", "猫", "a ring"]
    assert (found.faults, found.examples) == ({"text_not_utf8": 2}, {"text_not_utf8": "s1"})


def test_what_is_no_text_in_any_encoding_costs_its_sample(scan: Scan, whole: Whole):
    found = scan([*whole("s1", "a cube".encode("utf-16-le")), *whole("s2", b"\0" * 100), *whole("s3")])
    assert [row.text for row in found.rows] == ["a ring"]
    assert (found.faults, found.examples) == ({"text_garbled": 2}, {"text_garbled": "s1"})


@pytest.mark.parametrize("letter", ["x", "é", "語", "🙂", "\0xxxx"])
def test_a_text_without_end_is_cut_and_costs_no_sample(scan: Scan, whole: Whole, letter: str):
    text = "a" + letter * MAX_TEXT
    found = scan([*whole("s1", text.encode()), *whole("s2")])
    assert [row.text for row in found.rows] == [" ".join(text.replace("\0", " ").split())[:MAX_ALT_TEXT], "a ring"]
    assert (found.faults, found.examples) == ({"text_too_long": 1}, {"text_too_long": "s1"})


def test_links_are_counted_and_lead_nowhere(whole: Whole, tmp_path: Path, hashed: Hashed):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in whole("s1"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("s2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    found = scan_shard(path)
    assert [row.uid for row in found.rows] == [hashed("s1")]
    assert (found.faults, found.examples) == ({"not_a_file": 1}, {"not_a_file": "s2.jpg"})


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("a\tred\r\n ring\n", "a red ring"),
        ("nul\0 escape\x1b[2J delete\x7f next\x85line", "nul escape [2J delete next line"),
        ("cafe\u0301", "café"),
        ("👩‍👩‍👧 می‌خواهم", "👩‍👩‍👧 می‌خواهم"),
        ("\ufeffwith a mark", "with a mark"),
        ("{{$.inputs}} <script> %s", "{{$.inputs}} <script> %s"),
        (" \n ", ""),
        ("", ""),
        ("x" * 5000, "x" * MAX_ALT_TEXT),
    ],
)
def test_alt_text_is_one_line_without_control_characters(scan: Scan, whole: Whole, raw: str, kept: str):
    found = scan(whole("s1", raw.encode()))
    assert [row.text for row in found.rows] == [kept]
    assert not found.faults


def test_a_shard_of_img2dataset_is_read_as_it_is(scene_jpeg: Callable[[int], bytes], tmp_path: Path):
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            key = f"{number:09d}"
            about = {
                "uid": f"{number + 16:032x}",
                "face_bboxes": [[0.1, 0.2, 0.3, 0.4]],
                "url": f"https://x.example/{key}.jpg?a=%20",
                "caption": "a “ring”",
                "key": key,
                "status": "success",
                "error_message": None,
                "width": 56,
                "original_width": 640,
                "exif": '{"Image Orientation": "Rotated"}',
                "sha256": "00" * 32,
            }
            parts = [("jpg", scene_jpeg(number)), ("json", json.dumps(about).encode()), ("txt", "a “ring”".encode())]
            for extension, data in parts:
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mtime, info.uname = len(data), 1700000000.25, "bigdata"
                tar.addfile(info, io.BytesIO(data))
    found = scan_shard(path)
    assert [(row.uid, row.text) for row in found.rows] == [(f"{n + 16:032x}", "a “ring”") for n in range(3)]
    assert not found.faults
    assert not found.damage


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_cut_shard_keeps_its_whole_samples_only(whole: Whole, tmp_path: Path, after: int):
    uids = [f"{number:032x}" for number in range(1, 4)]
    contents = [part for n, uid in enumerate(uids) for part in whole(str(n), about={"uid": uid})]
    path = written(tmp_path / "shard.tar", contents)
    with path.open("rb") as file:
        places = [member.offset - BLOCK for member in members(file, path.stat().st_size)]
    path.write_bytes(path.read_bytes()[: places[3 + after]])
    found = scan_shard(path)
    assert found.damage.startswith(f"cut at byte {places[3 + after]}")
    assert [row.uid for row in found.rows] == uids[: 2 if after == 3 else 1]
    assert found.faults == ({CUT_OFF: 1} if after in (1, 2) else {})


@pytest.fixture
def scan_cut(tmp_path: Path) -> Callable[[Members], ShardScan]:
    """Write a shard of these members without its end, and read what is there."""

    def write_cut_and_scan(contents: Members) -> ShardScan:
        path = written(tmp_path / "shard.tar", contents)
        path.write_bytes(path.read_bytes()[: -2 * BLOCK])
        found = scan_shard(path)
        assert found.damage.startswith("cut at byte")
        return found

    return write_cut_and_scan


@pytest.mark.parametrize("strays", [["dataset.json"], ["classes.txt"], ["dataset.json", "classes.txt", "README.md"]])
def test_a_file_about_a_cut_shard_makes_no_sample_cut_off(scan_cut: Scan, whole: Whole, strays: list[str]):
    pairs = [part for n in range(9) for part in whole(str(n))[:2]]
    found = scan_cut([*((name, b"{}") for name in strays), *pairs, whole("9")[0]])
    assert (len(found.rows), found.faults[CUT_OFF]) == (9, 1)
    assert found.examples[CUT_OFF] == "9"


def test_samples_of_a_cut_shard_that_never_had_a_json_are_whole(scan_cut: Scan, whole: Whole):
    found = scan_cut([*whole("1"), *whole("2")[:2], *whole("3"), *whole("4")[:1]])
    assert (len(found.rows), found.faults, found.examples) == (3, {CUT_OFF: 1}, {CUT_OFF: "4"})


def test_of_a_cut_shard_sorted_by_kind_those_are_cut_off_that_lack_a_kind(scan_cut: Scan, whole: Whole):
    parts = sorted((part for n in range(6) for part in whole(str(n))[:2]), key=lambda part: part[0][-3:])
    found = scan_cut([("dataset.json", b"{}"), *parts[:-2]])
    assert (len(found.rows), found.faults[CUT_OFF]) == (4, 3), "the two, and the file about all of them"


def test_an_empty_shard_has_no_samples(scan: Scan):
    assert scan([]) == ShardScan()
