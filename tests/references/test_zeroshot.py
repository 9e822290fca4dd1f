"""The programs that the field judges by, and ours, on the same sets with the same models: equal to the last sample.

`make test-references` runs these in a place of their own. The pictures have the size of the model and are PNG, so that
all see the same pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import recall_score

from hqclip.config import EvaluateConfig
from hqclip.data.outcomes import Outcomes, read_outcomes
from hqclip.evaluate import stage
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.importing import command
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.records import Evaluation
from hqclip.store import open_store
from hqclip.train.model import HQClip
from tests import published_sets as published
from tests.clips import TOWERS, WORDS, write_clip

CLASSES = [f"{size} {colour} thing" for size in ("small", "large") for colour in ("red", "blue", "green", "grey")]
TEMPLATES = ["a photo of a {c}.", "{c}", "the {c} on the left"]
SMALL_B32 = {**TOWERS, "vision_cfg": {**TOWERS["vision_cfg"], "image_size": 64, "patch_size": 32}}
OTHER_TEXT = {**TOWERS, "text_cfg": {**TOWERS["text_cfg"], "pool_type": "last", "context_length": 32, "layers": 3}}
IMAGES, GROUPS = 60, ("add_att", "swap_obj")
REPORT = ("image_to_text", "text_retrieval"), ("text_to_image", "image_retrieval")


class Listed(list[Any]):
    """A data set as clip_benchmark takes one: batches, and the names of the classes."""

    classes = CLASSES

    @property
    def dataset(self) -> Listed:
        return self


class Reference:
    """The model as open_clip loads it, the data as they were published, and what ours made of both."""

    def __init__(self, folder: Path, size: int) -> None:
        name = f"local-dir:{folder}/runs/m/model"
        self.model, _, self.transform = open_clip.create_model_and_transforms(name)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        rng = np.random.default_rng(11)
        self.pictures = [draw(rng, size) for _ in range(IMAGES)]
        self.labels = [int(rng.integers(len(CLASSES))) for _ in self.pictures]
        self.captions = [[sentence(rng) for _ in range(int(rng.integers(1, 6)))] for _ in self.pictures]
        self.questions = {
            group: {
                str(n): published.sugar(n, sentence(rng), sentence(rng)) for n in rng.integers(0, IMAGES, 40).tolist()
            }
            for group in GROUPS
        }
        self.write(folder)
        self.scores, self.outcomes = judged(folder)

    def write(self, folder: Path) -> None:
        samples = enumerate(zip(self.pictures, self.labels, self.captions, strict=True))
        labelled, captioned = [], []
        for n, (picture, label, captions) in samples:
            labelled += [(f"s{n:07d}.png", picture), (f"s{n:07d}.cls", str(label).encode())]
            captioned += [(f"s{n:07d}.png", picture), (f"s{n:07d}.txt", "\n".join(captions).encode())]
            published.put(folder / "crepe", f"val2017/{n}.jpg", picture)
        published.write_shards(folder / "classes", [labelled[:50], labelled[50:]])
        published.put(folder / "classes", "classnames.txt", "\n".join(CLASSES))
        published.put(folder / "classes", "zeroshot_classification_templates.txt", "\n".join(TEMPLATES))
        published.write_shards(folder / "captions", [captioned])
        published.put(folder / "captions", "dataset_type.txt", "retrieval\n")
        for group, items in self.questions.items():
            published.put_json(folder / "crepe", f"{group}.json", items)

    def pixels(self) -> list[torch.Tensor]:
        return [self.transform(Image.open(io.BytesIO(picture))) for picture in self.pictures]

    def batches(self, of: list[Any]) -> Iterator[tuple[torch.Tensor, list[Any]]]:
        pixels = self.pixels()
        for start in range(0, IMAGES, 16):
            yield torch.stack(pixels[start : start + 16]), of[start : start + 16]


def draw(rng: np.random.Generator, size: int) -> bytes:
    """Squares and noise."""
    pixels = rng.integers(0, 80, (size, size, 3), np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, size, 2)
        pixels[top : top + size // 3, left : left + size // 3] = rng.integers(0, 256, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sentence(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(4, 12))))


def judged(folder: Path) -> tuple[dict[str, dict[str, float]], Outcomes]:
    """Imported, and judged by our commands; metrics by set."""
    for name, layout in (("classes", "clip_benchmark"), ("captions", "clip_benchmark"), ("crepe", "sugarcrepe")):
        images = f"{folder}/crepe/val2017" if name == "crepe" else ""
        given = {"suite": f"{folder}/suite", "source": f"{folder}/{name}", "images": images}
        command.run(SuiteImportConfig(name=name, layout=layout, **given))
    store = open_store(str(folder))
    suite = f"{folder}/suite/suite.json"
    done = stage.run(EvaluateConfig(store=store.uri, model="runs/m/model", suite=suite, device="cpu", batch_size=7))
    record = Evaluation.from_json(store.read(done["evaluation"]), "")
    outcomes = read_outcomes(store, record.outcomes, record.outcomes_crc32c)
    return {score.name: dict(score.metrics) for score in record.benchmarks}, outcomes


@pytest.fixture(scope="module", params=["small b32", "demo", "other text tower"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    if request.param == "demo":
        torch.manual_seed(5)
        HQClip("shapes", [0.5]).export(folder / "runs/m/model")
    else:
        model = write_clip(folder / "runs/m/model", SMALL_B32 if request.param == "small b32" else OTHER_TEXT, seed=5)
        weights = load_file(model / WEIGHTS)
        for name, value in weights.items():
            if name.endswith(("in_proj_weight", "out_proj.weight", "conv1.weight")):
                value *= 4  # else it hardly looks at its picture, and gives all the same answer
        save_file(weights, model / WEIGHTS)
    config = json.loads((folder / "runs/m/model" / CONFIG).read_bytes())
    return Reference(folder, config["model_cfg"]["vision_cfg"]["image_size"])


def test_classification_is_that_of_clip_benchmark(reference: Reference):
    """Accuracy, every class's recall, every image."""
    model, ours = reference.model, reference.scores["classes"]
    data = Listed((pixels, torch.tensor(labels)) for pixels, labels in reference.batches(reference.labels))
    theirs = zeroshot_classification.evaluate(model, data, reference.tokenizer, CLASSES, TEMPLATES, "cpu", amp=False)
    classifier = zeroshot_classification.zero_shot_classifier(
        model, reference.tokenizer, CLASSES, TEMPLATES, "cpu", amp=False
    )
    logits, target = zeroshot_classification.run_classification(model, classifier, data, "cpu", amp=False)
    answers = logits.argmax(1)
    assert 0 < theirs["acc1"] < 1 and 0 < theirs["acc5"] < 1
    assert len(set(answers.tolist())) > 1
    for metric in ("acc1", "acc5", "mean_per_class_recall"):
        assert ours[metric] == pytest.approx(theirs[metric], abs=1e-12), metric
    values, groups = (
        getattr(reference.outcomes, part)["classes/mean_per_class_recall"] for part in ("values", "groups")
    )
    assert sorted(groups.tolist()) == sorted(map(str, reference.labels))
    recalls = recall_score(target, answers, average=None, labels=sorted(set(reference.labels)))
    for label, recall in zip(sorted(set(reference.labels)), recalls, strict=True):
        assert values[groups == str(label)].mean() == pytest.approx(recall, abs=1e-12), CLASSES[label]
    assert reference.outcomes.values["classes/acc1"].tolist() == (answers == target).double().tolist()


