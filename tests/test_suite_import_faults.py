"""What is wrong with a set that is to be imported is said by file and field; nothing of it is in the suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.cli import main
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.importing import command
from hqclip.evaluate.suite import read_suite
from tests import published_sets as published

Draw = Callable[[int], bytes]
Spoil = Callable[[Path, Draw], Any]


def refusal(tmp_path: Path, source: Path, **given: Any) -> str:
    config = SuiteImportConfig(suite=f"{tmp_path}/suite", source=str(source), name="it", **given)
    with pytest.raises((DataError, NotFoundError)) as refused:
        command.run(config)
    assert not (tmp_path / "suite/suite.json").exists()
    return str(refused.value)


def with_members(*members: tuple[str, bytes]) -> Spoil:
    """Shard 1 with these after one good sample."""

    def spoil(folder: Path, draw: Draw) -> None:
        good = [("s1.jpg", draw(1)), ("s1.cls", b"1")]
        published.write_shards(folder, [good, [("s2.jpg", draw(2)), ("s2.cls", b"2"), *members]])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f, d: (f / "classnames.txt").unlink(),
            "classnames.txt does not exist; add it, or give such a file with",
        ),
        (lambda f, d: (f / "zeroshot_classification_templates.txt").unlink(), "give such a file with --templates"),
        (lambda f, d: (f / "classnames.txt").write_text("ring\nRing\nblue cross\n"), "1 of 3 classes differ from what"),
        (lambda f, d: (f / "test/nshards.txt").write_text("3\n"), "nshards.txt says 3 shards, 0.tar to 2.tar, but"),
        (lambda f, d: (f / "test/nshards.txt").write_text("1\n"), "nshards.txt says 1 shards, 0.tar to 0.tar, but"),
        (lambda f, d: (f / "test/nshards.txt").write_text("two"), "nshards.txt is 'two'; it must be the number of sha"),
        (lambda f, d: (f / "test/nshards.txt").write_text("9" * 99), "but"),
        (
            lambda f, d: (f / "test/nshards.txt").write_text("0"),
            "nshards.txt is '0'; it must be the number of shards, 1",
        ),
        (lambda f, d: (f / "test/nshards.txt").unlink(), "test/nshards.txt does not exist; give a folder as CLIP_benc"),
        (lambda f, d: (f / "test/1.tar").rename(f / "test/2.tar"), "nshards.txt says 2 shards"),
        (
            lambda f, d: (f / "dataset_type.txt").write_text("multilabel"),
            "dataset_type.txt is 'multilabel'; what can be",
        ),
        (lambda f, d: (f / "classnames.txt").write_text("ring\n\nsquare\n"), "classnames.txt, line 2: it is empty"),
        (lambda f, d: (f / "classnames.txt").write_bytes(b"ring\xff\n"), "classnames.txt is not UTF-8 ("),
        (
            lambda f, d: (f / "classnames.txt").write_text("ring\n"),
            "s0000001.cls is '1'; it must be the number of a cl",
        ),
        (
            lambda f, d: (f / "zeroshot_classification_templates.txt").write_text("a {d}"),
            "templates[0] is 'a {d}'; wri",
        ),
        (
            lambda f, d: (f / "test/1.tar").write_bytes((f / "test/1.tar").read_bytes()[:3000]),
            "test/1.tar: cut at byte",
        ),
        (lambda f, d: (f / "test/1.tar").write_text("<html><title>Log in"), "test/1.tar: a web page"),
        (
            with_members(("s3.jpg", b""), ("s3.cls", b"3")),
            "sample s3.cls is '3'; it must be the number of a class, from 0",
        ),
        (with_members(("s3.jpg", b""), ("s3.cls", b"-1")), "sample s3.cls is '-1'; it must be the number of a class"),
        (with_members(("s3.jpg", b""), ("s3.cls", b"\xffx")), "it must be the number of a class"),
        (with_members(("s3.jpg", b"no picture"), ("s3.cls", b"1")), "image test/1.tar/s3 cannot be used: not_an_image"),
        (with_members(("s3.jpg", b"x")), "test/1.tar, sample s3: it has no .cls (class); mend it, or leave out"),
        (with_members(("s3.cls", b"1")), "test/1.tar, sample s3: it has no image; mend it, or"),
        (with_members(("s2.cls", b"1")), "test/1.tar: the member s2.cls comes twice; take one of them out"),
        (with_members(("../s3.jpg", b"x")), "test/1.tar: the member '../s3.jpg' leads elsewhere or is no file"),
        (with_members(("/etc/s3.jpg", b"x")), "the member '/etc/s3.jpg' leads elsewhere"),
        (with_members(("s2.npy", b"\x93NUMPY")), "sample s2.npy is no array of numbers"),
        (lambda f, d: published.write_shards(f, [[]]), "has no item that can be used; nothing was imported"),
    ],
)
def test_a_fault_of_a_webdataset_folder(tmp_path: Path, scene_jpeg: Draw, spoil: Spoil, said: str):
    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    spoil(source, scene_jpeg)
    assert said in refusal(tmp_path, source)


def test_an_array_that_would_run_code_is_no_array(tmp_path: Path, scene_jpeg: Draw):
    import io

    import numpy as np

    source = published.clip_benchmark(tmp_path / "set", scene_jpeg)
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    with_members(("s2.npy", buffer.getvalue()))(source, scene_jpeg)
    assert "s2.npy is no array of numbers (Object arrays cannot be loaded" in refusal(tmp_path, source)


def test_a_caption_that_says_nothing(tmp_path: Path, scene_jpeg: Draw):
    source = published.clip_retrieval(tmp_path / "set", scene_jpeg)
    published.write_shards(source, [[("s1.jpg", scene_jpeg(1)), ("s1.txt", b"one\n\ntwo")]])
    assert "test/0.tar, sample s1.txt: a line says nothing; write a caption in each" in refusal(tmp_path, source)


FILES: dict[str, tuple[Callable[[Path, Draw], Path], str]] = {
    "captions": (published.coco, "captions_val2017.json"),
    "sugarcrepe": (published.sugarcrepe, "add_att.json"),
    "aro": (published.aro, "visual_genome_relation.json"),
    "valse": (published.valse, "existence.json"),
    "winoground": (published.winoground, "examples.jsonl"),
}


def change(**fields: Any) -> Callable[[Any], Any]:
    """The first item with other fields; None takes one out."""

    def changed(document: Any) -> Any:
        items = document.values() if isinstance(document, dict) else document
        item = next(iter(items))
        item.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del item[name]
        return document

    return changed


def of(part: str, **fields: Any) -> Callable[[Any], Any]:
    def changed(document: Any) -> Any:
        change(**fields)(document[part])
        return document

    return changed


@pytest.mark.parametrize(
    ("layout", "spoil", "said"),
    [
        (
            "captions",
            of("annotations", image_id=5),
            "captions_val2017.json, annotations[0]: image_id is 5, the id of no i",
        ),
        ("captions", of("annotations", caption=3), "annotations[0]: caption is 3; it must be text"),
        ("captions", of("annotations", caption=" "), "annotations[0]: caption is ' ', which says nothing"),
        ("captions", of("annotations", image_id="17"), "annotations[0]: image_id is '17'; it must be a whole number"),
        (
            "captions",
            of("images", file_name=None),
            "images[0]: the field 'file_name' is missing; is this the right --lay",
        ),
        (
            "captions",
            of("images", file_name="../../etc/passwd"),
            "images[0]: file_name is '../../etc/passwd', which lea",
        ),
        ("captions", of("images", file_name="/etc/passwd"), "which leads out of the folder of images"),
        ("captions", of("images", id=4), "images[1]: id is 4, as that of 000017.jpg; take one out"),
        ("captions", of("images", file_name="gone.jpg"), "the image 'gone.jpg' that"),
        ("captions", lambda _: {"images": []}, "captions_val2017.json has no captions (of the split 'test')"),
        ("captions", lambda _: {"pictures": []}, "captions_val2017.json: the field 'images' is missing"),
        (
            "captions",
            lambda _: [{"image": "a.jpg", "caption": []}],
            "item 0: caption is [] (a list of 0); it must be a t",
        ),
        ("captions", lambda _: [{"image": "a.jpg", "caption": "x"}] * 2, "item 1: the image 'a.jpg' came before"),
        ("captions", lambda _: 7, "captions_val2017.json is 7; an item is an object"),
        ("sugarcrepe", change(negative_caption=None), "add_att.json, item 0: the field 'negative_caption' is missing"),
        ("sugarcrepe", change(caption=["a"]), "item 0: caption is ['a'] (a list of 1); it must be text"),
        ("sugarcrepe", change(filename="..%2f"), "the image '..%2f' that"),
        ("sugarcrepe", change(filename="a/../../b.jpg"), "which leads out of the folder of images"),
        (
            "sugarcrepe",
            change(negative_caption="a true caption 0"),
            "negatives[0] is 'a true caption 0', as is the true",
        ),
        ("sugarcrepe", lambda _: [1], "add_att.json is [1] (a list of 1); it must be an object of items"),
        ("aro", change(bbox_w=9999), "its box (0, 2, 9999, 20) goes beyond 56 x 56 pixels"),
        ("aro", change(bbox_x=-1), "its box is (-1, 2, 30, 20)"),
        ("aro", change(bbox_h=20.5), "item 0: bbox_h is 20.5; it must be a whole number"),
        ("aro", change(relation_name=None), "item 0: the field 'attributes' is missing"),
        ("aro", change(relation_name=None, attributes=["red"]), "item 0: attributes is ['red'] (a list of 1); it must"),
        ("aro", lambda _: {}, "visual_genome_relation.json is {}; it must be a list of items"),
        ("valse", change(mturk=None), "existence.json, item existence_0: the field 'mturk' is missing"),
        ("valse", change(mturk={"caption": "3"}), "item existence_0, mturk: caption is '3'; it must be a whole number"),
        ("valse", change(dataset=".."), "dataset is '..', which leads out of the folder"),
        ("valse", lambda _: {}, "has no item with 2 votes (mturk.caption) for its caption"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, scene_jpeg: Draw, layout: str, spoil: Callable[[Any], Any], said: str):
    make, name = FILES[layout]
    make(tmp_path / "set", scene_jpeg)
    file = tmp_path / "set" / name
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    images = {"images": f"{tmp_path}/set/val2017"} if layout == "captions" else {}
    assert said in refusal(tmp_path, file, layout=layout, **images)


@pytest.mark.parametrize("layout", FILES)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not valid JSON at character 1"),
        ("[" * 100_000, "is nested more than 100 deep"),
        ('{"a": 1, "a": 2}', "has 'a' twice"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_what_is_no_json_is_named(tmp_path: Path, scene_jpeg: Draw, layout: str, text: str, said: str):
    make, name = FILES[layout]
    make(tmp_path / "set", scene_jpeg)
    (tmp_path / "set" / name).write_bytes(text.encode(errors="surrogateescape"))
    message = refusal(tmp_path, tmp_path / "set" / name, layout=layout)
    assert name in message
    assert said in message


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ("Question ID,Type,Statement\n1,Texts,a ring\n", "has 1 questions; two after one another are a pair"),
        ("Question ID,Type,Statement\n1,Texts,a\n2,State,b\n", "line 3: Type is 'State', but that of the line before"),
        (
            "Question ID,Type\n1,Texts\n2,Texts\n",
            "has the columns Question ID, Type; 'Statement' is missing",
        ),
        (
            "Question ID,Type,Statement\n1,../..,a\n2,../..,b\n",
            "line 2: Type is '../..', which leads out of the folder",
        ),
        ("Question ID,Type,Statement\n1,Texts\n2,Texts,b\n", "line 2: Statement is missing (null); it must be text"),
    ],
)
def test_a_wrong_question_of_mmvp(tmp_path: Path, scene_jpeg: Draw, questions: str, said: str):
    source = published.mmvp(tmp_path / "set", scene_jpeg)
    (source / "Questions.csv").write_text(questions)
    assert said in refusal(tmp_path, source, layout="mmvp")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('"[""a"", ""b""]",bald,"[""c""]"', "line 2: associations has 'c', which is none of the candidates"),
        ('"[""a"", ""../b""]",bald,"[""a""]"', "line 2: candidates is '../b', which leads out of the folder of images"),
        ('"[""a""",bald,"[""a""]"', "line 2, candidates is not valid JSON"),
        ('7,bald,"[""a""]"', "line 2: candidates is 7; it must be a JSON list of names"),
        ('"[""a"", ""b""]",,"[""a""]"', "line 2: cue is '', which says nothing"),
    ],
)
def test_a_wrong_cue_of_winogavil(tmp_path: Path, scene_jpeg: Draw, row: str, said: str):
    source = published.winogavil(tmp_path / "set", scene_jpeg)
    source.write_text(f"candidates,cue,associations\n{row}\n")
    assert said in refusal(tmp_path, source, layout="winogavil")


