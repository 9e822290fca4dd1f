"""Many ranks learn what one would, stop together, and none is left waiting for one that is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from hqclip.config import TrainConfig
from hqclip.errors import ConfigError, DataError, HQClipError, NotFoundError, UnavailableError
from hqclip.ranks import GlooGroup, Ranks, process_group
from hqclip.records import Sample
from hqclip.store import open_store
from hqclip.train import stage
from hqclip.train.step import check_batch_norm
from tests.training import tiny_run, words

# without the last dashes torchrun takes --run for a flag of its own
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    """Half of the texts are alt-texts, without a negative: so ranks have different numbers of them."""
    tiny = tiny_run(tmp_path_factory.mktemp("ranks"), draw_samples(24))
    return replace(tiny, generated_share=0.5, learning_rate=1e-3)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def place(rank: int, port: int) -> dict[str, str]:
    """What torchrun would tell rank `rank` of 2."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def start_ranks(*configs: TrainConfig) -> list[subprocess.Popen[str]]:
    """Two ranks, with the same or their own settings, without torchrun, which would end the one for the other."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *words(configs[rank % len(configs)])],
            env={**os.environ, **place(rank, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


def ends(ranks: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Exit codes, and what was said on stderr."""
    said = [process.communicate(timeout=600)[1] for process in ranks]
    return [process.returncode for process in ranks], said


def wait_for_checkpoint(config: TrainConfig) -> None:
    store, deadline = open_store(config.store), time.monotonic() + 120
    while not store.exists(f"runs/{config.run}/checkpoints/step-000000003/receipt.json"):
        assert time.monotonic() < deadline, "no checkpoint after two minutes"
        time.sleep(0.02)


def lines(config: TrainConfig) -> list[dict[str, float]]:
    data = open_store(config.store).read(f"runs/{config.run}/metrics.jsonl")
    return [json.loads(line) for line in data.splitlines()]


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load(open_store(config.store).read(f"runs/{config.run}/model/open_clip_model.safetensors"))


