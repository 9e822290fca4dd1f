"""A request to Kubeflow's API, tried again where that is safe, refused in words a person can use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, NoReturn

import kfp_server_api
import urllib3
from kfp_server_api.rest import RESTClientObject

from hqclip.backoff import pause_s
from hqclip.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    DataError,
    HQClipError,
    NotFoundError,
    UnavailableError,
)
from hqclip.foreign_text import harmless
from pipelines.client.output import say

TIMEOUT = (10, 60)  # seconds: to connect, to answer
PATIENCE_S = 60.0  # how long a request is tried again
QUIET_TRIES = 3  # before a person is told
LOOKS_S = (0.0, 1.0, 2.0, 4.0)  # pauses before each look for what was not heard of: it may still be in the making
_BUSY = (429, 500, 502, 503, 504)
_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError)  # what kfp's client trips over
_LOGIN = ("dex", "oauth2", "login", "accounts.google.com", "/auth", "signin", "openid")


class UnheardError(UnavailableError):
    """Nobody can tell whether it was done: the answer got lost."""


class PatientRest(RESTClientObject):
    """Stands for kfp's own HTTP under its client: with timeouts, tries again, and this project's errors.

    What only reads, deletes, or changes a state is tried again for `patience_s` seconds. What creates something is
    tried again only where it cannot have been done; else `UnheardError` is raised, and the caller looks (`created`).
    """

    def __init__(self, settings: kfp_server_api.Configuration, login: str, patience_s: float = PATIENCE_S) -> None:
        settings.retries = False  # tries are counted here, and redirects are not followed: they lead to login pages
        super().__init__(settings)
        self.login, self.patience_s = login, patience_s
        self._host = settings.host

    def request(
        self,
        method: str,
        url: str,
        query_params: Any = None,
        headers: Any = None,
        body: Any = None,
        post_params: Any = None,
        _preload_content: bool = True,
        _request_timeout: Any = None,
    ) -> Any:
        """The answer, once it is there."""
        safe = method in ("GET", "HEAD", "DELETE") or ":" in url.rpartition("/")[2]
        give_up = time.monotonic() + self.patience_s
        attempt = 0
        while True:
            try:
                answer = super().request(
                    method,
                    url,
                    query_params,
                    dict(headers or {}),  # it takes some out of them
                    body,
                    post_params,
                    _preload_content,
                    _request_timeout or TIMEOUT,
                )
                self._look_at(answer, url)
                return answer
            except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                if method == "DELETE" and attempt and getattr(error, "status", 0) == 404:
                    return _Nothing()  # an earlier try did it
                wait = _wait(error, attempt, safe)
                left = give_up - time.monotonic()
                if wait is None or wait > left:
                    self._refuse(error, method, url, safe)
                if attempt == QUIET_TRIES:
                    say(f"Kubeflow at {self._host} does not answer: {_message(error)}; trying again for {left:.0f} s")
                time.sleep(wait)
            attempt += 1

    def _look_at(self, answer: Any, url: str) -> None:
        """A page for people is no answer, whatever its number."""
        kind = str(answer.getheader("content-type") or "")
        if kind.startswith("text/html"):
            self._refuse_page(url, bytes(answer.data or b"").decode(errors="replace"))

    def _refuse_page(self, url: str, page: str, where: str = "") -> NoReturn:
        if any(word in (where or page).lower() for word in _LOGIN):
            raise AccessError(
                f"Kubeflow at {self._host} wants a login: a login page answered {url}{where and f' (at {where})'}. "
                f"Used {self.login}. Behind Dex or oauth2-proxy log in with a browser and give its cookie "
                "(--cookie-file, e.g. authservice_session=... or oauth2_proxy_kubeflow=...), or a token of a service "
                "account (--token-file); behind IAP give --iap-client-id"
            )
        redirected = f"it redirects to {where}" if where else "a web page answered"
        raise UnavailableError(
            f"{self._host} is not Kubeflow Pipelines' API: {redirected}. Give another --host: behind the central "
            "dashboard it ends in /pipeline"
        )

    def _refuse(self, error: Exception, method: str, url: str, safe: bool) -> NoReturn:
        """Raise what the error means for a person."""
        status = int(getattr(error, "status", 0) or 0)
        said = _message(error)
        if not status:
            kind = UnavailableError if safe or _never_sent(error) else UnheardError
            if "SSL" in said:
                said += " (a certificate of one's own is given with --ca-file)"
            raise kind(
                f"Kubeflow at {self._host} cannot be reached ({method} {_path(url)}): {said}. Check --host (now "
                f"{self._host}), the network and any port-forward"
            ) from error
        headers = getattr(error, "headers", None) or {}
        if 300 <= status < 400:
            self._refuse_page(url, "", str(headers.get("Location", "elsewhere")))
        if status in (401, 403):
            raise AccessError(f"Kubeflow at {self._host} refuses ({status}): {said}. {self._advice(status)}") from error
        if str(headers.get("Content-Type", "")).startswith("text/html") and status == 404:
            self._refuse_page(url, said)
        raise _fault(status, said, method, _path(url), safe, self._host) from error

    def _advice(self, status: int) -> str:
        if status == 403:
            return (
                f"Used {self.login}: ask for access to this namespace (a contributor of the Kubeflow profile), or give "
                "another --namespace"
            )
        if self.login == NO_LOGIN:
            return f"Used {self.login}: give --token-file, --cookie-file or --iap-client-id"
        return f"Used {self.login}: has it expired, and is it for this host? Get a new one, or give another"


NO_LOGIN = "no login at all"


def created(create: Callable[[], Any], find: Callable[[], Any | None], tries: int = 3) -> Any:
    """What `create` makes, once and no more: after an answer that got lost `find` says whether it is there.

    It is asked several times: a gateway that gives up leaves a server behind it that still works.
    """
    for _ in range(tries - 1):
        try:
            return create()
        except UnheardError:
            for pause in LOOKS_S:
                time.sleep(pause)
                found = find()
                if found is not None:
                    return found
    return create()


def understood(deserialize: Callable[[Any, Any], Any], host: str) -> Callable[[Any, Any], Any]:
    """How kfp's client reads an answer, which raises `DataError` for one that is none of Kubeflow's API."""

    def read(answer: Any, kind: Any) -> Any:
        try:
            found = deserialize(answer, kind)
        except (kfp_server_api.ApiException, *_UNREADABLE) as error:
            raise _no_answer(host, kind, f"{type(error).__name__}: {_message(error)}") from error
        text = answer.data.lstrip()
        if text and text[:1] not in ("{", b"{"):  # all of its answers are objects; to kfp's client any text is one
            raise _no_answer(host, kind, harmless(str(text[:80])))
        if any(isinstance(value, list) and None in value for value in getattr(found, "__dict__", {}).values()):
            raise _no_answer(host, kind, "a list with null in it")
        return found

    return read


def _no_answer(host: str, kind: Any, said: str) -> DataError:
    return DataError(
        f"Kubeflow at {host} gave an answer that is none of its API v2beta1 (no {kind}: {said[:200]}). Check --host: "
        "is it that of Kubeflow Pipelines?"
    )


class _Nothing:
    """An empty answer."""

    status, data = 200, b"{}"

    def getheader(self, _: str, default: Any = None) -> Any:
        """No header is there."""
        return default

    def getheaders(self) -> dict[str, str]:
        """None at all."""
        return {}


def _fault(status: int, said: str, method: str, path: str, safe: bool, host: str) -> HQClipError:
    if status == 404:
        if said in ("Not Found", "404 page not found") or not said:
            return UnavailableError(
                f"{host} is not Kubeflow Pipelines' API v2beta1: {path} is not found. Give another --host: behind the "
                "central dashboard it ends in /pipeline"
            )
        return NotFoundError(f"Kubeflow has no such thing: {said}")
    if status == 409:
        return ConflictError(f"Kubeflow refuses: {said}")
    if status in _BUSY:
        kind = UnavailableError if safe or status == 429 else UnheardError
        return kind(f"Kubeflow at {host} gave no answer after retries ({method} {path}): {status} {said}")
    return ConfigError(f"Kubeflow refuses: {said}")


def _wait(error: Exception, attempt: int, safe: bool) -> float | None:
    """Seconds until the next try, None if there is no point in one, or if it might do a thing twice."""
    status = int(getattr(error, "status", 0) or 0)
    is_tls = isinstance(error, kfp_server_api.ApiException) and not status  # how kfp says it
    if is_tls or (status and status not in _BUSY):
        return None
    if not safe and status != 429 and not _never_sent(error):
        return None
    asked = str((getattr(error, "headers", None) or {}).get("Retry-After", ""))
    if asked.isdigit():
        return float(asked)
    return pause_s(attempt, first_s=0.25, longest_s=10.0)


def _never_sent(error: Exception) -> bool:
    """Whether there was no connection at all."""
    reason = getattr(error, "reason", error) if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _message(error: Exception) -> str:
    """What the server said, in one line."""
    return harmless(_raw_message(error))


def _raw_message(error: Exception) -> str:
    body = getattr(error, "body", None)
    if not isinstance(error, kfp_server_api.ApiException) or not error.status:
        return " ".join(str(getattr(error, "reason", None) or error).split())
    text = bytes(body or b"").decode(errors="replace") if not isinstance(body, str) else body
    try:
        told = json.loads(text)
        return str(told.get("message") or told.get("error_details") or told.get("error") or text)
    except (ValueError, AttributeError):
        return " ".join(text.split())[:300] or f"{error.status} {error.reason}"


def _path(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]
