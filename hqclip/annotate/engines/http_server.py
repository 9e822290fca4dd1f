"""One HTTP server, asked with patience: what may be gone in a moment is tried again, ever more slowly.

Rate limits, faults of the server, broken connections and answers that cannot be read are such. The key, if the server
wants one, is OPENAI_API_KEY of the environment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from hqclip import log
from hqclip.backoff import LONGEST_S, pauses
from hqclip.errors import AccessError, ConfigError

T = TypeVar("T")
TRIES = 6
# To connect and to send. An answer may take as long as the caller waits for it.
TIMEOUT = httpx2.Timeout(60.0, connect=10.0, read=None, pool=None)
WHY = 500  # characters of what a server says that are told
TRY_AGAIN = (408, 409, 425, 429)  # and everything from 500
NO_SUCH_ROUTE = (404, 405, 501)


class TryAgain(Exception):
    """What may be gone in a moment; `after_s` is when the server wants to be asked again."""

    def __init__(self, why: str, after_s: float = 0.0, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.after_s, self.unreachable = after_s, unreachable


class Server:
    """The routes below `url`. Raises `ConfigError` if it is no address, `AccessError` for a key that cannot be one."""

    def __init__(self, url: str, keepalive: int) -> None:
        self._key, self._url = _key_of_environment(), _address(url)
        self.host = self._url.netloc.decode()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=keepalive)
        self._client = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, limits=limits)

    async def request(self, method: str, route: str, read: Callable[[httpx2.Response], T], **options: Any) -> T:
        """What `read` makes of the response; it may raise `TryAgain` too. Raises `TryAgain` when no try helped."""
        for pause in pauses(TRIES):
            try:
                return read(await self._send(method, route, **options))
            except TryAgain as error:
                if pause is None:
                    raise
                log.debug("annotate", f"{method} {route}: {error}; asked again")
                await asyncio.sleep(max(pause, error.after_s))
        raise AssertionError("the last pause is None")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def said(self, response: httpx2.Response) -> str:
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

    async def _send(self, method: str, route: str, **options: Any) -> httpx2.Response:
        """A response that says something; raises `TryAgain` for what may pass."""
        try:
            response = await self._client.request(method, self._url.copy_with(path=self._url.path + route), **options)
        except httpx2.RequestError as error:
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise TryAgain(f"{type(error).__name__}: {error}"[:WHY], unreachable=unreachable) from error
        status = response.status_code
        if status in TRY_AGAIN or (status >= 500 and status not in NO_SUCH_ROUTE):
            raise TryAgain(self.said(response), _retry_after(response))
        return response


def _address(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
        if url.host:
            return url.copy_with(path=url.path.rstrip("/"))
        why = "there is no host in it"
    except httpx2.InvalidURL as error:
        why = str(error)
    raise ConfigError(f"server is not an address ({why}); give one like http://host:8000/v1")


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks us to wait, at most `LONGEST_S`; 0 if it does not say."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value) if value[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_S)


def _key_of_environment() -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or any(letter.isspace() for letter in key):
        raise AccessError("OPENAI_API_KEY is not one word of ASCII; set it to the key alone")
    return key
