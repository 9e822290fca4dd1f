"""Teach the tiny LVLM to read the shapes world: seed in, a model folder that transformers and vLLM load out.

A Qwen2-VL of 1.6 M parameters learns in two stages. First the vision tower learns, with linear probes on every
visual token, to name its cell and what stands there; without this the language part stays blind. Then the tower is
frozen and the language part learns to write the teacher's JSON, with one object at first, then two, then three.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from hqclip import log
from hqclip.annotate.prompt import PROMPTS
from hqclip.config import DemoTeachConfig
from hqclip.demo.scenes import (
    BACKGROUNDS,
    COLOURS,
    GRID,
    IMAGE_SIZE,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    draw_scene,
    render,
)
from hqclip.demo.texts import alt_text, teacher_texts

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISUAL_TOKENS = GRID * GRID


@dataclass(frozen=True)
class Lesson:
    """`steps` batches of scenes with at most `most_things` objects."""

    steps: int
    most_things: int


@dataclass(frozen=True)
class Course:
    """Everything that decides the weights. Sizes and steps that were found to be enough."""

    seed: int = 0
    width: int = 128
    layers: int = 4
    scenes: int = 16_000
    vision_steps: int = 500
    vision_batch: int = 64
    lessons: tuple[Lesson, ...] = (Lesson(150, 1), Lesson(550, 2), Lesson(1800, 3))
    batch: int = 32
    relation_weight: float = 3.0  # one word in twenty, but the hardest: the model has to find out where things are
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Slides:
    """Scenes with their pictures as (scenes, patches, values), and the (1, 3) patch grid that all share."""

    scenes: list[Scene]
    pixels: Tensor
    grid: Tensor

    def show(self, rows: np.ndarray[Any, Any]) -> dict[str, Tensor]:
        """The pictures of some scenes as the model takes them."""
        pixels = self.pixels[torch.from_numpy(rows)].flatten(0, 1)
        return {"pixel_values": pixels, "image_grid_thw": self.grid.repeat(len(rows), 1)}


def run(settings: DemoTeachConfig) -> dict[str, Any]:
    """`hqclip demo teach`: progress on stderr."""
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    lessons = (*Course.lessons[:-1], Lesson(settings.steps, 3))
    teach(Course(seed=settings.seed, lessons=lessons), Path(settings.out), lambda line: log.info("demo teach", line))
    return {"model": settings.out}


def teach(course: Course, out: Path, say: Callable[[str], None]) -> None:
    """Train the tiny LVLM and save it to `out` in half precision, with processor and chat template."""
    torch.manual_seed(course.seed)
    rng = np.random.default_rng(course.seed)
    tokenizer = make_tokenizer(rng)
    processor = make_processor(tokenizer)
    model = make_model(course, tokenizer)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    scenes = [draw_scene(rng) for _ in range(course.scenes)]
    slides = Slides(scenes, *_pixels(processor, [render(scene, rng) for scene in scenes]))
    _warm_up_vision(model, slides, course, rng, say)
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
    _teach_language(model, tokenizer, slides, course, rng, say)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)


def make_tokenizer(rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """Byte-level BPE that has seen the teacher's answers, alt-text and the prompt: nothing is out of vocabulary."""
    prompt = PROMPTS["shapes-1"]
    corpus = [_answer(draw_scene(rng)) for _ in range(1500)]
    corpus += [prompt.alt_open + alt_text(draw_scene(rng), rng) + prompt.alt_close for _ in range(1500)]
    corpus += ["system\nannotate\nuser\nassistant\n"] * 50
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=640, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLProcessor:
    """Images of exactly `IMAGE_SIZE`: one visual token for each cell of the grid."""
    size = {"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )


def make_model(course: Course, tokenizer: PreTrainedTokenizerFast) -> Any:
    """An untrained Qwen2-VL; head width 32 is the smallest that vLLM's CPU attention takes."""
    token = tokenizer.convert_tokens_to_ids
    heads = course.width // 32
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": course.width,
            "intermediate_size": course.width * 3,
            "num_hidden_layers": course.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": 2,
            "embed_dim": course.width,
            "hidden_size": course.width,
            "mlp_ratio": 2,
            "num_heads": heads,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config).float()
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    return model