def test_classes_that_are_not_those_of_the_folders(tmp_path: Path, scene_jpeg: Draw):
    source = published.image_folder(tmp_path / "set", scene_jpeg)
    (source / "classnames.txt").write_text("ring\nsquare\n")
    assert "classnames.txt has 2 lines, but there are 3 folders of classes (n01 to n03)" in refusal(
        tmp_path, source, layout="image_folder"
    )
    (tmp_path / "empty").mkdir()
    assert "has no images in folders" in refusal(tmp_path, tmp_path / "empty", layout="image_folder")


def test_an_image_that_is_in_two_tars(tmp_path: Path, scene_jpeg: Draw):
    file = published.put_json(tmp_path / "set", "a.json", [{"image": f"{n}.jpg", "caption": f"{n}"} for n in range(2)])
    images = [(f"{n}.jpg", scene_jpeg(n)) for n in range(2)]
    published.write_shards(tmp_path / "tars", [images[:1], images])
    said = refusal(tmp_path, file, layout="captions", images=f"{tmp_path}/tars/test/*.tar")
    assert "test/1.tar: the image '0.jpg' comes twice" in said


def test_what_cannot_be_used_is_left_out_and_counted_if_that_is_wanted(tmp_path: Path, scene_jpeg: Draw):
    published.coco(tmp_path / "set", scene_jpeg)
    (tmp_path / "set/val2017/000004.jpg").unlink()
    (tmp_path / "set/val2017/000009.jpg").write_bytes(b"no picture")
    extra = {f"{n}.jpg": scene_jpeg(n) for n in (30, 31)}
    file = tmp_path / "set/captions_val2017.json"
    document = json.loads(file.read_text())
    for number, (name, data) in enumerate(extra.items(), 100):
        published.put(tmp_path / "set", f"val2017/{name}", data)
        document["images"].append({"id": number, "file_name": name})
        document["annotations"].append({"id": number, "image_id": number, "caption": f"scene of {name}"})
    file.write_text(json.dumps(document))
    config = SuiteImportConfig(
        suite=f"{tmp_path}/suite",
        source=str(file),
        name="it",
        layout="captions",
        images=f"{tmp_path}/set/val2017",
        skip_missing=True,
    )
    done = command.run(config)
    assert (done["items"], done["left_out"]) == (3, {"missing_image": 1, "not_an_image": 1})
    (one,) = read_suite(done["suite"]).sets
    assert one.origin is not None
    assert one.origin.left_out == {"missing_image": 1, "not_an_image": 1}


