"""Any server that speaks OpenAI's protocol, `vllm serve` included: a request is one POST to /chat/completions.

Rate limits, faults of the server and broken connections are tried again here, a few times and ever more slowly; what
is left of them is for the caller. The key, if the server wants one, is OPENAI_API_KEY of the environment.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import random
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from hqclip.annotate.engines.protocol import Answer, EngineBusy, EngineDied, EngineInfo, Finish, Request, RequestFailed
from hqclip.annotate.prompt import Prompt
from hqclip.config import AnnotateConfig
from hqclip.data.images import Pixels
from hqclip.errors import AccessError, ConfigError, UnavailableError

TRIES = 6
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0  # between two tries; each is twice the one before, unless the server says when
# To connect and to send. An answer may take as long as the caller waits for it.
TIMEOUT = httpx2.Timeout(60.0, connect=10.0, read=None, pool=None)
LOOK_TIMEOUT_S = 30.0  # for the list of models
LOSSLESS_PIXELS = 256 * 256
WHY = 500  # characters of what a server says that are told
REFUSED_REQUEST = (400, 413, 422)
TRY_AGAIN = (408, 409, 425, 429)  # and everything from 500
NO_ACCESS = (401, 403)
NO_SUCH_ROUTE = (404, 405, 501)
FINISHES = {"length": Finish.LENGTH, "repetition": Finish.REPETITION}  # everything else ended of itself
GIVEN_UP = ("abort", "error")  # vLLM's, when it did not finish the answer


class _TryAgain(Exception):
    """What may be gone in a moment; `after_s` is when the server wants to be asked again."""

    def __init__(self, why: str, after_s: float = 0.0, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.after_s, self.unreachable = after_s, unreachable


class OpenAIEngine:
    """One model of one server. How many requests the server works on at a time is its own affair."""

    def __init__(self, config: AnnotateConfig, prompt: Prompt, model: Path | str) -> None:
        self._config, self._prompt, self._model = config, prompt, str(model)
        self._client: httpx2.AsyncClient | None = None
        self._key = ""
        self._inside: set[asyncio.Task[Answer]] = set()

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Looks whether the server is there, lets us in and has the model; sends nothing else.

        Also raises `AccessError`.
        """
        self._key = _key_of_environment()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        keep = httpx2.Limits(max_connections=None, max_keepalive_connections=2 * self._config.max_num_seqs)
        host = self._address("").netloc.decode()
        self._client = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, limits=keep)
        try:
            await self._look(self._client, host)
        except BaseException:
            await self.close()
            raise
        settings = {"model": self._model, "max_new_tokens": self._config.max_new_tokens}
        return EngineInfo(
            "openai", "v1", f"server {host}", 0, self._config.max_num_seqs, grammar=True, settings=settings
        )

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`. Giving up closes the connection, by which the server knows."""
        if self._client is None:
            raise EngineDied("the engine is not running")
        asking = asyncio.create_task(self._ask(self._client, request))
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
        client, self._client = self._client, None
        inside = list(self._inside)
        for asking in inside:
            asking.cancel()
        await asyncio.gather(*inside, return_exceptions=True)
        if client is not None:
            await client.aclose()

    def _address(self, route: str) -> httpx2.URL:
        try:
            url = httpx2.URL(self._config.server)
            if url.host:
                return url.copy_with(path=url.path.rstrip("/") + route)
            why = "there is no host in it"
        except httpx2.InvalidURL as error:
            why = str(error)
        raise ConfigError(f"server is not an address ({why}); give one like http://host:8000/v1")

    async def _look(self, client: httpx2.AsyncClient, host: str) -> None:
        """Ask which models there are. A server that does not tell is believed to have ours."""
        for pause in _pauses():
            try:
                response = await self._send(client, "GET", "/models", timeout=LOOK_TIMEOUT_S)
                break
            except _TryAgain as error:
                if pause is None:
                    raise UnavailableError(f"the server {host} does not answer ({error}); is it running?") from error
                await asyncio.sleep(max(pause, error.after_s))
        if response.status_code in NO_SUCH_ROUTE:
            return
        if response.status_code in NO_ACCESS:
            raise AccessError(
                f"the server {host} does not let us in ({self._said(response)}); set OPENAI_API_KEY to a key that may "
                f"use {self._model!r}"
            )
        try:
            models = [str(model["id"]) for model in response.json()["data"]] if response.is_success else None
        except (ValueError, KeyError, TypeError):
            models = None
        if models is None:
            raise ConfigError(
                f"{host} does not speak OpenAI's protocol at this address ({self._said(response)}); server must end "
                "where /chat/completions begins, e.g. http://host:8000/v1"
            )
        if models and self._model not in models:
            known = ", ".join(models[:10]) + (", ..." if len(models) > 10 else "")
            raise ConfigError(f"the server {host} has no model {self._model!r}; it has {known}")

    async def _ask(self, client: httpx2.AsyncClient, request: Request) -> Answer:
        body = await asyncio.to_thread(self._body, request)
        for pause in _pauses():
            try:
                response = await self._send(client, "POST", "/chat/completions", json=body)
                return self._read(response)
            except _TryAgain as error:
                if pause is None:
                    raise (EngineDied if error.unreachable else EngineBusy)(str(error)) from error
                await asyncio.sleep(max(pause, error.after_s))
        raise AssertionError("the last pause is None")

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

    async def _send(self, client: httpx2.AsyncClient, method: str, route: str, **options: Any) -> httpx2.Response:
        """A response that says something; raises `_TryAgain` for what may pass."""
        try:
            response = await client.request(method, self._address(route), **options)
        except httpx2.RequestError as error:
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise _TryAgain(f"{type(error).__name__}: {error}"[:WHY], unreachable=unreachable) from error
        status = response.status_code
        if status in TRY_AGAIN or (status >= 500 and status not in NO_SUCH_ROUTE):
            raise _TryAgain(self._said(response), _retry_after(response))
        return response

    def _read(self, response: httpx2.Response) -> Answer:
        """The answer in a response. Raises `_TryAgain` if it is cut, `RequestFailed`, `EngineDied`."""
        if response.status_code in REFUSED_REQUEST:
            raise RequestFailed(self._said(response))
        if not response.is_success:
            raise EngineDied(self._said(response))
        try:
            document = response.json()
            choice = document["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            text = message.get("content") or message.get("refusal") or ""
            usage = document.get("usage") or {}
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            answer = Answer(
                str(text),
                FINISHES.get(finish, Finish.STOP),
                int(usage.get("prompt_tokens") or 0),
                int(usage.get("completion_tokens") or 0),
                int(cached),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _TryAgain(f"the server's answer cannot be read ({type(error).__name__}: {error})"[:WHY]) from error
        if finish in GIVEN_UP:
            raise _TryAgain(f"the server gave the answer up ({finish})")
        return answer

    def _said(self, response: httpx2.Response) -> str:
        """Status and message of a response, without the key, should the server repeat it."""
        text = response.text
        try:
            document = response.json()
            error = document.get("error", document)
            text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        except (ValueError, AttributeError):
            pass
        if self._key:
            text = text.replace(self._key, "***")
        return f"HTTP {response.status_code}: {' '.join(text.split())}"[:WHY]


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


def _pauses() -> list[float | None]:
    """Seconds to wait after each try that failed; None after the last one."""
    pauses = [min(FIRST_PAUSE_S * 2.0**number, MAX_PAUSE_S) * random.uniform(0.5, 1.0) for number in range(TRIES - 1)]
    return [*pauses, None]


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks us to wait, at most `MAX_PAUSE_S`; 0 if it does not say."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value) if value[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), MAX_PAUSE_S)


def _key_of_environment() -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or any(letter.isspace() for letter in key):
        raise AccessError("OPENAI_API_KEY is not one word of ASCII; set it to the key alone")
    return key
