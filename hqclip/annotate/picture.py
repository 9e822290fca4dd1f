"""One image of a pool on its way from its shard through the engine to its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hqclip.data.images import Pixels
from hqclip.records import Status


@dataclass
class Picture:
    """`place` says where its row belongs; without an image there is nothing to ask: `fault` and `reason` say why.

    `sha256` is of the bytes of its file, hexadecimal; `strikes` counts the engines that died with it inside.
    """

    place: Any
    uid: str
    image: Pixels | None
    alt_text: str
    sha256: str = ""
    fault: Status = Status.UNREADABLE_IMAGE
    reason: str = ""
    strikes: int = 0
