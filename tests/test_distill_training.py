"""The tiny LVLM learns another wording for real; a command that was killed goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate.annotator import DEMO_MODEL, Annotator
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.stage import run as annotate
from hqclip.config import AnnotateConfig
from hqclip.distill.collect import pupil_settings
from hqclip.distill.pool_images import PoolImages
from hqclip.distill.sampling import sample
from hqclip.distill.stage import run
from hqclip.distill.training_set import TrainingSet, completion
from hqclip.models.contents import folder_digest
from hqclip.records import Pool
from hqclip.store import open_store
from tests.distilling import PART_ROWS, World
from tests.test_distill import collected_by

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def test_the_tiny_lvlm_takes_over_the_wording_of_its_teacher(tmp_path: Path) -> None:
    world = World(tmp_path, 240)
    training: dict[str, Any] = {"learning_rate": 5e-3, "epochs": 6.0, "micro_batch": 16, "in_flight": 16}
    sizes = {"samples": 210, "held_out": 30}
    with world.school() as school:
        config = world.settings(school.url, **sizes, **training, min_valid=0.8)
        result = run(config)
        again = run(config)
        asked = len(school.asked)
    assert asked == 240
    assert result["base"]["valid"] == 1.0
    assert result["base"]["tag_f1"] < 0.05, "it says `red ring`, the teacher `a red ring`"
    assert result["taught"]["tag_f1"] > 0.5
    assert result["taught"]["agreement"] > result["base"]["agreement"] + 0.3
    assert result["training"]["last_loss"] < result["training"]["first_loss"] / 5
    assert result["accepted"], result["reason"]

    assert {**again, "seconds": 0} == {**result, "seconds": 0}, "done twice, it does nothing the second time"
    folder = Path(result["model"])
    assert folder_digest(folder) == result["model_digest"] != result["base_digest"]
    assert {path.name for path in folder.iterdir()} == {p.name for p in DEMO_MODEL.iterdir()} - {"README.md"}
    card = json.loads(open_store(world.store).read(result["lesson"]))
    assert (card["teacher"], card["base_digest"], card["accepted"]) == ("teacher", folder_digest(DEMO_MODEL), True)

    strict = run(world.settings(school.url, **sizes, **training, min_valid=1.0, margin=-0.99))
    assert not strict["accepted"], "the gate is set anew without teaching again"
    assert (strict["model_digest"], strict["taught"]) == (result["model_digest"], result["taught"])

    given = {"model": str(folder), "prompt": "shapes-1", "max_fault_rate": 0.5, "threads": 1}
    annotated = annotate(AnnotateConfig(store=world.store, pool=world.pool, **given))
    assert annotated["statuses"]["ok"] > 200


def test_training_shows_exactly_what_inference_shows_and_only_the_answer_counts(tmp_path: Path) -> None:
    from transformers import AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from hqclip.distill.lora import _chats

    world = World(tmp_path, 24)
    with world.school() as school:
        config = world.settings(school.url)
        examples = collected_by(config).learn[:2]
    store = open_store(world.store)
    pupil = Annotator.of(pupil_settings(config, config.model))
    images = PoolImages(store, Preparation.of(pupil, config.max_alt_tokens))
    processor = AutoProcessor.from_pretrained(str(DEMO_MODEL))
    columns = _chats(TrainingSet(pupil, images, examples), examples)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    batch = collate(rows)
    for row, example in enumerate(examples):
        request = images.request(example.image, grammar=False)
        assert request is not None
        chat = processor.apply_chat_template(
            pupil.prompt.messages(request.alt_text), tokenize=False, add_generation_prompt=True
        )
        asked = processor(text=[chat], images=[request.image], return_tensors="pt")
        length = asked["input_ids"].shape[1]
        assert batch["input_ids"][row, :length].tolist() == asked["input_ids"][0].tolist()
        assert set(batch["labels"][row, :length].tolist()) == {-100}
        learnt = [token for token in batch["labels"][row, length:].tolist() if token != -100]
        assert example.response.annotation is not None
        assert processor.tokenizer.decode(learnt) == completion(example.response.annotation) + "<|im_end|>\n"
        patches = asked["pixel_values"].shape[0]
        assert batch["pixel_values"][row * patches : (row + 1) * patches].equal(asked["pixel_values"])


def test_killed_while_it_collects_it_asks_no_recorded_question_again(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    with world.school() as school:
        config = world.settings(school.url, samples=30, held_out=6)
        words = [sys.executable, "-m", "tests.distilling", json.dumps(config.to_mapping()), "5"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False, timeout=600)
        assert done.returncode == 137, done.stderr
        recorded = 3 * PART_ROWS  # the fourth part was being written; teacher.json came first
        before = [asked.alt_text for asked in school.asked]
        assert recorded < len(before) < 36
        found = collected_by(config)
        times = Counter(asked.alt_text for asked in school.asked)
    assert len(found.learn) + len(found.judge) == len(times) == 36
    assert sum(times.values()) == 36 + len(before) - recorded
    pool = Pool.from_json(open_store(world.store).read(world.pool), world.pool)
    drawn = [ref.sha256 for ref in sample(open_store(world.store), pool, 0, 36)]
    assert [example.image.sha256 for example in (*found.judge, *found.learn)] == drawn