def test_check_names_everything_that_is_wrong(tmp_path: Path, scene_jpeg: Draw, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b", "c"):
        source = published.clip_benchmark(tmp_path / name, lambda n, name=name: scene_jpeg(n + 10 * ord(name)))
        command.run(SuiteImportConfig(suite=f"{tmp_path}/suite", source=str(source), name=name))
    assert main(["suite", "check", "--suite", f"{tmp_path}/suite"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 24
    shards = {one.benchmark.name: one for one in read_suite(f"{tmp_path}/suite/suite.json").sets}
    gone = tmp_path / "suite" / shards["a"].shards[0].key
    gone.unlink()
    cut = tmp_path / "suite" / shards["b"].shards[0].key
    cut.write_bytes(cut.read_bytes()[:-5000])
    document = tmp_path / "suite" / shards["c"].file
    document.write_text(document.read_text().replace("blue cross", "red cross"))
    assert main(["suite", "check", "--suite", f"{tmp_path}/suite/suite.json"]) == 65
    said = capsys.readouterr().err
    assert f"{gone}: no such object" in said
    assert f"{cut} is not what the suite was made of" in said
    assert f"{cut}: cut at byte" in said
    assert f"{document} is not what the set c was made of" in said
    assert "set a: 8 images are in none of its shards" in said


def test_a_picture_that_is_damaged_under_a_right_checksum_is_named(
    tmp_path: Path, scene_jpeg: Draw, capsys: pytest.CaptureFixture[str]
):
    """As of a suite that another program wrote."""
    from hqclip.data.shards import write_shard
    from hqclip.evaluate.benchmarks.choice import Choice
    from hqclip.evaluate.suite import write_suite
    from hqclip.records import Sample
    from hqclip.store import open_store

    uid = f"{7:032x}"
    write_shard([Sample(uid, scene_jpeg(1)[:900], "")], tmp_path / "images.tar")
    write_suite(open_store(str(tmp_path)), "s", "images.tar", [Choice("c", (uid,), ("a",), ("b",), ("g",))])
    assert main(["suite", "check", "--suite", str(tmp_path)]) == 65
    assert f"images.tar, image {uid}: damaged_image" in capsys.readouterr().err


def test_show_is_a_table(tmp_path: Path, scene_jpeg: Draw, capsys: pytest.CaptureFixture[str]):
    for name, source in (
        ("imagenet", published.clip_benchmark(tmp_path / "a", scene_jpeg)),
        ("coco", published.clip_retrieval(tmp_path / "b", scene_jpeg)),
    ):
        command.run(SuiteImportConfig(suite=f"{tmp_path}/suite", source=str(source), name=name, licence="CC BY 4.0"))
    assert main(["suite", "show", "--suite", f"{tmp_path}/suite"]) == 0
    shown = json.loads(capsys.readouterr().out)
    head, first, second = (line.split() for line in shown["table"].splitlines())
    assert head == ["set", "kind", "items", "images", "classes", "captions", "MB", "licence", "digest"]
    assert first[:6] == ["coco", "retrieval", "4", "4", "-", "20"]
    assert second[:6] == ["imagenet", "classification", "8", "8", "3", "-"]
    assert second[7:10] == ["CC", "BY", "4.0"]
    assert [row["digest"] for row in shown["sets"]] == [first[-1], second[-1]]
    assert main(["suite", "show", "--suite", f"{tmp_path}/nowhere"]) == 66