def test_classification_is_that_of_open_clip(reference: Reference):
    templates = [template.replace("{c}", "{}") for template in TEMPLATES]
    with torch.no_grad():
        classifier = open_clip.build_zero_shot_classifier(reference.model, reference.tokenizer, CLASSES, templates)
        features = reference.model.encode_image(torch.stack(reference.pixels()), normalize=True)
    answers = (100.0 * features @ classifier).argmax(1).tolist()
    right = [float(answer == label) for answer, label in zip(answers, reference.labels, strict=True)]
    assert reference.outcomes.values["classes/acc1"].tolist() == right


def test_retrieval_with_several_captions_an_image_is_that_of_clip_benchmark(reference: Reference):
    ks = [1, 5, 10]
    batches = list(reference.batches(reference.captions))
    theirs = zeroshot_retrieval.evaluate(
        reference.model, batches, reference.tokenizer, "cpu", amp=False, recall_k_list=ks
    )
    for our_way, their_way in REPORT:
        for k in ks:
            ours = reference.scores["captions"][f"{our_way}_r{k}"]
            assert ours == pytest.approx(theirs[f"{their_way}_recall@{k}"], abs=1e-6), (our_way, k)
        assert 0 < ours < 1, "at 10 some are found and some are not"


def test_composition_is_by_the_rule_of_sugarcrepe(reference: Reference):
    """Item by item as its program asks: is the true caption's similarity greater than that of the false one?"""
    model, pixels = reference.model, reference.pixels()

    def similarity(image: torch.Tensor, text: str) -> float:
        image_1D = model.encode_image(image[None], normalize=True)
        text_1D = model.encode_text(reference.tokenizer([text]), normalize=True)
        return float(image_1D @ text_1D.T)

    with torch.no_grad():
        for group, items in reference.questions.items():
            right = 0
            for item in items.values():
                image = pixels[int(item["filename"].removesuffix(".jpg"))]
                right += similarity(image, item["caption"]) > similarity(image, item["negative_caption"])
            assert 0 < right < len(items)
            assert reference.scores["crepe"][f"accuracy {group}"] == pytest.approx(right / len(items), abs=1e-12)
