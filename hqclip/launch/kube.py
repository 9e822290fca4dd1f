"""The Kubernetes API as plain objects: a few verbs, retried where that is safe, refused in words a person can use."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration

from hqclip import log
from hqclip.backoff import pause_s
from hqclip.errors import AccessError, ConfigError, DataError, HQClipError, MissingSoftwareError, UnavailableError
from hqclip.foreign_text import harmless
from hqclip.launch.patches import Json
from hqclip.plain_http import in_clear

CORE = "v1"
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT = (10, 60)  # seconds: to connect, to answer
AT_ONCE = (0.3, 0.5)
PATIENCE_S = 120.0  # how long a call is tried again
TELL_AT = 4  # tries after which it is said, a few seconds
PAGE, ROWS = "500", "10000"  # objects of a list, and rows of a table, that come at a time
WATCH_S = 300  # after which the server ends a watch, and it is asked for again
SILENT_S = 90.0  # without a word a watch counts as broken: a bookmark comes every minute
PLAIN, TABLE = "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"
_TRANSIENT = (429, 500, 502, 503, 504)


class AlreadyExists(Exception):
    """There is an object of this name; what to do about it is the caller's decision."""


class _Missing(MissingSoftwareError):
    """No such object, or no such namespace."""

    exit_code = 64


class NotServed(_Missing):
    """No such kind of object."""


class Expired(Exception):
    """What was known of a list is too old to go on from: it is to be listed again."""


