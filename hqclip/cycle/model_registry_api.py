"""Kubeflow's Model Registry, by its REST API v1alpha3: what is found, made and changed there, and what refusals mean.

A request is tried again where the service is busy or gave no answer. One that makes something may so be told that it
is there already: who makes something looks for it then.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from hqclip import __version__, log
from hqclip.backoff import pauses
from hqclip.errors import AccessError, ConfigError, ConflictError, DataError, HQClipError, UnavailableError
from hqclip.foreign_text import harmless
from hqclip.known_secrets import without_user
from hqclip.plain_http import NoRedirect, refuse_in_clear

PATH = "/api/model_registry/v1alpha3"
ANSWER_S = 30.0
TRIES, FIRST_S, LONGEST_S = 6, 1.0, 20.0
BUSY = {408, 429, 500, 502, 503, 504}
TOKEN = "HQCLIP_MODEL_REGISTRY_TOKEN"  # noqa: S105 - environment variable
Document = dict[str, Any]


class Registry:
    """One server. Raises `ConfigError` for what is no address, or would carry the token in clear over a network.

    All methods raise `AccessError`, `ConfigError` for what it refuses, `UnavailableError`, and `DataError` for answers
    that are none of a Model Registry.
    """

    def __init__(self, server: str, token: str = "") -> None:
        self.server = server.rstrip("/").removesuffix(PATH)
        self._token = token
        if not self.server.startswith(("http://", "https://")):
            raise ConfigError(f"server {server!r} is no address: give http://host:port")
        if "@" in urlsplit(self.server).netloc:
            raise ConfigError(f"server {without_user(self.server)} has a login in it: leave it out and set {TOKEN}")
        if token:
            refuse_in_clear(TOKEN, self.server)

    def find(self, what: str, **by: str) -> Document | None:
        """The one `what`, such as `model_version`, with these properties; None if there is none."""
        return self._ask("GET", f"/{what}?{urlencode(by)}", None)

    def make(self, path: str, body: Mapping[str, Any]) -> Document:
        """What was made. Raises `ConflictError` if its name or external id is taken."""
        return self._ask("POST", path, body) or {}

    def change(self, path: str, body: Mapping[str, Any]) -> Document:
        """What it is now; properties that `body` does not name stay, `customProperties` are replaced as a whole."""
        return self._ask("PATCH", path, body) or {}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Document | None:
        for pause in pauses(TRIES, first_s=FIRST_S, longest_s=LONGEST_S):
            status, said = self._answer(method, path, body)
            if status in BUSY | {0} and pause is not None:
                log.debug("export", f"{self.server}: {status or 'no answer'}, {said!r}; again in {pause:.0f} s")
                time.sleep(pause)
                continue
            break
        found = _parsed(said)
        if status in (200, 201) and found is not None:
            return self._known(found)
        if method == "GET" and status == 404 and found is not None and "code" in found:
            return None
        raise self._refusal(status, harmless(str(found.get("message", said)) if found else said, [self._token])[:300])

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
        """Status and text; status 0 and the fault if there was no answer."""
        headers = {"Accept": "application/json", "User-Agent": f"hqclip/{__version__}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server}{PATH}{path}", data, headers, method=method)  # noqa: S310
        try:
            try:
                answer = urllib.request.build_opener(NoRedirect()).open(request, timeout=ANSWER_S)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return int(answer.status), answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(getattr(error, "reason", error) or type(error).__name__)

    def _known(self, found: Document) -> Document:
        """An answer with what is needed of it."""
        lacking = [name for name in ("id", "name") if not (isinstance(found.get(name), str) and found[name])]
        properties = found.get("customProperties")
        if not isinstance(properties, dict | None):
            lacking.append("customProperties")
        if lacking:
            raise DataError(
                f"the Model Registry at {self.server} answered without {' and '.join(lacking)}, or with something else "
                f"under that name: give the address of its REST API ({harmless(json.dumps(found), [self._token])[:80]})"
            )
        return {**found, "customProperties": properties or {}}

    def _refusal(self, status: int, said: str) -> HQClipError:
        where = f"the Model Registry at {self.server}"
        if status in (401, 403) or 300 <= status < 400:
            return AccessError(f"{where} wants a login: set {TOKEN} to a bearer token ({status} {said})")
        if status == 409:
            return ConflictError(f"{where}: {said}")
        if status in BUSY | {0}:
            return UnavailableError(f"{where} gave no answer ({status or said} {said if status else ''}); run again")
        if status in (400, 422):
            return ConfigError(f"{where} refused it: {said}")
        if status in (200, 201):
            return DataError(f"{where} answered no JSON: give the address of its REST API ({said[:80]})")
        return ConfigError(f"{where} does not know {PATH}: give the address of its REST API ({status} {said})")


def _parsed(said: str) -> Document | None:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
