"""Small sets in the forms in which the field publishes them, with drawn pictures: what people give to an import."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hqclip.data.tar import write_tar

Draw = Callable[[int], bytes]  # a picture by its number
CLASSES = ("ring", "square", "blue cross")
TEMPLATES = ("a photo of a {c}.", "{c}")


def clip_benchmark(folder: Path, draw: Draw, images: int = 8, shards: int = 2, groups: bool = False) -> Path:
    """A classification set as `clip_benchmark_export_wds` writes it, with `.npy` beside the labels if wanted."""
    members: list[list[tuple[str, bytes]]] = [[] for _ in range(shards)]
    for number in range(images):
        key, shard = f"s{number:07d}", members[number * shards // images]
        shard.append((f"{key}.jpg", draw(number)))
        shard.append((f"{key}.cls", str(number % len(CLASSES)).encode()))
        if groups:
            shard.append((f"{key}.npy", npy([number % 2, 7])))
    write_shards(folder, members)
    (folder / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    return folder


def clip_retrieval(folder: Path, draw: Draw, images: int = 4, captions: int = 5) -> Path:
    """A retrieval set of the same layout: several captions an image, a line each."""
    shard = []
    for number in range(images):
        shard.append((f"s{number:07d}.jpg", draw(number)))
        said = "\n".join(f"scene {number}, caption {place}" for place in range(captions))
        shard.append((f"s{number:07d}.txt", said.encode()))
    write_shards(folder, [shard])
    (folder / "dataset_type.txt").write_text("retrieval\n")
    return folder


def write_shards(folder: Path, shards: Sequence[Sequence[tuple[str, bytes]]]) -> None:
    (folder / "test").mkdir(parents=True, exist_ok=True)
    for old in (folder / "test").glob("*.tar"):
        old.unlink()
    for number, members in enumerate(shards):
        with (folder / f"test/{number}.tar").open("wb") as file:
            write_tar(file, members)
    (folder / "test/nshards.txt").write_text(f"{len(shards)}\n")


def npy(numbers: Sequence[int]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(numbers))
    return buffer.getvalue()


def image_folder(folder: Path, draw: Draw) -> Path:
    """Two pictures of each class, and a file of prompts."""
    for number, name in enumerate(("n01", "n02", "n03")):
        for place in range(2):
            put(folder, f"{name}/{place}.jpg", draw(2 * number + place))
    (folder / "classnames.txt").write_text("ring\nsquare\nblue cross\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {}.\n")
    return folder


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_json(folder: Path, name: str, document: Any) -> Path:
    return put(folder, name, json.dumps(document))


def coco(folder: Path, draw: Draw, captions: int = 5) -> Path:
    names = {17: "000017.jpg", 4: "000004.jpg", 9: "000009.jpg"}
    for number, name in names.items():
        put(folder, f"val2017/{name}", draw(number))
    annotations = [
        {"id": 10 * number + place, "image_id": number, "caption": f"scene {number} said in way {place}"}
        for place in range(captions)
        for number in names
    ]
    images = [{"id": number, "file_name": name} for number, name in names.items()]
    return put_json(folder, "captions_val2017.json", {"images": images, "annotations": annotations})


def karpathy(folder: Path, draw: Draw) -> Path:
    images = []
    for number, split in enumerate(("test", "train", "test")):
        put(folder, f"val2014/{number}.jpg", draw(number))
        sentences = [{"raw": f"scene {number}, sentence {place}", "sentid": place} for place in range(5)]
        images.append({"filepath": "val2014", "filename": f"{number}.jpg", "split": split, "sentences": sentences})
    return put_json(folder, "dataset_coco.json", {"dataset": "coco", "images": images})


def sugarcrepe(folder: Path, draw: Draw) -> Path:
    """Two of the seven files; both ask about one picture."""
    for number in range(3):
        put(folder, f"val2017/{number}.jpg", draw(number))
    for group, numbers in {"add_att": (0, 1), "swap_obj": (1, 2)}.items():
        items = {str(n): sugar(n, f"a true caption {n}", f"a false one of {group} {n}") for n in numbers}
        put_json(folder, f"{group}.json", items)
    return folder


def sugar(number: int, true: str, false: str) -> Mapping[str, str]:
    return {"filename": f"{number}.jpg", "caption": true, "negative_caption": false}


def aro(folder: Path, draw: Draw) -> Path:
    items = []
    for number, relation in enumerate(("to the left of", "on", "on")):
        put(folder, f"images/{number % 2}.jpg", draw(number % 2))
        box = {"bbox_x": number, "bbox_y": 2, "bbox_w": 30, "bbox_h": 20 + number}
        captions = {"true_caption": f"the ring is {relation} {number}", "false_caption": f"{number} is {relation} it"}
        items.append({"image_path": f"{number % 2}.jpg", **box, **captions, "relation_name": relation})
    return put_json(folder, "visual_genome_relation.json", items)


def winoground(folder: Path, draw: Draw) -> Path:
    lines = []
    for number in range(2):
        for place in range(2):
            put(folder, f"images/ex_{number}_img_{place}.png", draw(2 * number + place))
        images = {f"image_{place}": f"ex_{number}_img_{place}" for place in range(2)}
        captions = {"caption_0": f"a ring on a square {number}", "caption_1": f"a square on a ring {number}"}
        lines.append(json.dumps({"id": number, **images, **captions, "collapsed_tag": "Object"}))
    return put(folder, "examples.jsonl", "\n".join(lines) + "\n")


def valse(folder: Path, draw: Draw) -> Path:
    items = {}
    for number, votes in enumerate((3, 1, 2)):
        put(folder, f"SWiG/{number}.jpg", draw(number))
        texts = {"caption": f"there is a ring {number}", "foil": f"there is no ring {number}"}
        votes_ = {"foil": 3 - votes, "caption": votes, "other": 0}
        items[f"existence_{number}"] = {"dataset": "SWiG", "image_file": f"{number}.jpg", **texts, "mturk": votes_}
    put_json(folder, "existence.json", items)
    return folder


def mmvp(folder: Path, draw: Draw) -> Path:
    lines = ["Question ID,Type,Statement"]
    for number, (kind, said) in enumerate((("Texts", "a ring"), ("Texts", '"a square, blue"')), 1):
        put(folder, f"MLLM_VLM Images/{kind}/{number}.jpg", draw(number))
        lines.append(f"{number},{kind},{said}")
    put(folder, "Questions.csv", "\n".join(lines) + "\n")
    return folder


def winogavil(folder: Path, draw: Draw) -> Path:
    names = ["eagle", "teepee", "ash", "metal"]
    for number, name in enumerate(names):
        put(folder, f"images/{name}.jpg", draw(number))
    buffer = io.StringIO()
    rows = csv.writer(buffer)
    rows.writerow(["", "candidates", "cue", "associations", "num_candidates"])
    rows.writerow([0, json.dumps(names), "bald", json.dumps(["ash", "eagle"]), 4])
    rows.writerow([1, json.dumps(names[1:]), "Iron", json.dumps(["metal"]), 3])
    return put(folder, "winogavil_dataset.csv", buffer.getvalue())


def urban1k(folder: Path, draw: Draw) -> Path:
    for number in (221, 222):
        put(folder, f"image/{number}.jpg", draw(number))
        put(folder, f"caption/{number}.txt", f"The picture shows scene {number} and much more.\n")
    return folder
