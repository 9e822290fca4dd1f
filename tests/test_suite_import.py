"""Sets as they are published become sets of a suite, whatever their layout; nothing about them changes on the way."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hqclip.cli import main
from hqclip.config import EvaluateConfig
from hqclip.data.shards import scan_shard
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.evaluate import stage
from hqclip.evaluate.config import LAYOUTS as NAMES
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.importing import command, packing
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.registry import LAYOUTS
from hqclip.evaluate.importing.source import Source
from hqclip.evaluate.suite import Suite, choose, read_suite, shards_of
from hqclip.store import open_store
from hqclip.train.model import HQClip
from tests import published_sets as published
from tests.buckets import quick_store
from tests.fakes.cut_short import Killed
from tests.fakes.gcs import FakeGcs

Draw = Callable[[int], bytes]


def imported(tmp_path: Path, source: Path | str, **given: Any) -> Any:
    """The benchmark that an import of `source` adds to the suite."""
    given = {"name": "it", "suite": f"{tmp_path}/suite", **given}
    done = command.run(SuiteImportConfig(source=str(source), **given))
    return benchmark_of(read_suite(done["suite"]), given["name"])


def benchmark_of(suite: Suite, name: str) -> Any:
    return next(one for one in suite.benchmarks if one.name == name)


def pictures(tmp_path: Path) -> dict[str, bytes]:
    """What is in the shards of the suite, by uid."""
    found = {}
    for shard in shards_of(read_suite(f"{tmp_path}/suite/suite.json")):
        data = shard.path.read_bytes()
        found |= {row.uid: data[row.image_offset :][: row.image_size] for row in shard.rows}
    return found


def test_every_layout_is_known_to_the_flags():
    assert tuple(LAYOUTS) == NAMES


def test_a_set_of_clip_benchmark(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    quiz = imported(tmp_path, source)
    assert (quiz.KIND, quiz.classes) == ("classification", ("ring", "square", "blue cross"))
    assert quiz.templates == ("a photo of a {}.", "{}")
    assert quiz.labels == (0, 1, 2, 0, 1, 2, 0, 1)
    assert [pictures(tmp_path)[uid] for uid in quiz.uids] == [scene_jpeg(number) for number in range(8)]
    assert set(quiz.groups) == {"all"}


def test_the_numbers_beside_the_labels_say_where_images_are_from(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg, groups=True)
    assert imported(tmp_path, source, main="acc1_worst_group").domains == ("0", "1") * 4


def test_a_task_of_datacomp_counts_as_it_does_there(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg, groups=True)
    published.write_shards(
        source,
        [
            [("a.jpg", scene_jpeg(0)), ("a.cls", b"0"), ("a.npy", published.npy([5, 2013]))]
            + [
                part
                for n in (1, 2)
                for part in ((f"{n}.jpg", scene_jpeg(n)), (f"{n}.cls", b"1"), (f"{n}.npy", published.npy([n])))
            ]
        ],
    )
    quiz = imported(tmp_path, source, name="fmow")
    assert (quiz.main, quiz.domains) == ("acc1_worst_group", ("", "1", "2"))  # the region "Other" does not count
    assert imported(tmp_path, source, name="pets").main == "mean_per_class_recall"
    assert imported(tmp_path, source, name="fmow", main="acc1", suite=f"{tmp_path}/b").main == "acc1"


def test_several_captions_an_image(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.clip_retrieval(tmp_path / "set", scene_jpeg))
    assert (quiz.KIND, len(quiz.uids)) == ("retrieval", 4)
    assert [list(captions) for captions in quiz.captions] == [
        [f"scene {number}, caption {place}" for place in range(5)] for number in range(4)
    ]


def test_the_same_picture_twice_counts_twice(tmp_path: Path, scene_jpeg: Draw):
    """As in CIFAR or ImageNet, where the reference counts both."""
    source = published.clip_benchmark(tmp_path / "set", lambda number: scene_jpeg(0))
    quiz = imported(tmp_path, source)
    assert len(set(quiz.uids)) == len(quiz.labels) == 8


def test_an_image_folder(tmp_path: Path, scene_jpeg: Draw):
    source = published.image_folder(tmp_path / "set", scene_jpeg)
    quiz = imported(tmp_path, source, layout="image_folder")
    assert quiz.labels == (0, 0, 1, 1, 2, 2)
    assert quiz.classes == ("ring", "square", "blue cross")
    few = imported(tmp_path, source, layout="image_folder", limit=3, name="few")
    assert few.labels == (0, 1, 2)  # one of each class
    (source / "classnames.txt").unlink()
    other = published.put(tmp_path, "words.txt", "look, a {c}\n")
    named = imported(tmp_path, source, layout="image_folder", name="named", templates=str(other))
    assert (named.classes, named.templates) == (("n01", "n02", "n03"), ("look, a {}",))


@pytest.mark.parametrize("form", [published.coco, published.karpathy])
def test_captions_of_coco(tmp_path: Path, scene_jpeg: Draw, form: Callable[[Path, Draw], Path]):
    file = form(tmp_path / "set", scene_jpeg)
    images = {"images": f"{tmp_path}/set/val2017"} if form is published.coco else {}
    quiz = imported(tmp_path, file, layout="captions", **images)
    numbers = [17, 4, 9] if form is published.coco else [0, 2]  # of the split "test"
    assert [pictures(tmp_path)[uid] for uid in quiz.uids] == [scene_jpeg(number) for number in numbers]
    assert [(len(said), said[0].split()[1].strip(",")) for said in quiz.captions] == [(5, str(n)) for n in numbers]


def test_captions_as_a_list_with_their_images_in_tars(tmp_path: Path, scene_jpeg: Draw):
    items = [{"image": f"val2014/{n}.jpg", "caption": [f"scene {n}", f"scene {n} again"]} for n in range(3)]
    items[1]["caption"] = "only one"
    file = published.put_json(tmp_path / "set", "coco_karpathy_test.json", items)
    images = [(f"{n}.jpg", scene_jpeg(n)) for n in (2, 7, 0, 1)]  # one is asked for by nobody
    images.insert(1, ("train2014/0.jpg", scene_jpeg(9)))
    published.write_shards(tmp_path / "tars", [images[:3], images[3:]])
    quiz = imported(tmp_path, file, layout="captions", images=f"{tmp_path}/tars/test/{{0..1}}.tar")
    assert [list(said) for said in quiz.captions] == [["scene 0", "scene 0 again"], ["only one"], items[2]["caption"]]
    assert [pictures(tmp_path)[uid] for uid in quiz.uids] == [scene_jpeg(n) for n in range(3)]


def test_sugarcrepe(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.sugarcrepe(tmp_path / "set", scene_jpeg), layout="sugarcrepe")
    assert (quiz.KIND, quiz.groups) == ("choice", ("add_att", "add_att", "swap_obj", "swap_obj"))
    assert quiz.uids[1] == quiz.uids[2]  # a picture that is asked about twice is there once
    assert (quiz.positives[3], quiz.negatives[3]) == ("a true caption 2", "a false one of swap_obj 2")
    assert len(pictures(tmp_path)) == 3


def test_of_aro_only_the_box_is_shown(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.aro(tmp_path / "set", scene_jpeg), layout="aro")
    assert quiz.groups == ("to the left of", "on", "on")
    shown = [Image.open(io.BytesIO(pictures(tmp_path)[uid])) for uid in quiz.uids]
    assert [picture.size for picture in shown] == [(30, 20), (30, 21), (30, 22)]
    whole = np.asarray(Image.open(io.BytesIO(scene_jpeg(0))).convert("RGB"))
    assert (np.asarray(shown[2]) == whole[2:24, 2:32]).all()


def test_winoground(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.winoground(tmp_path / "set", scene_jpeg), layout="winoground")
    assert (quiz.KIND, quiz.groups) == ("matching", ("Object", "Object"))
    assert quiz.captions[2:] == ("a ring on a square 1", "a square on a ring 1")
    assert [pictures(tmp_path)[uid] for uid in quiz.uids] == [scene_jpeg(number) for number in range(4)]


def test_valse_without_what_people_did_not_agree_on(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.valse(tmp_path / "set", scene_jpeg), layout="valse")
    assert quiz.positives == ("there is a ring 0", "there is a ring 2")
    assert (quiz.negatives[0], quiz.groups) == ("there is no ring 0", ("existence", "existence"))


def test_mmvp(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.mmvp(tmp_path / "set", scene_jpeg), layout="mmvp")
    assert quiz.captions == ("a photo of a ring", "a photo of a square, blue")
    assert (quiz.KIND, quiz.groups, quiz.main) == ("matching", ("Texts",), "image_score")


def test_winogavil(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.winogavil(tmp_path / "set", scene_jpeg), layout="winogavil")
    assert (quiz.KIND, quiz.cues, quiz.answers) == ("association", ("A bald", "An iron"), ([0, 2], [2]))
    assert [len(uids) for uids in quiz.candidates] == [4, 3]
    assert [pictures(tmp_path)[uid] for uid in quiz.candidates[1]] == [scene_jpeg(n) for n in (1, 2, 3)]


def test_urban1k(tmp_path: Path, scene_jpeg: Draw):
    quiz = imported(tmp_path, published.urban1k(tmp_path / "set", scene_jpeg), layout="urban1k")
    assert [list(said) for said in quiz.captions] == [
        [f"The picture shows scene {number} and much more."] for number in (221, 222)
    ]


def test_what_a_set_was_made_of_is_kept(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    imported(tmp_path, source, licence="CC BY 4.0")
    (one,) = read_suite(f"{tmp_path}/suite/suite.json").sets
    assert one.origin is not None
    assert (one.origin.layout, one.origin.source, one.origin.licence) == ("clip_benchmark", str(source), "CC BY 4.0")
    elsewhere = published.clip_benchmark(tmp_path / "copy", scene_jpeg)
    imported(tmp_path, elsewhere, suite=f"{tmp_path}/other")
    (other,) = read_suite(f"{tmp_path}/other/suite.json").sets
    assert other.origin is not None
    assert (other.digest, other.origin.sha256) == (one.digest, one.origin.sha256)  # the same files elsewhere
    (elsewhere / "classnames.txt").write_text("ring\nsquare\ncross\n")
    imported(tmp_path, elsewhere, suite=f"{tmp_path}/third")
    (third,) = read_suite(f"{tmp_path}/third/suite.json").sets
    assert third.origin is not None
    assert third.digest != one.digest and third.origin.sha256 != one.origin.sha256


def test_an_import_that_is_repeated_writes_nothing(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    config = SuiteImportConfig(suite=f"{tmp_path}/suite", source=str(source), name="it")
    assert command.run(config)["already_done"] is False
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "suite").rglob("*") if path.is_file()}
    assert command.run(config)["already_done"] is True
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "suite").rglob("*") if path.is_file()} == before


def test_a_name_never_comes_to_stand_for_something_else(tmp_path: Path, scene_jpeg: Draw):
    imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg))
    before = (tmp_path / "suite/suite.json").read_bytes()
    with pytest.raises(ConflictError, match="its set 'it' has other content .* give this one another --name"):
        imported(tmp_path, published.clip_retrieval(tmp_path / "other", scene_jpeg))
    assert (tmp_path / "suite/suite.json").read_bytes() == before


def test_the_order_of_imports_changes_nothing(tmp_path: Path, scene_jpeg: Draw):
    sets = {
        "a": published.clip_benchmark(tmp_path / "a", scene_jpeg),
        "b": published.clip_retrieval(tmp_path / "b", scene_jpeg),
    }
    for order in ("ab", "ba"):
        for name in order:
            imported(tmp_path, sets[name], name=name, suite=f"{tmp_path}/{order}/suite")
    assert (tmp_path / "ab/suite/suite.json").read_bytes() == (tmp_path / "ba/suite/suite.json").read_bytes()


def test_a_suite_of_one_shard_for_all_takes_a_set_more(
    tmp_path: Path, scene_jpeg: Draw, capsys: pytest.CaptureFixture[str]
):
    assert main(["demo", "world", "--store", str(tmp_path), "--images", "8", "--scenes", "8"]) == 0
    old = read_suite(f"{tmp_path}/suite-8/suite.json")
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    imported(tmp_path, source, suite=f"{tmp_path}/suite-8/suite.json")
    new = read_suite(f"{tmp_path}/suite-8/suite.json")
    assert [one.name for one in new.benchmarks] == ["classification", "composition", "it", "retrieval"]
    assert {one.benchmark.name: one.digest for one in old.sets}.items() <= {
        one.benchmark.name: one.digest for one in new.sets
    }.items()
    assert len(list(shards_of(new))) == 2  # the old sets still share theirs
    assert main(["suite", "check", "--suite", f"{tmp_path}/suite-8"]) == 0


def test_pictures_go_into_several_shards(tmp_path: Path, scene_jpeg: Draw, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing.pack, "__defaults__", (2 * len(scene_jpeg(0)),))
    quiz = imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg))
    suite = read_suite(f"{tmp_path}/suite/suite.json")
    assert len(suite.sets[0].shards) >= 3
    assert [row.uid for shard in shards_of(suite) for row in shard.rows] == list(quiz.uids)


def test_memory_does_not_grow_with_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(buffer, "PNG")
    picture, count = buffer.getvalue(), 80
    assert len(picture) > 250_000  # noise cannot be packed
    monkeypatch.setattr(packing.os, "cpu_count", lambda: 1)
    source = Source(SuiteImportConfig(suite="-", source=str(tmp_path), name="it"))
    drawn = (Picture(str(number), bytes(bytearray(picture))) for number in range(count))
    tracemalloc.start()
    try:
        packed = packing.pack(open_store(str(tmp_path)), drawn, source, 10 * len(picture))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(packed.uids), len(packed.shards)) == (count, 8)
    assert peak < count * len(picture) / 4


def test_an_import_that_is_killed_leaves_the_suite_whole(
    tmp_path: Path, scene_jpeg: Draw, monkeypatch: pytest.MonkeyPatch
):
    imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg))
    before = read_suite(f"{tmp_path}/suite/suite.json").digest
    source = published.clip_retrieval(tmp_path / "other", scene_jpeg)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    for place in ("add_set", "check"):
        with monkeypatch.context() as patch:
            patch.setattr(command, place, kill)
            with pytest.raises(Killed):
                imported(tmp_path, source, name="more")
        assert read_suite(f"{tmp_path}/suite/suite.json").digest == before
    imported(tmp_path, source, name="more")
    assert [one.name for one in read_suite(f"{tmp_path}/suite/suite.json").benchmarks] == ["it", "more"]


def test_from_a_bucket_into_a_bucket(tmp_path: Path, scene_jpeg: Draw, fake_gcs: FakeGcs):
    source = published.sugarcrepe(tmp_path / "set", scene_jpeg)
    bucket = quick_store("gs://bucket/sets")
    for path in source.rglob("*"):
        if path.is_file():
            bucket.write(str(path.relative_to(source)), path)
    done = command.run(
        SuiteImportConfig(
            suite="gs://bucket/suite", source="gs://bucket/sets", name="sugarcrepe", layout="sugarcrepe", limit=2
        )
    )
    assert (done["suite"], done["items"]) == ("gs://bucket/suite/suite.json", 2)
    suite = read_suite("gs://bucket/suite/suite.json")
    assert suite.benchmarks[0].groups == ("add_att", "swap_obj")  # type: ignore[attr-defined]
    assert {row.uid for shard in shards_of(suite) for row in shard.rows} == set(suite.benchmarks[0].uids)


def test_sets_that_are_not_there_are_an_error_or_are_noted(tmp_path: Path, scene_jpeg: Draw):
    imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg), name="imagenet")
    imported(tmp_path, published.clip_retrieval(tmp_path / "other", scene_jpeg), name="coco")
    suite = read_suite(f"{tmp_path}/suite/suite.json")
    with pytest.raises(NotFoundError, match="no set 'imagnet'; did you mean 'imagenet'"):
        choose(suite, ["imagnet"])
    with pytest.raises(NotFoundError, match="none of the sets flickr30k"):
        choose(suite, ["flickr30k"], skip_missing=True)
    one = choose(suite, ["imagenet", "flickr30k"], skip_missing=True)
    assert (one.skipped, [b.name for b in one.benchmarks]) == ({"flickr30k": "not in the suite suite"}, ["imagenet"])
    imported(tmp_path, tmp_path / "set", name="imagenet", suite=f"{tmp_path}/alone")
    assert one.digest == read_suite(f"{tmp_path}/alone/suite.json").digest != suite.digest
    assert choose(suite, ["coco", "imagenet"]).digest == suite.digest
    quick = choose(suite, ["quick"], skip_missing=True)
    assert (len(quick.sets), list(quick.skipped)) == (2, ["sugarcrepe"])
    with pytest.raises(NotFoundError, match="has no set 'sugarcrepe'"):
        choose(suite, ["quick"])
    HQClip("shapes", [0.5]).export(tmp_path / "runs/m/model")
    asked = {"sets": ("imagenet", "flickr30k"), "skip_missing": True, "resamples": 100}
    config = EvaluateConfig(store=str(tmp_path), model="runs/m/model", suite=f"{tmp_path}/suite/suite.json", **asked)
    done = stage.run(config)
    record = open_store(str(tmp_path)).read(done["evaluation"])
    assert b'"flickr30k": "not in the suite suite"' in record
    assert stage.run(config)["already_done"] is True


def test_members_of_shards_are_what_every_reader_of_shards_takes(tmp_path: Path, scene_jpeg: Draw):
    imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg))
    (shard,) = (tmp_path / "suite/images").iterdir()
    scan = scan_shard(shard)
    assert (len(scan.rows), scan.faults, scan.damage) == (8, {}, "")


def test_a_damaged_shard_is_named_when_it_is_read(tmp_path: Path, scene_jpeg: Draw):
    imported(tmp_path, published.clip_benchmark(tmp_path / "set", scene_jpeg))
    (shard,) = (tmp_path / "suite/images").iterdir()
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(DataError, match=rf"set it: its shard {shard} is not the one of \d+ bytes"):
        read_suite(f"{tmp_path}/suite/suite.json")
