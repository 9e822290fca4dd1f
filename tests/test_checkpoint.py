"""A run that was stopped goes on as if nothing had happened; a damaged checkpoint costs steps, not the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from hqclip.errors import StorageError, UnavailableError
from hqclip.store.local import LocalStore
from hqclip.train.checkpoint import (
    KEPT,
    PARTS,
    complete_steps,
    load_checkpoint,
    load_step,
    snapshot,
    write_checkpoint,
)

RUN = "000001-hqclip"


class Run:
    """A small model with dropout on a fixed task: every step depends on weights, moments and random numbers."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(
            [{"params": [p], "weight_decay": 0.1 * (p.ndim > 1)} for p in self.model.parameters()], betas=(0.9, 0.98)
        )

    def train(self, first: int, last: int) -> dict[str, torch.Tensor]:
        """The weights after steps `first` up to, not including, `last`."""
        for step in range(first, last):
            for group in self.optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
            self.optimizer.zero_grad()
            self.model(torch.linspace(-1, 1, 12).view(3, 4) * (step + 1)).square().mean().backward()
            self.optimizer.step()
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def save(self, store: LocalStore, step: int) -> None:
        write_checkpoint(store, RUN, step, snapshot(step, self.model, self.optimizer))

    def load(self, store: LocalStore) -> int:
        return load_checkpoint(store, RUN, self.model, self.optimizer)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def folder(store: LocalStore, step: int) -> Path:
    return store.root / f"runs/{RUN}/checkpoints/step-{step:09d}"


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_run_cannot_be_told_from_an_undisturbed_one(store: LocalStore) -> None:
    run = Run(0)
    run.train(0, 5)
    run.save(store, 5)
    undisturbed = run.train(5, 9)

    other = Run(1)
    assert not same(undisturbed, other.model.state_dict())
    assert other.load(store) == 5
    assert same(undisturbed, other.train(5, 9))
    moments, resumed = (r.optimizer.state_dict()["state"] for r in (run, other))
    assert [slot["step"] for slot in resumed.values()] == [9] * 4
    assert all(torch.equal(moments[n][key], resumed[n][key]) for n in moments for key in moments[n])


def test_a_run_without_a_checkpoint_starts_at_the_beginning(store: LocalStore) -> None:
    run = Run(0)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert run.load(store) == 0
    assert same(before, run.model.state_dict())


def test_the_checkpoints_of_another_run_are_not_looked_at(store: LocalStore) -> None:
    run = Run(0)
    run.train(0, 1)
    for name in (f"{RUN}-2", f"x{RUN}"):
        write_checkpoint(store, name, 1, snapshot(1, run.model, run.optimizer))
    assert run.load(store) == 0


def test_only_the_newest_are_kept(store: LocalStore) -> None:
    run = Run(0)
    for step in range(1, 5):
        run.train(step - 1, step)
        run.save(store, step)
    assert complete_steps(store, RUN) == [3, 4]
    assert KEPT == 2
    left = {Path(key).parent.name for key in store.list(f"runs/{RUN}/")}
    assert left == {"step-000000003", "step-000000004"}


def two_checkpoints(store: LocalStore) -> dict[str, torch.Tensor]:
    """Checkpoints of steps 3 and 6; the weights at step 3."""
    run = Run(0)
    early = run.train(0, 3)
    run.save(store, 3)
    run.train(3, 6)
    run.save(store, 6)
    return early


@pytest.mark.parametrize("part", [*PARTS, "receipt.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(
    store: LocalStore, capsys: pytest.CaptureFixture[str], part: str, damage: str
) -> None:
    early = two_checkpoints(store)
    path = folder(store, 6) / part
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    run = Run(1)
    assert run.load(store) == 3
    assert same(early, run.model.state_dict())
    assert ("passed over" in capsys.readouterr().err) == ((part, damage) != ("receipt.json", "gone"))


@pytest.mark.parametrize("receipt", [b"[]", b"null", b"7", b'"x"', b"{}", b'{"model.safetensors": 7}', b"\xff"])
def test_a_receipt_that_is_none_makes_no_checkpoint(store: LocalStore, receipt: bytes) -> None:
    early = two_checkpoints(store)
    (folder(store, 6) / "receipt.json").write_bytes(receipt)
    run = Run(1)
    assert run.load(store) == 3
    assert same(early, run.model.state_dict())
    with pytest.raises(StorageError, match="another rank could read .*step-000000006, this one cannot"):
        load_step(store, RUN, 6, run.model, run.optimizer)


def test_if_every_checkpoint_is_damaged_the_run_starts_anew(store: LocalStore) -> None:
    two_checkpoints(store)
    for step in (3, 6):
        (folder(store, step) / "model.safetensors").write_bytes(b"")
    assert Run(1).load(store) == 0


def test_damaged_checkpoints_do_not_push_out_sound_ones(store: LocalStore) -> None:
    run = Run(0)
    for step in (2, 5, 6):
        folder(store, step).mkdir(parents=True)
        (folder(store, step) / "receipt.json").write_bytes(b"{}")
    for step in (3, 4):
        run.train(step - 1, step)
        run.save(store, step)
    assert complete_steps(store, RUN) == [3, 4, 5, 6]
    assert Run(1).load(store) == 4


def test_a_folder_counts_only_with_its_receipt(store: LocalStore) -> None:
    run = Run(0)
    run.train(0, 3)
    run.save(store, 3)
    unfinished = folder(store, 9)
    unfinished.mkdir()
    for name in PARTS:
        (unfinished / name).write_bytes((folder(store, 3) / name).read_bytes())
    assert complete_steps(store, RUN) == [3]
    assert Run(1).load(store) == 3


def test_a_checkpoint_written_over_an_unfinished_one_is_whole(store: LocalStore) -> None:
    run = Run(0)
    folder(store, 3).mkdir(parents=True)
    (folder(store, 3) / "model.safetensors").write_bytes(b"half")
    weights = run.train(0, 3)
    run.save(store, 3)
    other = Run(1)
    assert other.load(store) == 3
    assert same(weights, other.model.state_dict())


def test_the_receipt_is_written_last_and_goes_first(tmp_path: Path) -> None:
    calls: dict[str, list[str]] = {"write": [], "delete": []}

    class Watched(LocalStore):
        def write(self, key, data, *, create_only=True):
            calls["write"].append(Path(key).name)
            return super().write(key, data, create_only=create_only)

        def delete(self, key):
            calls["delete"].append(Path(key).name)
            super().delete(key)

    for step in (1, 2, 3):
        Run(0).save(Watched(tmp_path), step)
    assert calls["write"] == [*PARTS, "receipt.json"] * 3
    assert (calls["delete"][0], set(calls["delete"][1:])) == ("receipt.json", set(PARTS))


def test_a_store_that_does_not_answer_is_no_reason_to_start_again(tmp_path: Path) -> None:
    class Unreachable(LocalStore):
        def stat(self, key):
            raise UnavailableError("no answer")

    two_checkpoints(LocalStore(tmp_path))
    with pytest.raises(UnavailableError):
        Run(1).load(Unreachable(tmp_path))


def test_a_checkpoint_holds_no_code(store: LocalStore) -> None:
    two_checkpoints(store)
    assert {path.suffix for path in folder(store, 6).iterdir() if not path.name.startswith(".")} == {
        ".safetensors",
        ".json",
    }
    assert json.loads((folder(store, 6) / "state.json").read_bytes())["step"] == 6
