"""What a user asks for in, where the towers run and how they calculate out."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hqclip.errors import MissingSoftwareError

NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32"}


class Device(NamedTuple):
    """A device and the arithmetic of its matrix products; what goes into them and comes out is float32."""

    place: torch.device
    precision: torch.dtype

    def __str__(self) -> str:
        return f"{self.place.type} {NAMES[self.precision]}"


def find_device(asked: str) -> Device:
    """The device for `auto` (a GPU where there is one), `cpu` or `cuda`.

    bf16 on a GPU, unless its kind would only imitate it. Raises `MissingSoftwareError` for `cuda` where torch has none.
    """
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise MissingSoftwareError(
            "device is cuda, but torch sees no GPU here: give device auto or cpu, or run it on a machine with a GPU"
        )
    if asked == "cpu" or not has_gpu:
        return Device(torch.device("cpu"), torch.float32)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device(torch.device("cuda"), torch.bfloat16 if has_bf16 else torch.float32)
