"""A step whose loss or gradient is no number costs that step, a few of them steps, more the run, never a weight."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from hqclip.config import TrainConfig
from hqclip.errors import DataError
from hqclip.ranks import GlooGroup, Ranks
from hqclip.records import Sample
from hqclip.store import open_store
from hqclip.train import saving, stage
from hqclip.train.batches import Batch
from hqclip.train.losses import FUNCTIONS, Outputs
from hqclip.train.model import Embeddings
from hqclip.train.skips import Skips
from hqclip.train.step import Step
from tests.test_train_ranks import free_port, place
from tests.training import tiny_run, words


class _NaNGradient(torch.autograd.Function):
    """A value that passes and a gradient that does not."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * math.nan


POISONS: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda loss: loss * math.nan,
    "Inf": lambda loss: loss + math.inf,
    "a finite loss with a NaN gradient": _NaNGradient.apply,  # type: ignore[dict-item]
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    return replace(tiny_run(tmp_path_factory.mktemp("skips"), draw_samples(24)), samples_seen=96, learning_rate=1e-3)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, ...]]]:
    """`poison(when, how)`: the loss of every step of which `when(its place among the calls, its uids)` says so.

    What it gives are the uids of all steps so far.
    """
    whole = FUNCTIONS["contrastive"]

    def put(when: Callable[[int, tuple[str, ...]], bool], how: str = "NaN") -> list[tuple[str, ...]]:
        seen: list[tuple[str, ...]] = []

        def contrastive(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            value, more = whole(outputs, batch)
            seen.append(batch.uids)
            return (POISONS[how](value) if when(len(seen) - 1, batch.uids) else value), more

        monkeypatch.setitem(FUNCTIONS, "contrastive", contrastive)
        return seen

    return put


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of all checkpoints that are written, each of which is finite throughout."""
    steps: list[int] = []
    write = saving.write_checkpoint

    def watched(store: Any, run: str, step: int, contents: dict[str, bytes]) -> None:
        for part in ("model.safetensors", "optimizer.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load(contents[part]).values()), (step, part)
        steps.append(step)
        write(store, run, step, contents)

    monkeypatch.setattr(saving, "write_checkpoint", watched)
    return steps


def lines(config: TrainConfig) -> list[dict[str, float]]:
    data = open_store(config.store).read(f"runs/{config.run}/metrics.jsonl").decode()
    assert "NaN" not in data and "Infinity" not in data
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("how", POISONS)
def test_a_step_that_is_no_number_is_left_out_and_counted(
    config: TrainConfig, poison: Callable[..., Any], kept: list[int], how: str, capsys: pytest.CaptureFixture[str]
):
    seen = poison(lambda call, _: call == 5, how)
    run = replace(config, run=f"one-{list(POISONS).index(how)}")
    result = stage.run(run)
    assert result["skipped_steps"] == 1
    assert [line.get("skipped_steps") for line in lines(run)] == [None, None, 1, None, None, None]
    assert math.isfinite(result["losses"]["loss"])
    assert kept == [3, 7, 9, 12], "that of step 6 waits for the next good one"
    said = f"step 5 is skipped: loss {'inf' if how == 'Inf' else 'nan' if how == 'NaN' else ''}"
    told = capsys.readouterr().err
    assert said in told and f"the first of its 8 samples is {seen[5][0]}" in told


def test_a_run_without_such_a_step_says_nothing_of_them(config: TrainConfig, kept: list[int]):
    run = replace(config, run="sound")
    result = stage.run(run)
    assert "skipped_steps" not in result
    assert not any({"skipped_steps", "unsaved_steps"} & set(line) for line in lines(run))
    assert "max_skipped_steps" not in json.loads(open_store(run.store).read("runs/sound/config.json"))
    assert kept == [3, 6, 9, 12]


def test_a_run_that_was_killed_skips_the_same_steps_again(
    config: TrainConfig, poison: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    order = poison(lambda *_: False)
    stage.run(replace(config, run="order"))
    bad = order[4]
    poison(lambda _, uids: uids == bad)
    undisturbed = stage.run(replace(config, run="undisturbed", checkpoint_every=2))

    def killed(call: int, uids: tuple[str, ...]) -> bool:
        if call == 9:
            raise KeyboardInterrupt
        return uids == bad

    poison(killed)
    with pytest.raises(KeyboardInterrupt):
        stage.run(replace(config, run="killed", checkpoint_every=2))
    poison(lambda _, uids: uids == bad)
    resumed = stage.run(replace(config, run="killed", checkpoint_every=2))
    assert resumed["model_digest"] == undisturbed["model_digest"]
    assert resumed["skipped_steps"] == undisturbed["skipped_steps"] == 1


def test_after_too_many_the_run_goes_back_once_which_may_help(
    config: TrainConfig, poison: Callable[..., Any], kept: list[int]
):
    expected = stage.run(replace(config, run="never-ill"))
    kept.clear()
    poison(lambda call, _: call in (4, 5))  # two are more than 1 % of 12 steps, and one
    run = replace(config, run="ill-once")
    result = stage.run(run)
    assert result["model_digest"] == expected["model_digest"], "a fault of the machine leaves no trace"
    assert "skipped_steps" not in result
    assert [line["step"] for line in lines(run)] == [2, 4, 6, 8, 10, 12]
    assert kept == [3, 6, 9, 12]


def test_if_it_comes_again_the_run_ends_and_names_the_samples(
    config: TrainConfig, poison: Callable[..., Any], kept: list[int]
):
    order = poison(lambda *_: False)
    stage.run(replace(config, run="order-2"))
    kept.clear()
    poison(lambda _, uids: uids in order[4:])
    with pytest.raises(DataError) as stopped:
        stage.run(replace(config, run="ill"))
    message = str(stopped.value)
    assert "not finite in 2 steps in a row, 2 in all, again after going back to step 3; look at the samples" in message
    assert f"of step 4 ({', '.join(order[4][:3])}, ...; all are in {config.store}/runs/ill/skipped.json)" in message
    assert stopped.value.exit_code == 65
    told = json.loads(open_store(config.store).read("runs/ill/skipped.json"))
    assert told == {"steps": [{"step": step, "uids": list(order[step])} for step in (4, 5)]}
    assert kept == [3]


def test_with_none_allowed_the_first_ends_the_run(config: TrainConfig, poison: Callable[..., Any], kept: list[int]):
    seen = poison(lambda call, _: call == 1)
    with pytest.raises(DataError, match="in 1 steps in a row, 1 in all; look at the samples of step 1 "):
        stage.run(replace(config, run="strict", max_skipped_steps=0))
    assert len(seen) == 2 and kept == []


def test_the_limit_may_be_raised_to_go_on(config: TrainConfig, poison: Callable[..., Any]):
    poison(lambda call, _: call == 7)
    run = replace(config, run="raised", max_skipped_steps=0, checkpoint_every=1)
    with pytest.raises(DataError):
        poison(lambda call, _: call >= 7)
        stage.run(run)
    poison(lambda *_: False)
    assert stage.run(replace(run, max_skipped_steps=1))["steps"] == 12


def test_weights_that_overflow_reach_no_checkpoint(
    config: TrainConfig, kept: list[int], monkeypatch: pytest.MonkeyPatch
):
    class Overflowing(torch.optim.AdamW):
        taken = 0

        def step(self, closure: Any = None) -> Any:
            super().step()
            self.taken += 1
            if self.taken == 6:
                self.param_groups[0]["params"][0].data.fill_(math.inf)

    monkeypatch.setattr(torch.optim, "AdamW", Overflowing)
    result = stage.run(replace(config, run="overflow"))
    assert kept == [3, 6, 9, 12], "back to step 3, and that helped"
    assert math.isfinite(result["losses"]["loss"])


@pytest.mark.parametrize(
    ("allowed", "steps", "skipped", "outcome"),
    [
        (10, 10_000, range(10), [False] * 10),
        (10, 10_000, range(11), [False] * 10 + [True]),
        (10, 300, [0, 2, 4, 6], [False] * 3 + [True]),
        (10, 6, [0, 2], [False, True]),
        (2, 10_000, [0, 1, 3, 4, 6], [False] * 5),
        (0, 10_000, [5], [True]),
    ],
)
def test_so_many_are_allowed_in_a_row_and_in_all(allowed: int, steps: int, skipped: Any, outcome: list[bool]):
    skips, told = Skips(allowed, steps), []
    for step in range(max(skipped) + 1):
        if step in skipped:
            told.append(skips.skipped(step, ["u"]))
        else:
            skips.good()
    assert told == outcome


class Normalising(nn.Module):
    """Two images of one feature through a BatchNorm; what it says is NaN when the first pixel is 255."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.clip = nn.Module()
        self.clip.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, pixels: Tensor, text: Tensor, negative: Tensor) -> Embeddings:
        image = self.norm(torch.where(pixels[:, 0, 0, :2] == 255, torch.nan, pixels[:, 0, 0, :2].float()))
        none = torch.zeros(0, 2)
        return Embeddings(image, torch.eye(2), none, torch.zeros(2, 0), self.clip.logit_scale.exp())


