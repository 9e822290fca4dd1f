"""What runs the LVLM, behind one interface: one request in, one answer out, as many at a time as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hqclip.data.images import Pixels


class Finish(StrEnum):
    """Why an answer ended: the model said so, its token limit, it went round in circles, or it may not be said."""

    STOP = "stop"
    LENGTH = "length"
    REPETITION = "repetition"
    REFUSED = "refused"


@dataclass(frozen=True)
class Request:
    """One image, (height, width, 3) uint8 RGB within the image-token budget, with its cleaned alt-text.

    `temperature` 0 is greedy; with the same `seed` a warmer request gives the same answer where the engine allows.
    `grammar` binds the answer to the prompt's schema; an engine that has no grammar (`EngineInfo.grammar`) answers
    freely. `sha256` names the bytes of the image, hexadecimal.
    """

    uid: str
    image: Pixels
    alt_text: str
    temperature: float = 0.0
    seed: int = 0
    grammar: bool = False
    sha256: str = ""


@dataclass(frozen=True)
class Answer:
    """What the LVLM said; `cached_tokens` of the prompt were not computed again."""

    text: str
    finish: Finish
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """What was started: shown to people and kept with the results; `settings` are the resolved ones."""

    name: str
    version: str
    device: str
    num_gpus: int
    max_num_seqs: int
    grammar: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


class RequestFailed(Exception):
    """The engine refused or failed this one request and goes on; asking again would end the same way."""


class EngineBusy(Exception):
    """The engine takes no request now (rate limit, overload): asking again later may well work."""


class Unanswered(Exception):
    """This request came back without an answer, though it was sent more than once or the server is sure of itself.

    Whether the request is to blame or the engine, other requests tell. `denied` is what no patience mends: no access,
    no such route or model, a request that is not taken as it is.
    """

    def __init__(self, why: str, *, denied: bool = False) -> None:
        super().__init__(why)
        self.denied = denied


class EngineDied(Exception):
    """The engine is gone and took every request in flight with it; `close` and `start` bring it back."""


class Engine(Protocol):
    """Asynchronous; all methods are called from one event loop.

    Greedy answers are the same for the same request, whatever else is in flight, as far as the arithmetic allows.
    """

    async def start(self) -> EngineInfo:
        """Load the model; again after `close`. Raises `ConfigError`, `MissingSoftwareError`, `UnavailableError`."""
        ...

    async def answer(self, request: Request) -> Answer:
        """Raises `RequestFailed`, `EngineBusy`, `Unanswered` or `EngineDied`. Cancelling it gives the request up."""
        ...

    async def close(self) -> None:
        """Stop within seconds, whatever is in flight; nothing happens if it is stopped already."""
        ...