def assert_same_model(one: TrainConfig, other: TrainConfig) -> None:
    """Up to rounding, save for the biases of keys: nothing depends on them, so their gradient is rounding alone."""
    expected = weights(one)
    for name, tensor in weights(other).items():
        if name.endswith("attn.in_proj_bias"):
            tensor, expected[name] = (torch.cat([b[0], b[2]]) for b in (tensor.chunk(3), expected[name].chunk(3)))
        assert torch.allclose(tensor, expected[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns(config: TrainConfig) -> None:
    alone, shared = replace(config, run="alone"), replace(config, run="shared")
    expected = stage.run(alone)
    done = subprocess.run([*TORCHRUN, *words(shared)[1:]], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "strides" not in done.stderr, "a gradient is not laid out as its parameter"
    for line, other in zip(lines(alone), lines(shared), strict=True):
        assert other == pytest.approx(line, rel=1e-4)
    assert_same_model(alone, shared)
    results = [json.loads(text) for text in done.stdout.replace("}\n{", "}\0{").split("\0")]
    assert len(results) == 2
    assert results[0] == results[1]
    assert results[0]["losses"] == pytest.approx(expected["losses"], rel=1e-4)
    assert stage.run(shared)["model_digest"] == results[0]["model_digest"]

    codes, said = ends(start_ranks(replace(shared, learning_rate=0.5)))
    assert codes == [73, 73]
    assert all("run 'shared' exists with other settings (learning_rate)" in text for text in said)


@pytest.mark.slow
def test_ranks_that_are_told_to_stop_leave_a_checkpoint_for_one_rank_to_go_on_from(config: TrainConfig) -> None:
    undisturbed = replace(config, run="undisturbed", samples_seen=240)
    stage.run(undisturbed)
    stopped = replace(undisturbed, run="stopped")
    torchrun = subprocess.Popen([*TORCHRUN, *words(stopped)[1:]], stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(stopped)
    torchrun.send_signal(signal.SIGTERM)
    said = torchrun.communicate(timeout=600)[1]
    assert said.count("with a checkpoint; the same command continues") == 2, said
    stage.run(stopped)
    assert_same_model(undisturbed, stopped)
    assert [line["step"] for line in lines(stopped)] == [line["step"] for line in lines(undisturbed)]


@pytest.mark.slow
def test_a_stop_told_to_one_rank_stops_all_and_they_go_on_from_there(config: TrainConfig) -> None:
    undisturbed = replace(config, run="straight", samples_seen=240)
    stage.run(undisturbed)
    stopped = replace(undisturbed, run="one-told")
    ranks = start_ranks(stopped)
    wait_for_checkpoint(stopped)
    ranks[1].send_signal(signal.SIGTERM)
    codes, said = ends(ranks)
    assert codes == [143, 143], said
    codes, said = ends(start_ranks(stopped))
    assert codes == [0, 0], said
    assert "continues at step" in said[0]
    assert_same_model(undisturbed, stopped)


@pytest.mark.slow
def test_a_rank_whose_neighbour_is_killed_does_not_wait_for_it(config: TrainConfig) -> None:
    long = replace(config, run="long", samples_seen=80_000)
    ranks = start_ranks(long)
    wait_for_checkpoint(long)
    ranks[1].kill()
    codes, _ = ends(ranks)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, -signal.SIGKILL)
    assert not open_store(config.store).exists("runs/long/result.json")


@pytest.mark.slow
def test_damage_that_only_one_rank_sees_ends_all_in_the_same_way(config: TrainConfig, tmp_path: Path) -> None:
    shutil.copytree(config.store, tmp_path / "elsewhere")
    (shard,) = (tmp_path / "elsewhere").rglob("*.tar")
    shard.chmod(0o600)
    with shard.open("r+b") as file:
        file.write(b"\0")
    here = replace(config, run="damaged")
    codes, said = ends(start_ranks(here, replace(here, store=str(tmp_path / "elsewhere"))))
    assert codes == [65, 65], said
    assert ["rank 1: " in text for text in said] == [True, False]
    assert all("is not the shard that was indexed" in text for text in said)


@pytest.mark.slow
def test_a_batch_that_ranks_cannot_share_is_refused_by_all(config: TrainConfig) -> None:
    codes, said = ends(start_ranks(replace(config, run="uneven", batch_size=9)))
    assert codes == [64, 64]
    assert all("batch_size 9 does not divide into equal shares for 2 ranks; give 8 or 10" in text for text in said)


def meet(rank: int, port: int) -> list[Any]:
    """Run in a process of its own: what this rank is told."""
    os.environ.update(place(rank, port))
    heard: list[Any] = []

    def fail(kind: type[HQClipError], culprit: int) -> int:
        if rank == culprit:
            raise kind("it is not there")
        return rank

    with process_group() as ranks:
        for kind, culprit in ((NotFoundError, 1), (UnavailableError, 0)):
            try:
                ranks.on_all_ranks(lambda kind=kind, culprit=culprit: fail(kind, culprit))
            except HQClipError as error:
                heard.append((type(error).__name__, str(error)))
        try:
            ranks.on_rank_zero(lambda: fail(DataError, 0))
        except DataError as error:
            heard.append(("DataError", str(error)))
        heard.append(ranks.on_all_ranks(lambda: rank))
        heard.append(ranks.on_rank_zero(lambda: {"rank": rank, "said": "äöü"}))
        heard.append(ranks.group.mean([rank, 3]))
    return heard


@pytest.mark.slow
def test_what_goes_wrong_on_one_rank_is_raised_on_all() -> None:
    port = free_port()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        heard = [future.result(timeout=600) for future in [pool.submit(meet, rank, port) for rank in (0, 1)]]
    for rank, told in enumerate(heard):
        prefix = ["" if rank == culprit else f"rank {culprit}: " for culprit in (1, 0, 0)]
        assert told == [
            ("NotFoundError", f"{prefix[0]}it is not there"),
            ("UnavailableError", f"{prefix[1]}it is not there"),
            ("DataError", f"{prefix[2]}it is not there"),
            rank,
            {"rank": 0, "said": "äöü"},
            [0.5, 3.0],
        ]


class Normalising(nn.Module):
    name = "RN50"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.BatchNorm2d(3)


def test_a_model_that_normalises_over_the_batch_is_refused_on_many_ranks_alone() -> None:
    group, cpu = GlooGroup(1), torch.device("cpu")
    check_batch_norm(Normalising(), Ranks(0, 1, cpu, group))
    with pytest.raises(ConfigError, match="model RN50 normalises over the batch, of which each of 2 ranks sees only"):
        check_batch_norm(Normalising(), Ranks(0, 2, cpu, group))