def _warm_up_vision(
    model: Any, slides: Slides, course: Course, rng: np.random.Generator, say: Callable[[str], None]
) -> None:
    """Dense probes: every visual token names its cell and the size, colour and shape there, all the background."""
    cells, grounds = _cell_labels(slides.scenes)
    classes = (VISUAL_TOKENS, 1 + len(SIZES), 1 + len(COLOURS), 1 + len(SHAPES), len(BACKGROUNDS))
    probes = nn.ModuleList(nn.Linear(course.width, n) for n in classes)
    visual = model.model.visual
    weights = [*visual.parameters(), *probes.parameters()]
    optimizer, schedule = _optimizer(weights, course.learning_rate, course.vision_steps)
    start = time.monotonic()
    for step in range(course.vision_steps):
        rows = rng.integers(0, len(slides.scenes), course.vision_batch)
        shown = slides.show(rows)
        seen = visual(shown["pixel_values"], grid_thw=shown["image_grid_thw"]).pooler_output
        seen = seen.reshape(len(rows), VISUAL_TOKENS, course.width)
        loss = F.cross_entropy(probes[-1](seen.mean(1)), grounds[rows])
        for k in range(len(classes) - 1):
            loss = loss + F.cross_entropy(probes[k](seen).flatten(0, 1), cells[rows][..., k].flatten())
        _step(optimizer, schedule, weights, loss)
        if step % 100 == 0 or step == course.vision_steps - 1:
            say(f"vision {step}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s")


def _teach_language(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    slides: Slides,
    course: Course,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> None:
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer, schedule = _optimizer(weights, course.learning_rate, sum(lesson.steps for lesson in course.lessons))
    emphasis = torch.ones(len(tokenizer))
    emphasis[[tokenizer(f" {name.split()[0]}")["input_ids"][0] for name in RELATIONS]] = course.relation_weight
    model.train()
    start = time.monotonic()
    done = 0
    for lesson in course.lessons:
        eligible = np.array([i for i, scene in enumerate(slides.scenes) if len(scene.things) <= lesson.most_things])
        for _ in range(lesson.steps):
            rows = rng.choice(eligible, course.batch)
            batch, labels = _lesson_batch(tokenizer, [slides.scenes[i] for i in rows], rng)
            logits = model(**batch, **slides.show(rows)).logits[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), emphasis)
            _step(optimizer, schedule, weights, loss)
            if done % 100 == 0:
                say(f"language {done}: loss {loss.item():.4f}, {time.monotonic() - start:.0f} s")
            done += 1
    model.eval()


def _lesson_batch(
    tokenizer: PreTrainedTokenizerFast, scenes: list[Scene], rng: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Token ids, attention mask and token types, right-padded, and the labels; only the answer has some."""
    prompts = [render_prompt(tokenizer, alt_text(scene, rng)) for scene in scenes]
    answers = [_answer(scene) + "<|im_end|>" for scene in scenes]
    encoded = tokenizer(
        [p + a for p, a in zip(prompts, answers, strict=True)],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        return_token_type_ids=False,
    )
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, -100)
    for row, prompt in enumerate(prompts):
        labels[row, : len(tokenizer(prompt)["input_ids"])] = -100
    types = (encoded["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    inputs = {k: encoded[k] for k in ("input_ids", "attention_mask")}
    return {**inputs, "mm_token_type_ids": types}, labels


def render_prompt(tokenizer: PreTrainedTokenizerFast, alt: str) -> str:
    """The request as the processor would lay it out for one image of `VISUAL_TOKENS` tokens."""
    chat = tokenizer.apply_chat_template(PROMPTS["shapes-1"].messages(alt), tokenize=False, add_generation_prompt=True)
    return str(chat).replace("<|image_pad|>", "<|image_pad|>" * VISUAL_TOKENS)


def _answer(scene: Scene) -> str:
    return json.dumps(teacher_texts(scene), separators=(",", ":"))


def _pixels(processor: Qwen2VLProcessor, images: list[Any]) -> tuple[Tensor, Tensor]:
    """Patches of every image, (images, patches, values), and the patch grid that all share."""
    parts = [processor.image_processor(images=[image], return_tensors="pt") for image in images]
    return torch.stack([part["pixel_values"] for part in parts]), parts[0]["image_grid_thw"]


def _cell_labels(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Each cell's number and what stands there, (scenes, cells, 4) with 0 for nothing; the background of each scene."""
    cells = torch.zeros(len(scenes), VISUAL_TOKENS, 4, dtype=torch.long)
    cells[..., 0] = torch.arange(VISUAL_TOKENS)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            cells[row, thing.cell, 1] = 1 + list(SIZES).index(thing.size)
            cells[row, thing.cell, 2] = 1 + list(COLOURS).index(thing.colour)
            cells[row, thing.cell, 3] = 1 + SHAPES.index(thing.shape)
    return cells, torch.tensor([list(BACKGROUNDS).index(scene.background) for scene in scenes])


def _optimizer(weights: Iterable[Tensor], peak: float, steps: int) -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW(weights, lr=peak, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.08)


def _step(optimizer: Any, schedule: Any, weights: list[Tensor], loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    schedule.step()
