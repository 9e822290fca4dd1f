"""Any server that speaks OpenAI's protocol, `vllm serve` included: a request is one POST to /chat/completions.

What may pass is tried again a few times; what is left of it is for the caller.
"""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from hqclip.annotate.engines.chat_response import UNREADABLE, GivenUpError, read_response, refused_by_filter
from hqclip.annotate.engines.http_server import NO_SUCH_ROUTE, WHY, Server, TryAgain
from hqclip.annotate.engines.protocol import (
    Answer,
    EngineBusy,
    EngineDied,
    EngineInfo,
    Finish,
    Request,
    Unanswered,
)
from hqclip.annotate.prompt import Prompt
from hqclip.config import AnnotateConfig
from hqclip.data.images import Pixels
from hqclip.errors import AccessError, ConfigError, UnavailableError

LOOK_TIMEOUT_S = 30.0  # for the list of models
LOSSLESS_PIXELS = 256 * 256
NO_ACCESS = (401, 403)


class OpenAIEngine:
    """One model of one server. How many requests the server works on at a time is its own affair."""

    def __init__(self, config: AnnotateConfig, prompt: Prompt, model: Path | str) -> None:
        self._config, self._prompt, self._model = config, prompt, str(model)
        self._server: Server | None = None
        self._inside: set[asyncio.Task[Answer]] = set()

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Looks whether the server is there, lets us in and has the model; sends nothing else.

        Also raises `AccessError`.
        """
        keepalive, plain_http = 2 * self._config.max_num_seqs, self._config.plain_http
        self._server = server = Server(self._config.server, keepalive, plain_http=plain_http)
        try:
            await self._look(server)
        except BaseException:
            await self.close()
            raise
        settings = {"model": self._model, "max_new_tokens": self._config.max_new_tokens}
        return EngineInfo(
            "openai", "v1", f"server {server.host}", 0, self._config.max_num_seqs, grammar=True, settings=settings
        )

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`. Giving up closes the connection, by which the server knows."""
        if self._server is None:
            raise EngineDied("the engine is not running")
        asking = asyncio.create_task(self._ask(self._server, request))
        self._inside.add(asking)
        try:
            return await asking
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            raise EngineDied("it was closed") from None
        finally:
            self._inside.discard(asking)

    async def close(self) -> None:
        """See `Engine.close`."""
        server, self._server = self._server, None
        inside = list(self._inside)
        for asking in inside:
            asking.cancel()
        await asyncio.gather(*inside, return_exceptions=True)
        if server is not None:
            await server.close()

    async def _look(self, server: Server) -> None:
        """Ask which models there are. A server that does not tell is believed to have ours."""
        try:
            response = await server.request("GET", "/models", lambda response: response, timeout=LOOK_TIMEOUT_S)
        except TryAgain as error:
            raise UnavailableError(f"the server {server.host} does not answer ({error}); is it running?") from error
        if response.status_code in NO_SUCH_ROUTE:
            return
        host, said = server.host, server.said(response)
        if response.status_code in NO_ACCESS:
            raise AccessError(
                f"the server {host} does not let us in ({said}); set OPENAI_API_KEY to a key that may use "
                f"{self._model!r}"
            )
        try:
            models = [str(model["id"]) for model in response.json()["data"]] if response.is_success else None
        except UNREADABLE:
            models = None
        if models is None:
            raise ConfigError(
                f"{host} does not speak OpenAI's protocol at this address ({said}); server must end where "
                "/chat/completions begins, e.g. http://host:8000/v1"
            )
        if models and self._model not in models:
            known = server.harmless(", ".join(models[:10])[:WHY]) + (", ..." if len(models) > 10 else "")
            raise ConfigError(f"the server {host} has no model {self._model!r}; it has {known}")

    async def _ask(self, server: Server, request: Request) -> Answer:
        body = await asyncio.to_thread(self._body, request)
        try:
            return await server.request(
                "POST", "/chat/completions", lambda response: _read(server, response), json=body
            )
        except TryAgain as error:
            kind = EngineDied if error.unreachable else EngineBusy if error.overloaded else Unanswered
            raise kind(str(error)) from error

    def _body(self, request: Request) -> dict[str, Any]:
        messages = self._prompt.messages(request.alt_text)
        for message in messages:
            message["content"] = [
                {"type": "image_url", "image_url": {"url": data_uri(request.image)}}
                if part["type"] == "image"
                else part
                for part in message["content"]
            ]
        body = {
            "model": self._model,
            "messages": messages,
            "temperature": request.temperature,
            "seed": request.seed,
            "max_tokens": self._config.max_new_tokens,
        }
        if request.grammar:
            schema = {"name": "annotation", "strict": True, "schema": self._prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def _read(server: Server, response: httpx2.Response) -> Answer:
    """The answer in a response. Raises `TryAgain` if it is cut, and `Unanswered`."""
    try:
        document = response.json()
        if response.is_success:
            return read_response(document)
    except GivenUpError as error:
        raise TryAgain(str(error)) from error
    except UNREADABLE as error:
        if response.is_success:
            why = f"the server's answer cannot be read ({type(error).__name__}): {server.said(response)}"
            raise TryAgain(why[:WHY]) from error
        document = None
    if refused_by_filter(document):
        return Answer(server.said(response), Finish.REFUSED, 0, 0)
    raise Unanswered(server.said(response), denied=True)


def model_digest(config: AnnotateConfig) -> str:
    """A served model is known by its name only."""
    return f"served {config.model}"


def data_uri(image: Pixels) -> str:
    """The picture as text. A small one keeps every pixel: that costs little, and artefacts would be large in it.

    A large one becomes a JPEG of quality 95 with full colour: as PNG it takes over ten times as long to make and more
    than twice the room.
    """
    buffer = io.BytesIO()
    if image.shape[0] * image.shape[1] <= LOSSLESS_PIXELS:
        kind = "png"
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    else:
        kind = "jpeg"
        Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
