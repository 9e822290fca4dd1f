"""Samples become the same tensors whoever decodes them, and a damaged one ends the step, not the process."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hqclip.config import TrainConfig
from hqclip.data.dataset import read_dataset
from hqclip.data.loader import TrainingSet
from hqclip.data.text_choice import TextPolicy
from hqclip.errors import DataError
from hqclip.ranks import GlooGroup, Ranks
from hqclip.records import Sample
from hqclip.store import open_store
from hqclip.train.batches import Batch, Batches
from hqclip.train.model import HQClip
from tests.training import tiny_run

DAMAGED = {5: (960, 1280), 6: (48, 64)}  # the first is found out last: it takes longer to decode


@pytest.fixture(scope="module")
def model() -> HQClip:
    return HQClip("shapes", [0.5, 0.5])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    """24 pictures, half of whose texts have a negative."""
    return replace(tiny_run(tmp_path_factory.mktemp("batches"), draw_samples(24)), generated_share=0.5)


def batches(config: TrainConfig, model: HQClip, rank: int = 0, world: int = 1) -> Batches:
    store = open_store(config.store)
    _, shards, vocabulary = read_dataset(store, config.dataset)
    data = TrainingSet(store, shards, TextPolicy(config.generated_share, config.max_sentences, config.seed))
    return Batches(data, model, list(vocabulary), config, Ranks(rank, world, torch.device("cpu"), GlooGroup(1)))


def made(config: TrainConfig, model: HQClip, first: int = 0, last: int = 6) -> list[Batch]:
    return list(batches(config, model).prefetch(first, last))


def assert_same(one: Batch, other: Batch) -> None:
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        assert torch.equal(value, theirs) if isinstance(value, Tensor) else value == theirs, name


def test_a_batch_is_the_same_bit_for_bit_whatever_the_number_of_threads(config: TrainConfig, model: HQClip):
    one = made(replace(config, decode_threads=1), model)
    assert len(one) == 6
    assert any(0 < batch.num_negatives < 8 for batch in one)
    for threads in (2, 5):
        for batch, other in zip(one, made(replace(config, decode_threads=threads), model), strict=True):
            assert_same(batch, other)


def test_a_run_that_resumes_gets_the_batches_that_it_would_have_got(config: TrainConfig, model: HQClip):
    for batch, other in zip(made(config, model)[4:], made(config, model, 4), strict=True):
        assert_same(batch, other)


def test_two_ranks_get_the_pictures_and_texts_of_one(config: TrainConfig, model: HQClip):
    with ThreadPoolExecutor(2) as decoders:
        for step in range(6):
            alone = batches(config, model).batch(step, decoders)
            both = [batches(config, model, rank, 2).batch(step, decoders) for rank in (0, 1)]
            for name in ("pixels_B3HW", "text_BL", "negative_PL", "target_BT"):
                rows = [row.numpy().tobytes() for part in both for row in getattr(part, name)]
                assert sorted(rows) == sorted(row.numpy().tobytes() for row in getattr(alone, name))
            assert [len(part.text_BL) for part in both] == [4, 4]
            assert sum(part.num_negatives for part in both) == alone.num_negatives


@pytest.fixture
def half_whole(tmp_path: Path) -> TrainConfig:
    """24 pictures of which two end in the middle, though the teacher described them. Without negatives: in order."""
    rng, samples = np.random.default_rng(0), []
    for number in range(24):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (*DAMAGED.get(number, (48, 64)), 3), dtype=np.uint8)).save(buffer, "JPEG")
        data = buffer.getvalue()
        samples.append(Sample(f"{number:032x}", data[: len(data) // 2] if number in DAMAGED else data, "a ring"))
    return replace(tiny_run(tmp_path, samples), generated_share=0.0, batch_size=24)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_first_damaged_picture_of_a_step_is_named_and_nothing_is_left_running(
    half_whole: TrainConfig, model: HQClip, threads: int
):
    before = threading.active_count()
    with pytest.raises(DataError, match=r"shards/00000.tar, sample 0{31}5: damaged_image"):
        made(replace(half_whole, decode_threads=threads), model, 0, 9)
    assert threading.active_count() == before


def test_a_run_that_is_stopped_leaves_no_thread(config: TrainConfig, model: HQClip):
    before = threading.active_count()
    with closing(batches(replace(config, decode_threads=3), model).prefetch(0, 1000)) as prefetched:
        next(prefetched)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_decoders_take_one_thread_each_and_leave_those_of_the_training_alone(config: TrainConfig, model: HQClip):
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with closing(batches(config, model).prefetch(0, 6)) as prefetched:
            next(prefetched)
            assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 1, "they had set their own to one"
    finally:
        torch.set_num_threads(own)
