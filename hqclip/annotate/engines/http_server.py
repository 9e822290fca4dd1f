"""One HTTP server, asked with patience: what may be gone in a moment is tried again, ever more slowly.

Rate limits, faults of the server, broken connections and answers that cannot be read are such. The key, if the server
wants one, is OPENAI_API_KEY of the environment; it goes over no network in clear, unless that is allowed.
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
from hqclip.foreign_text import harmless
from hqclip.plain_http import is_this_machine, refuse_in_clear

T = TypeVar("T")
TRIES = 6
WAIT_S = 60.0  # between all tries of a request together, less than an answer may take
# To connect and to send. An answer may take as long as the caller waits for it.
TIMEOUT = httpx2.Timeout(60.0, connect=10.0, read=None, pool=None)
WHY = 500  # characters of what a server says that are told
TRY_AGAIN = (408, 409, 425, 429)  # and everything from 500
OVERLOADED = (429, 503, 529)  # the server's affair, whatever is asked
NO_SUCH_ROUTE = (404, 405, 501)


class TryAgain(Exception):
    """What may be gone in a moment; `after_s` is when the server wants to be asked again."""

    def __init__(self, why: str, after_s: float = 0.0, *, unreachable: bool = False, overloaded: bool = False) -> None:
        super().__init__(why)
        self.after_s, self.unreachable, self.overloaded = after_s, unreachable, overloaded


class Server:
    """The routes below `url`.

    Raises `AccessError` for a key that cannot be one, and `ConfigError` for what is no address, or would carry the key
    in clear over a network without `plain_http`.
    """

    def __init__(self, url: str, keepalive: int, *, plain_http: bool = False) -> None:
        self._key, self._url = _key_of_environment(), _address(url)
        self.host = self._url.netloc.decode()
        near = is_this_machine(self._url.host)
        if self._key and not plain_http:
            refuse_in_clear("OPENAI_API_KEY", str(self._url), proxies=not near, allow="--plain-http true")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=keepalive)
        # what goes to this machine goes through no proxy
        self._client = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, limits=limits, trust_env=not near)

    async def request(self, method: str, route: str, read: Callable[[httpx2.Response], T], **options: Any) -> T:
        """What `read` makes of the response; it may raise `TryAgain` too. Raises `TryAgain` when no try helped."""
        waited = 0.0
        for pause in pauses(TRIES):
            try:
                return read(await self._send(method, route, **options))
            except TryAgain as error:
                if pause is None or waited >= WAIT_S:
                    raise
                log.debug("annotate", f"{method} {route}: {error}; asked again")
                wait = max(pause, error.after_s)
                waited += wait
                await asyncio.sleep(wait)
        raise AssertionError("the last pause is None")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def said(self, response: httpx2.Response) -> str:
        """Status and message of a response, harmless."""
        text = response.text
        try:
            document = response.json()
            error = document.get("error", document)
            text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        except (ValueError, AttributeError, RecursionError):
            pass
        return f"HTTP {response.status_code}: {self.harmless(text)}"[:WHY]

    def harmless(self, text: str) -> str:
        """What came from the server, as it may be shown; also without the key, should it repeat it."""
        return harmless(text, [self._key])

    async def _send(self, method: str, route: str, **options: Any) -> httpx2.Response:
        """A response that says something; raises `TryAgain` for what may pass."""
        try:
            response = await self._client.request(method, self._url.copy_with(path=self._url.path + route), **options)
        except httpx2.RequestError as error:
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise TryAgain(
                f"{type(error).__name__}: {self.harmless(str(error))}"[:WHY], unreachable=unreachable
            ) from error
        status = response.status_code
        if status in TRY_AGAIN or (status >= 500 and status not in NO_SUCH_ROUTE):
            raise TryAgain(self.said(response), _retry_after(response), overloaded=status in OVERLOADED)
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