class Cluster:
    """One namespace of a cluster. Safe to use from several threads.

    Calls are tried again for `patience_s` seconds when the server is busy or cannot be reached; a POST too, because
    names are ours: one that was carried out unheard is found as `AlreadyExists`. All raise `AccessError` (with verb,
    resource and service account), `UnavailableError`, `ConfigError` for what the server refuses, and `DataError` for
    answers that are none of the Kubernetes API.
    """

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace = namespace
        self._api, self._patience_s, self._sleep = api, patience_s, sleep
        self._served: dict[str, str] = {}  # by API group

    def elsewhere(self, namespace: str) -> Cluster:
        """The same cluster, another namespace."""
        return Cluster(self._api, namespace, patience_s=self._patience_s, sleep=self._sleep)

    def wait(self, seconds: float) -> None:
        """Let some time pass before looking again."""
        self._sleep(seconds)

    def create(self, api: str, plural: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object. Raises `AlreadyExists`, and `NotServed` if there is no such kind.

        A field that the cluster does not know is refused, not dropped.
        """
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        path = self._path(api, plural)
        return _object(self._json("POST", path, query=query, body=body), path)

    def newest(self, group: str) -> str:
        """The version of an API group that the cluster prefers, with the group; empty if it serves none. Asked once."""
        if group not in self._served:
            try:
                told = self._json("GET", f"/apis/{group}")
            except _Missing:
                return ""
            self._served[group] = str(_mapping(told.get("preferredVersion"), group).get("groupVersion") or "")
        return self._served[group]

    def get(self, api: str, plural: str, name: str) -> Json | None:
        """An object, None if it is not there (or such objects are not served)."""
        path = self._path(api, plural, name)
        try:
            return _object(self._json("GET", path), path)
        except _Missing:
            return None

    def list(self, api: str, plural: str, **query: str) -> list[Json]:
        """Objects of the namespace, by `labelSelector` or `fieldSelector`, all pages; none if they are not served."""
        return [*self._items(self._path(api, plural), query)]

    def everywhere(self, api: str, plural: str) -> Sequence[Json]:
        """All objects of a kind that is of no namespace; none if they are not served."""
        return self._items(f"/apis/{api}/{plural}", {})

    def table(self, api: str, plural: str, **query: str) -> tuple[Sequence[Json], str]:
        """A list as `kubectl get` shows it, one row an object, and the version of it from which `watch` goes on.

        A row has `cells` by the name of their column. It is a twentieth of the objects. Raises what `list` does.
        """
        pages = self._pages(self._path(api, plural), {**query, "includeObject": "None", "limit": ROWS}, TABLE)
        names, metadata = _columns(pages[0]), _mapping(pages[0].get("metadata"), plural)
        version = str(metadata.get("resourceVersion", ""))
        return [row for page in pages for row in _rows(page, names)], version

    def watch(self, api: str, plural: str, version: str, **query: str) -> Iterator[tuple[str, Sequence[Json], str]]:
        """What happens to the rows of a `table` from `version` on: ADDED, MODIFIED, DELETED or BOOKMARK, rows, version.

        Ends when the server ends it, which it does every few minutes. Nothing is tried again here: who watches knows
        how far it came. Raises `Expired`, `UnavailableError` when the connection breaks, and `AccessError`.
        """
        path = self._path(api, plural)
        names: Sequence[str] = ()
        further = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S)}
        asked = {**query, **further, "resourceVersion": version, "includeObject": "None"}
        for line in self._lines(path, asked, SILENT_S, TABLE):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UnavailableError(f"the watch of {plural} broke off in the middle of a line") from error
            event = _mapping(event, f"a watch of {plural}")
            table, kind = _mapping(event.get("object"), f"a watch of {plural}"), str(event.get("type", ""))
            if kind == "ERROR":
                if table.get("code") == 410:
                    raise Expired(str(table.get("message", "")))
                raise UnavailableError(f"the watch of {plural} ended: {harmless(str(table.get('message')))}")
            names = _columns(table) or names
            metadata = _mapping(table.get("metadata"), f"a watch of {plural}")
            yield kind, _rows(table, names), str(metadata.get("resourceVersion", ""))

    def _items(self, path: str, query: Mapping[str, str]) -> Sequence[Json]:
        """The objects of a list, all pages; none if they are not served."""
        try:
            pages = self._pages(path, query)
            return [_object(item, path) for page in pages for item in _list(page.get("items"), path)]
        except _Missing:
            return []

    def _pages(self, path: str, query: Mapping[str, str], accept: str = PLAIN) -> Sequence[Json]:
        """All pages of a list; from the first again if they change under our hands."""
        token = ""
        got: Sequence[Json] = ()
        while True:
            further = {"continue": token} if token else {}
            try:
                page = self._json("GET", path, query={"limit": PAGE, **query, **further}, accept=accept)
            except Expired:
                token, got = "", ()
                continue
            got = [*got, page]
            before, token = token, str(_mapping(page.get("metadata"), path).get("continue") or "")
            if not token:
                return got
            if token == before:
                raise _no_answer(path, "a page that is followed by itself")

    def delete(self, api: str, plural: str, name: str, *, uid: str = "", at_once: bool = False) -> bool:
        """Delete an object and what it owns, in the background; False if it (or the one of `uid`) is not there.

        `at_once` is for a process that is about to be killed: one try, half a second.
        """
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", self._path(api, plural, name), body=body, once=at_once)
        except (_Missing, AlreadyExists):  # 409: it is another object by now
            return False
        return True

    def ask(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """Anything else, by its whole path, such as what belongs to no namespace; None if it is not there."""
        try:
            return self._json(method, path, body=body)
        except _Missing:
            return None

    def log_lines(self, pod: str, **query: str) -> Iterator[str]:
        """Whole lines of a container's output as they come; ends when the server says so.

        Nothing is tried again here: who follows knows what was seen. Raises `ConfigError` while the pod has not begun,
        and `UnavailableError` when the connection breaks; the piece of a line before that is left out.
        """
        path = self._path(CORE, "pods", pod) + "/log"
        for line in self._lines(path, query, None):
            yield line.decode(errors="replace")

    def _lines(
        self, path: str, query: Mapping[str, str], silent_s: float | None, accept: str = PLAIN
    ) -> Iterator[bytes]:
        """Whole lines as they come; the piece of one before a break is left out."""
        try:
            response = self._call("GET", path, query, None, (TIMEOUT[0], silent_s), accept)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._fault(error, "GET", path) from error
        rest = b""
        try:
            for piece in response.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"{path} broke off: {error}") from error
        finally:
            response.close()
        if rest:
            yield rest

    def _path(self, api: str, plural: str, name: str = "") -> str:
        root = f"/api/{api}" if api == CORE else f"/apis/{api}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        once: bool = False,
        accept: str = PLAIN,
    ) -> Json:
        give_up = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            try:
                response = self._call(method, path, query or {}, body, AT_ONCE if once else TIMEOUT, accept)
                data = response.data
                response.release_conn()
                return _read(data, f"{method} {path}")
            except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
                wait = _wait(error, method, attempt)
                if once or wait is None or time.monotonic() + wait > give_up:
                    raise self._fault(error, method, path) from error
                if attempt == TELL_AT:
                    patience = f"it is asked for {self._patience_s:.0f} s"
                    log.warning("launch", f"the Kubernetes API does not do it: {_said(error)}; {patience}")
                self._sleep(wait)
                attempt += 1

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Json | None, timeout: Any, accept: str = PLAIN
    ) -> Any:
        """The raw response. The client's own calls differ between its versions, and drop fields they do not know."""
        settings = self._api.configuration
        headers = {"Accept": accept, "Content-Type": "application/json"}
        headers |= {told["key"]: told["value"] for told in settings.auth_settings().values()}
        connecting, reading = timeout
        response = self._api.rest_client.pool_manager.request(
            method,
            settings.host + path + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=urllib3.Timeout(connect=connecting, read=reading),
            preload_content=False,
        )
        log.debug("launch", f"{method} {path}: {response.status}")
        if response.status >= 300:
            error = ApiException(status=response.status, reason=response.reason)
            error.body, error.headers = response.data.decode(errors="replace"), response.headers
            raise error
        if method == "POST":
            for warning in _warnings(response.headers):
                log.warning("launch", f"Kubernetes warns: {warning}")
        return response

    def _fault(self, error: Exception, method: str, path: str) -> Exception:
        if not isinstance(error, ApiException) or not error.status:
            return UnavailableError(f"the Kubernetes API cannot be reached ({method} {path}): {error}")
        said = harmless(_message(error))
        # quotas, Pod Security and webhooks say 403 too, but not who cannot do what
        if error.status == 401 or (error.status == 403 and " cannot " in said):
            return AccessError(
                f"Kubernetes refuses: {said}. Grant it to this service account (manifests/base has the roles), or give "
                "another --namespace"
            )
        if error.status == 404:
            return _missing(said, path, self.namespace)
        if error.status == 409 and (method != "POST" or _reason(error) == "AlreadyExists"):
            return AlreadyExists(said)
        if error.status == 410:
            return Expired(said)
        if error.status in (*_TRANSIENT, 409):
            return UnavailableError(f"the Kubernetes API gave no answer after retries ({method} {path}): {said}")
        return ConfigError(f"Kubernetes refuses {'the object' if method == 'POST' else 'this'}: {said}")


def _read(data: bytes, asked: str) -> Json:
    """An answer that is a JSON object, or empty."""
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        found = None
    return _mapping(found if found is not None else data[:80].decode(errors="replace"), asked)


def _object(found: Any, asked: str) -> Json:
    """An object of the API: it has a name. What is null in it, or in its metadata, counts as left out, as there."""
    known = {name: value for name, value in _mapping(found, asked).items() if value is not None}
    known["metadata"] = {
        name: value for name, value in _mapping(known.get("metadata"), asked).items() if value is not None
    }
    if not isinstance(known["metadata"].get("name"), str):
        raise _no_answer(asked, f"an object without a name: {json.dumps(found)[:80]}")
    for part in (known, known["metadata"]):
        for name in ("spec", "status", "labels", "annotations"):
            if name in part:
                _mapping(part[name], asked)
    return known


def _mapping(value: Any, asked: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _no_answer(asked, repr(value))
    return value


def _list(value: Any, asked: str) -> Sequence[Any]:
    if not isinstance(value, list | None):
        raise _no_answer(asked, repr(value))
    return value or []


def _no_answer(asked: str, said: str) -> DataError:
    return DataError(
        f"what answers is not the Kubernetes API ({asked}): {harmless(said)[:200]}; look at the server in KUBECONFIG"
    )


def _columns(table: Json) -> list[str]:
    """The names of its columns, which only the first of a watch tells."""
    asked = "a table"
    columns = _list(table.get("columnDefinitions"), asked)
    return [str(_mapping(column, asked).get("name", "")) for column in columns]


def _rows(table: Json, names: Sequence[str]) -> list[Json]:
    """Its rows, with cells by the names of their columns."""
    asked = "a table"
    rows = (_mapping(row, asked) for row in _list(table.get("rows"), asked))
    return [dict(zip(names, _list(row.get("cells"), asked), strict=False)) for row in rows]


def _warnings(headers: Any) -> list[str]:
    """The texts of RFC 7234 warnings, `299 - "unknown field"`: several come as several headers, or with commas."""
    told = ", ".join(headers.getlist("Warning")) if hasattr(headers, "getlist") else str(headers.get("Warning", ""))
    return [harmless(text.replace('\\"', '"')) for text in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', told)]


def _said(error: Exception) -> str:
    """What the server says, else what became of the connection."""
    if isinstance(error, ApiException) and error.status:
        return f"{error.status}, {harmless(_message(error))}"
    return _first_line(error)


def _missing(said: str, path: str, namespace: str) -> HQClipError:
    if "page not found" in said or "could not find the requested resource" in said:
        return NotServed(f"this cluster serves no {path.split('/')[2]}")
    if "namespaces" in said:
        return _Missing(f"there is no namespace {namespace!r}: create it, or give another --namespace")
    return _Missing(said)


def _wait(error: Exception, method: str, attempt: int) -> float | None:
    """Seconds until the next try, None if there is no point in one."""
    if isinstance(error, ApiException) and error.status:
        # a POST that is no duplicate collided with a change of something else, e.g. a quota
        is_moment = error.status == 409 and method == "POST" and _reason(error) not in ("AlreadyExists", "")
        if error.status not in _TRANSIENT and not is_moment:
            return None
        asked = (error.headers or {}).get("Retry-After", "")
        if str(asked).isdigit():
            return float(asked)
    return pause_s(attempt, first_s=0.25, longest_s=10.0)


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return (error.body or "").strip() or f"{error.status} {error.reason}"


def _reason(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["reason"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def connect(namespace: str = "", patience_s: float = PATIENCE_S) -> Cluster:
    """The cluster this process runs in, else that of the kubeconfig. Raises `MissingSoftwareError` without either."""
    settings = Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
        own = OWN_NAMESPACE.read_text().strip()
    except config.ConfigException:
        try:
            path = os.environ.get("KUBECONFIG") or None
            config.load_kube_config(path, client_configuration=settings)
            own = config.list_kube_config_contexts(path)[1]["context"].get("namespace", "default")
        except (config.ConfigException, OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise MissingSoftwareError(
                f"no Kubernetes cluster: this is no pod with a service account token, and KUBECONFIG "
                f"({os.environ.get('KUBECONFIG') or 'not set: ~/.kube/config'}) names none: {_first_line(error)}"
            ) from error
    _leave_out_in_clear(settings)
    settings.retries = False  # tries are counted here, and redirects are not followed
    return Cluster(ApiClient(settings), namespace or own, patience_s=patience_s)


def _leave_out_in_clear(settings: Configuration) -> None:
    """As kubectl does, whose client sends no login of a kubeconfig to a server of http:// (client-go, `clientcmd`)."""
    if settings.auth_settings() and (problem := in_clear("the login of the kubeconfig", settings.host, proxies=False)):
        log.warning("launch", f"{problem}. It is left out, as kubectl does")
        settings.api_key, settings.refresh_api_key_hook = {}, None
