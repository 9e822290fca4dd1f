"""Who am I among the ranks of a run, and what do the others say? One process alone is rank 0 of 1.

torchrun tells each process its place by RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Tensors of the model travel
by NCCL between GPUs and by gloo without them; a `GlooGroup` is for objects and a few numbers, which wait for no GPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hqclip.errors import HQClipError, MissingSoftwareError, UnavailableError
from hqclip.foreign import translated

T = TypeVar("T")
TIMEOUT = timedelta(seconds=600)  # for the slowest rank to arrive
STORE_TIMEOUT = timedelta(seconds=1800)  # for rank 0 to bring the last checkpoint to a store that is away, or to fail


class GlooGroup:
    """What ranks tell each other, in the same order on every rank; one group for each thread that talks."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._group: Any = dist.new_group(backend="gloo", timeout=STORE_TIMEOUT) if world_size > 1 else None

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """What `action` gives on this rank. What went wrong on one rank is raised on all, as the same kind of error."""
        try:
            with translated():
                given = action()
        except HQClipError as error:
            self._all_gather_object([type(error).__name__, str(error)])
            raise
        for rank, fault in enumerate(self._all_gather_object(None)):
            if fault:
                kinds = {kind.__name__: kind for kind in HQClipError.__subclasses__()}
                raise kinds.get(fault[0], HQClipError)(f"rank {rank}: {fault[1]}")
        return given

    def on_rank_zero(self, rank: int, action: Callable[[], T]) -> T:
        """What `action` gives on rank 0, for all, as JSON; the others wait. Faults are as in `on_all_ranks`."""
        given = self.on_all_ranks(action if rank == 0 else lambda: None)
        told: T = self._all_gather_object(given)[0]
        return told

    def gather(self, own: Any) -> list[Any]:
        """What each rank gives, as JSON, in the order of ranks."""
        return self._all_gather_object(own)

    def rows_on_rank_zero(self, rank: int, own_ND: Tensor) -> list[Tensor]:
        """On rank 0 the rows of each rank, (N, D) float32 on the CPU and any number of them; nothing on the others."""
        shapes = self.gather(list(own_ND.shape))
        if rank:
            if own_ND.numel():
                dist.send(own_ND.contiguous(), 0, group=self._group)
            return []
        parts = [own_ND, *(torch.empty(shape) for shape in shapes[1:])]
        for other, part in enumerate(parts[1:], 1):
            if part.numel():
                dist.recv(part, other, group=self._group)
        return parts

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the ranks."""
        if self._group is None:
            return [float(value) for value in values]
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._group)
        return [value / self._world_size for value in sums.tolist()]

    def _all_gather_object(self, own: Any) -> list[Any]:
        """The object of each rank, as JSON; None is cheap."""
        if self._group is None:
            return [own]
        data = b"" if own is None else json.dumps(own).encode()
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self._world_size)]
        dist.all_gather(lengths, torch.tensor([len(data)]), group=self._group)
        longest = max(int(length) for length in lengths)
        if not longest:
            return [None] * self._world_size
        padded = torch.tensor(list(data.ljust(longest)), dtype=torch.uint8)
        objects = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(objects, padded, group=self._group)
        return [json.loads(bytes(data.tolist())) if n else None for data, n in zip(objects, lengths, strict=True)]


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world_size`, with `device` to itself."""

    rank: int
    world_size: int
    device: torch.device
    group: GlooGroup  # of the main thread

    @property
    def num_here(self) -> int:
        """How many ranks this machine has."""
        return _num_here()

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """What `action` gives here; what goes wrong on one rank is raised on all."""
        return self.group.on_all_ranks(action)

    def on_rank_zero(self, action: Callable[[], T]) -> T:
        """What `action` gives on rank 0, for all; the others wait."""
        return self.group.on_rank_zero(self.rank, action)

    def all_gather(self, own_BK: Tensor) -> Tensor:
        """(N, K): the rows of every rank, as many of each, in the order of ranks. Gradients find their way back."""
        gathered: Tensor = own_BK if self.world_size == 1 else _AllGather.apply(own_BK, self.world_size)
        return gathered

    def mean(self, own: Tensor) -> Tensor:
        """The mean over the ranks, without a gradient."""
        if self.world_size == 1:
            return own
        total = own.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size


class _AllGather(torch.autograd.Function):
    """Rows of all ranks forward; backward, what the losses of all ranks want of our rows."""

    @staticmethod
    def forward(ctx: Any, own_BK: Tensor, world_size: int) -> Tensor:
        parts = [torch.empty_like(own_BK) for _ in range(world_size)]
        dist.all_gather(parts, own_BK.contiguous())
        ctx.world_size = world_size
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        parts = [part.contiguous() for part in gradients[0].chunk(ctx.world_size)]
        own_BK = torch.empty_like(parts[0])
        dist.reduce_scatter(own_BK, parts)
        return own_BK, None


def world_size() -> int:
    """How many ranks there are, as torchrun says; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1


@contextmanager
def process_group(device: str = "auto", *, nccl: bool = True) -> Iterator[Ranks]:
    """The ranks of this run, joined in a process group that is gone afterwards.

    `device` cpu leaves the GPUs alone; without `nccl` they are not joined, for ranks that share no tensor of a model.
    Raises `MissingSoftwareError` where there are more ranks than GPUs, `UnavailableError` if a rank does not come.
    """
    size = world_size()
    place = torch.device("cpu") if device == "cpu" else _device(size)
    if size == 1:
        yield Ranks(0, 1, place, GlooGroup(1))
        return
    cuda = nccl and place.type == "cuda"
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT, device_id=place if cuda else None)
    except dist.DistError as error:
        raise UnavailableError(f"the {size} ranks did not find each other: {error}; start all of them again") from error
    try:
        yield Ranks(dist.get_rank(), size, place, GlooGroup(size))
    except HQClipError:  # raised on all ranks
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after a bug: with NCCL it would wait for ranks that wait for this one


def _num_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _device(size: int) -> torch.device:
    """The GPU of this rank, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if size == 1:
        return torch.device("cuda")
    ranks_here, gpus = _num_here(), torch.cuda.device_count()
    if ranks_here > gpus:
        raise MissingSoftwareError(f"{ranks_here} ranks on a machine with {gpus} GPUs; start one rank for each GPU")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device
