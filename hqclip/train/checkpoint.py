"""The whole state of a run in the store, so that a resumed run cannot be told from an undisturbed one.

A checkpoint is a folder; `receipt.json` with sizes and checksums is written last and makes it count.
"""

from __future__ import annotations

import json
import re

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from hqclip import log
from hqclip.errors import DataError, NotFoundError, StorageError
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.store.documents import read_json

PARTS = ("model.safetensors", "optimizer.safetensors", "state.json")
KEPT = 2


def snapshot(step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    """The state after `step` steps, by the names of `PARTS`; training may go on, it stays as it is."""
    return {
        "model.safetensors": save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}),
        "optimizer.safetensors": save(_optimizer_tensors(optimizer)),
        "state.json": canonical_json({"step": step, "torch_rng": torch.get_rng_state().tolist()}),
    }


def write_checkpoint(store: Store, run: str, step: int, contents: dict[str, bytes]) -> None:
    """Write a `snapshot` under `runs/{run}/checkpoints/`; delete all but the newest `KEPT`."""
    folder = f"runs/{run}/checkpoints/step-{step:09d}"
    receipt = {}
    for name, data in contents.items():
        info = store.write(f"{folder}/{name}", data, create_only=False)
        receipt[name] = {"size": info.size, "crc32c": info.crc32c}
    store.write(f"{folder}/receipt.json", canonical_json(receipt), create_only=False)
    # Later ones were passed over as damaged, so they are not among the newest to keep.
    for old in [done for done in complete_steps(store, run) if done <= step][:-KEPT]:
        _delete(store, f"runs/{run}/checkpoints/step-{old:09d}")


def load_checkpoint(store: Store, run: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint that verifies; the steps that were done, 0 if there is none.

    A damaged checkpoint is passed over with a warning that names it; a store that cannot be reached is no reason to
    train again what was done, so its errors are raised.
    """
    for step in reversed(complete_steps(store, run)):
        folder = f"runs/{run}/checkpoints/step-{step:09d}"
        try:
            contents = _read_verified(store, folder)
        except (NotFoundError, StorageError, DataError) as error:
            log.warning("train", f"checkpoint passed over, an older one is used: {error}")
            continue
        return _restore(contents, model, optimizer)
    return 0


def load_step(store: Store, run: str, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore the checkpoint of `step`, which another rank found good; `step`. Raises `StorageError` if it is not."""
    folder = f"runs/{run}/checkpoints/step-{step:09d}"
    try:
        contents = _read_verified(store, folder)
    except DataError as error:
        raise StorageError(f"another rank could read {folder}, this one cannot: {error}; start again") from error
    return _restore(contents, model, optimizer)


def complete_steps(store: Store, run: str) -> list[int]:
    """Steps whose checkpoint has its receipt, ascending."""
    pattern = re.compile(rf"runs/{re.escape(run)}/checkpoints/step-(\d+)/receipt\.json")
    return sorted(int(m[1]) for key in store.list(f"runs/{run}/checkpoints/") if (m := pattern.fullmatch(key)))


def _restore(contents: dict[str, bytes], model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    model.load_state_dict(load(contents["model.safetensors"]))
    _restore_optimizer(optimizer, load(contents["optimizer.safetensors"]))
    state = json.loads(contents["state.json"])
    torch.set_rng_state(torch.tensor(state["torch_rng"], dtype=torch.uint8))
    return int(state["step"])


def _read_verified(store: Store, folder: str) -> dict[str, bytes]:
    receipt = read_json(store, f"{folder}/receipt.json", "it is no checkpoint")
    contents = {}
    for name in PARTS:
        info = store.stat(f"{folder}/{name}")
        if info is None or {"size": info.size, "crc32c": info.crc32c} != receipt.get(name):
            raise DataError(f"{folder}/{name} is not what its receipt says")
        contents[name] = store.read(f"{folder}/{name}")
    return contents


def _delete(store: Store, folder: str) -> None:
    """The receipt first: from then on it is no checkpoint."""
    for name in ("receipt.json", *PARTS):
        store.delete(f"{folder}/{name}")


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by parameter number."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value.contiguous() for number, slot in state.items() for name, value in slot.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    whole = optimizer.state_dict()
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        slots.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**whole, "state": slots})