def test_what_batch_norm_keeps_by_itself_stays_as_it_was():
    model = Normalising()
    optimizer = torch.optim.AdamW(model.parameters())
    config = TrainConfig(store="s", dataset="d", run="r", precision="fp32", negative_weight=0.0, tag_weight=0.0)
    step = Step(model, optimizer, config, Ranks(0, 1, torch.device("cpu"), GlooGroup(1)))  # type: ignore[arg-type]
    pixels = torch.arange(12, dtype=torch.uint8).reshape(2, 3, 1, 2)
    empty = torch.zeros(2, 0)
    good = Batch(pixels, torch.zeros(2, 1), torch.zeros(0, 1), empty, empty, 0, 0)
    assert not step(good, 0.0, False).skipped
    before = {name: value.clone() for name, value in model.state_dict().items()}
    spoiled = pixels.clone()
    spoiled[0, 0, 0, 0] = 255
    assert step(replace(good, pixels_B3HW=spoiled), 0.0, False).skipped
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert before["norm.num_batches_tracked"] == 1


POISONED_RANK = """
import os, sys
from hqclip import cli
from hqclip.train.losses import FUNCTIONS
whole, calls, bad = FUNCTIONS["contrastive"], [0], eval(sys.argv.pop(1))
def contrastive(outputs, batch):
    value, more = whole(outputs, batch)
    calls[0] += 1
    return value * float("nan") if os.environ["RANK"] == "1" and calls[0] - 1 in bad else value, more
FUNCTIONS["contrastive"] = contrastive
sys.exit(cli.main(sys.argv[1:]))
"""


def two_ranks(config: TrainConfig, bad: str) -> list[tuple[int, str, str]]:
    """Exit code, result and what was said on each of two ranks, of which the second is poisoned at these steps."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", POISONED_RANK, bad, *words(config)[2:]],
            env={**os.environ, **place(rank, port), "PYTHONPATH": str(Path(stage.__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=180) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


@pytest.mark.slow
def test_what_is_no_number_on_one_rank_is_skipped_on_all_and_ends_all_alike(config: TrainConfig):
    one, other = two_ranks(replace(config, run="two"), "[4]")
    assert (one[0], other[0]) == (0, 0), one[2] + other[2]
    results = [json.loads(out) for _, out, _ in (one, other)]
    assert results[0] == results[1]
    assert results[0]["skipped_steps"] == 1
    model = load(open_store(config.store).read("runs/two/model/open_clip_model.safetensors"))
    assert all(tensor.isfinite().all() for tensor in model.values())

    ends = two_ranks(replace(config, run="two-ill"), "range(4, 99)")
    assert [code for code, _, _ in ends] == [65, 65], ends
    messages = [said.strip().splitlines()[-1] for _, _, said in ends]
    assert messages[0] == messages[1]
    assert "2 in all, again after going back to step 3; look at the samples of step 3 (" in messages[0]
    told = json.loads(open_store(config.store).read("runs/two-ill/skipped.json"))
    assert [len(set(step["uids"])) for step in told["steps"]] == [8, 8], "the shares of both ranks"
