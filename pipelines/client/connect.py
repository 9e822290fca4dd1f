"""Where Kubeflow is and how to log in, from flags and the environment; a kfp.Client that is patient out.

The later gives way: flags, `HQCLIP_KFP_*`, the section `kfp` of the project file, the service account token of the
pod this runs in, nothing.
"""

from __future__ import annotations

import argparse
import atexit
import os
import re
import shlex
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.auth.exceptions
import kfp
import kfp_server_api
from kfp.client import auth
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp.client.token_credentials_base import TokenCredentialsBase

from hqclip.errors import AccessError, ConfigError, MissingSoftwareError, NotFoundError, UnavailableError
from hqclip.foreign_text import hide
from hqclip.plain_http import refuse_in_clear
from pipelines.client.patience import NO_LOGIN, PATIENCE_S, PatientRest, understood

INSIDE = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
HOME = "kubeflow"  # the namespace of a Kubeflow that is for one user alone: its runs have their pods there
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
FIRST_S = 10.0  # patience with a host that has never answered: it may be the wrong one
IAP_TOKEN_S = 45 * 60  # an identity token is good for an hour
PAGE = 100


@dataclass
class Login:
    """How one logs in; `method` is said when it does not work."""

    method: str = NO_LOGIN
    token: str = ""
    cookie: str = ""
    credentials: TokenCredentialsBase | None = None


@dataclass
class Kubeflow:
    """A connection: kfp's client, the namespace (empty where there is only one user), and links to look at."""

    client: kfp.Client
    namespace: str
    ui: str  # where people look; empty where that is not known: the API has no pages
    multi_user: bool = False
    kubernetes_namespace: str = ""  # where the pods of runs are
    flags: tuple[str, ...] = ()  # by which it was reached: commands that are printed need them, too

    def command(self, *words: str) -> str:
        """A command as it can be pasted: `command("logs", run_id, "--task", "train")`."""
        return shlex.join(["python", "-m", "pipelines", *words, *self.flags])

    def link(self, kind: str, *ids: str) -> str:
        """The page of one thing in the UI, e.g. link("runs", run_id); empty where the UI is not known."""
        return f"{self.ui}/#/{kind}/details/{'/version/'.join(ids)}" if self.ui else ""

    def read(self, path: str, *, patience_s: float | None = None) -> bytes:
        """What the API answers under a path that kfp's client knows nothing of, such as those of v1beta1.

        Tried again for `patience_s` seconds (as long as any request). Raises `AccessError`, `NotFoundError`,
        `UnavailableError`.
        """
        api = self.client._run_api.api_client
        headers = {**api.default_headers, "Accept": "*/*", **({"Cookie": api.cookie} if api.cookie else {})}
        api.update_params_for_auth(headers, [], ["Bearer"])
        rest, before = api.rest_client, api.rest_client.patience_s
        rest.patience_s = before if patience_s is None else patience_s
        try:
            return bytes(rest.request("GET", f"{api.configuration.host}{path}", headers=headers).data)
        finally:
            rest.patience_s = before


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say where Kubeflow is and how to log in; each has an `HQCLIP_KFP_*` variable."""
    group = parser.add_argument_group("where Kubeflow is")
    group.add_argument("--host", help="URL of Kubeflow, e.g. https://kubeflow.example/pipeline (HQCLIP_KFP_HOST)")
    group.add_argument("--ui", help="URL of Kubeflow's pages, if the host has none: links lead there (HQCLIP_KFP_UI)")
    group.add_argument("--namespace", help="of a profile, where there are several users (HQCLIP_KFP_NAMESPACE)")
    group.add_argument("--token-file", type=Path, help="file with a bearer token (HQCLIP_KFP_TOKEN or ..._TOKEN_FILE)")
    group.add_argument(
        "--cookie-file",
        type=Path,
        help="file with a browser's cookie (HQCLIP_KFP_COOKIE or ..._COOKIE_FILE)",
    )
    group.add_argument("--iap-client-id", help="OAuth client of Google's IAP (HQCLIP_KFP_IAP_CLIENT_ID)")
    group.add_argument("--ca-file", type=Path, help="certificate authority of the host (HQCLIP_KFP_CA_FILE)")
    group.add_argument(
        "--port-forward",
        metavar="NAMESPACE",
        nargs="?",
        const=HOME,
        help="reach it through kubectl port-forward, in this namespace (kubeflow) (HQCLIP_KFP_PORT_FORWARD)",
    )
    group.add_argument(
        "--patience-s",
        type=float,
        default=PATIENCE_S,
        help=f"seconds a request is tried again for ({PATIENCE_S:g})",
    )


def connect(given: argparse.Namespace) -> Kubeflow:
    """A connection that has been tried out. Raises `ConfigError`, `AccessError` and `UnavailableError`."""
    login = _login(given)
    said, forwarded = _way_there(given)
    host = _forward(forwarded) if forwarded else _host(said)
    if login.method != NO_LOGIN and host != INSIDE:
        refuse_in_clear(login.method, host, proxies=False)  # kfp's client asks no proxy of the environment
    settings = kfp_server_api.Configuration(host=host)
    if ca_file := _said(given, "ca_file"):
        settings.ssl_ca_cert = str(_existing(Path(ca_file), "--ca-file"))
    _log_in(settings, login)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions before 2.0
        client = _Client(settings, login.cookie)
    api = client._run_api.api_client  # the one that all of kfp's services share
    api.deserialize = understood(api.deserialize, host)
    api.rest_client = rest = PatientRest(settings, login.method, min(given.patience_s, FIRST_S))
    health = client._healthz_api.healthz_service_get_healthz()
    rest.patience_s = given.patience_s
    namespace = _namespace(given) if health.multi_user else ""
    client._context_setting["namespace"] = namespace
    pods = namespace or pods_namespace(given) or HOME
    return Kubeflow(client, namespace, _ui(given, host), bool(health.multi_user), pods, _flags(given))


def _flags(given: argparse.Namespace) -> tuple[str, ...]:
    """Those that were given; what the environment says, it says to the next command, too."""
    names = ("host", "ui", "namespace", "token_file", "cookie_file", "iap_client_id", "ca_file", "port_forward")
    said = {name: getattr(given, name, None) for name in names}
    return tuple(word for name, value in said.items() if value for word in (f"--{name.replace('_', '-')}", str(value)))


def _ui(given: argparse.Namespace, host: str) -> str:
    """Where people look. Behind a dashboard pages and API are in one place; elsewhere the API has none."""
    said = _said(given, "ui").partition("/#")[0].rstrip("/")
    return said or (host.rstrip("/") if host.rstrip("/").endswith("/pipeline") else "")


def pods_namespace(given: argparse.Namespace) -> str:
    """Where flags and variables say that the pods of runs are; empty if they do not. Raises `ConfigError`."""
    return _said(given, "namespace") or _way_there(given)[1]


def is_forwarded(given: argparse.Namespace) -> bool:
    """Whether the way there is a tunnel of kubectl. Raises `ConfigError`."""
    return bool(_way_there(given)[1])


def pages(ask: Callable[..., Any], name: str, page_size: int = PAGE, **asked: Any) -> Iterator[Any]:
    """All rows of a list, page by page: pages(client.list_runs, "runs", sort_by="created_at desc")."""
    token = ""
    while True:
        answer = ask(page_token=token, page_size=page_size, **asked)
        yield from getattr(answer, name) or []
        token = answer.next_page_token
        if not token:
            return


class _Client(kfp.Client):
    """kfp's client with our settings: it looks neither at kfp's own files nor at kubeconfigs, and asks nothing yet."""

    def __init__(self, settings: kfp_server_api.Configuration, cookie: str) -> None:
        self._settings = settings
        super().__init__(host=settings.host, namespace="not known yet", cookies=cookie)

    def _load_config(self, *_: Any) -> kfp_server_api.Configuration:
        return self._settings

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": ""}


class _IapCredentials(TokenCredentialsBase):
    """An identity token for IAP, a new one before the old one expires."""

    def __init__(self, client_id: str) -> None:
        self._client_id, self._token, self._since = client_id, "", 0.0

    def refresh_api_key_hook(self, config: Any) -> None:
        """Put the token into the settings of a request. Raises `AccessError`."""
        if not self._token or time.monotonic() - self._since > IAP_TOKEN_S:
            own = [os.environ.get(f"KF_PIPELINES_APP_OAUTH2_CLIENT_{part}") for part in ("ID", "SECRET")]
            try:
                token, _ = auth.get_auth_token(self._client_id, *own)
            except (google.auth.exceptions.GoogleAuthError, OSError, KeyError) as error:
                raise AccessError(
                    f"no identity token for IAP client {self._client_id}: {error}. Run as a service account of Google "
                    "Cloud (GOOGLE_APPLICATION_CREDENTIALS), or give a token (--token-file)"
                ) from error
            self._token, self._since = str(token or ""), time.monotonic()
        config.api_key["authorization"] = self._token


def _said(given: argparse.Namespace, name: str) -> str:
    """A flag, else its variable, else what the project file says, else nothing."""
    flag = getattr(given, name, None)
    return str(flag) if flag else os.environ.get(f"HQCLIP_KFP_{name.upper()}", "") or _filed(given).get(name, "")


def _filed(given: argparse.Namespace) -> Mapping[str, str]:
    """What the project file says of where Kubeflow is; `python -m pipelines` has read it."""
    found: Mapping[str, str] = getattr(given, "project", {})
    return found


def _way_there(given: argparse.Namespace) -> tuple[str, str]:
    """The host, or the namespace of a port-forward: of flags, else variables, else the file; ConfigError for both."""
    flags = {f"--{name.replace('_', '-')}": str(getattr(given, name, None) or "") for name in ("host", "port_forward")}
    variables = {name: os.environ.get(name, "") for name in ("HQCLIP_KFP_HOST", "HQCLIP_KFP_PORT_FORWARD")}
    filed = {f"kfp.{name}": _filed(given).get(name, "") for name in ("host", "port_forward")}
    for ways in (flags, variables, filed):
        host, forwarded = ways.values()
        if host and forwarded:
            raise ConfigError(f"{' and '.join(ways)} are two ways to Kubeflow; give one")
        if host or forwarded:
            return host, forwarded
    return os.environ.get("KF_PIPELINES_ENDPOINT", ""), ""


def _host(host: str) -> str:
    if not host and _POD_NAMESPACE.is_file():
        return INSIDE
    if not host:
        raise ConfigError(
            "where is Kubeflow? Give --host URL (or set HQCLIP_KFP_HOST), or --port-forward to reach it through kubectl"
        )
    if not re.match(r"https?://[^/\s]+", host):
        raise ConfigError(f"--host is {host!r}; give a URL, e.g. https://{host.lstrip('/') or 'kubeflow.example'}")
    return host.split("#")[0].rstrip("/")


def _namespace(given: argparse.Namespace) -> str:
    """The namespace of whoever asks, where there are several users."""
    said = _said(given, "namespace")
    if not said and _POD_NAMESPACE.is_file():
        return _POD_NAMESPACE.read_text().strip()
    if not said:
        raise ConfigError("this Kubeflow has several users: give --namespace, that of your profile")
    return said


def _login(given: argparse.Namespace) -> Login:
    """The one way that flags, else variables, else the file name, else the pod's. Raises `ConfigError` for two."""
    flags = {
        f"--{name.replace('_', '-')}": value
        for name in ("token_file", "cookie_file", "iap_client_id")
        if (value := getattr(given, name, None))
    }
    variables = {
        name: value
        for word in ("TOKEN", "TOKEN_FILE", "COOKIE", "COOKIE_FILE", "IAP_CLIENT_ID")
        if (value := os.environ.get(name := f"HQCLIP_KFP_{word}"))
    }
    names = ("token_file", "cookie_file", "iap_client_id")
    filed = {f"kfp.{name}": value for name in names if (value := _filed(given).get(name))}
    for ways in (flags, variables, filed):
        if len(ways) > 1:
            raise ConfigError(f"{' and '.join(ways)} are two ways to log in; give one")
        for name, value in ways.items():
            return _way(name, value)
    token = os.environ.get(kfp.client.KF_PIPELINES_SA_TOKEN_ENV) or kfp.client.KF_PIPELINES_SA_TOKEN_PATH
    if Path(token).is_file():
        way = f"the service account token of this pod ({token})"
        return Login(way, credentials=ServiceAccountTokenVolumeCredentials(token))
    return Login()


def _way(name: str, value: str | Path) -> Login:
    word = name.lower().replace("-", "_")
    if word.endswith("token_file"):
        path = _existing(Path(value), name)
        return Login(f"the token of {name} ({path})", credentials=ServiceAccountTokenVolumeCredentials(str(path)))
    if word.endswith("cookie_file"):
        path = _existing(Path(value), name)
        cookie = path.read_text(encoding="utf-8").strip()
        hide(cookie)
        return Login(f"the cookie of {name} ({path})", cookie=cookie)
    if word.endswith("iap_client_id"):
        return Login(f"IAP with the client of {name}", credentials=_IapCredentials(str(value)))
    if word.endswith("cookie"):
        return Login(f"the cookie of {name}", cookie=_one_line(str(value), name))
    return Login(f"the token of {name}", token=_one_line(str(value), name))


def _one_line(secret: str, name: str) -> str:
    """A secret as a header bears it. Raises `ConfigError`, which does not show it."""
    if "\n" in secret.strip() or "\r" in secret.strip():
        raise ConfigError(f"{name} has more than one line; give just the token or cookie")
    return secret.strip()


def _existing(path: Path, name: str) -> Path:
    try:
        if not path.read_bytes().strip():
            raise ConfigError(f"{name} {path}: the file is empty; a login puts a token or cookie there")
    except FileNotFoundError:
        raise NotFoundError(f"{name} {path}: there is no such file") from None
    except OSError as error:
        raise AccessError(f"{name} {path}: cannot be read: {error.strerror}") from error
    return path


def _log_in(settings: kfp_server_api.Configuration, login: Login) -> None:
    if login.token or login.credentials:
        settings.api_key["authorization"] = login.token or "asked for with each request"
        settings.api_key_prefix["authorization"] = "Bearer"
    if login.credentials:
        settings.refresh_api_key_hook = login.credentials.refresh_api_key_hook


def _forward(namespace: str) -> str:
    """The URL of a port that kubectl forwards while this process lives. Raises `UnavailableError`."""
    command = ["kubectl", "--namespace", namespace, "port-forward", "svc/ml-pipeline", ":8888"]
    try:
        forwarding = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    except FileNotFoundError:
        raise MissingSoftwareError("--port-forward wants kubectl, and there is none on the PATH") from None
    atexit.register(_stop, forwarding)
    for line in forwarding.stdout or ():
        if match := _FORWARDED.search(line):
            return f"http://127.0.0.1:{match[1]}"
    said = " ".join((forwarding.stderr.read() if forwarding.stderr else "").split())
    raise UnavailableError(f"`{' '.join(command)}` ended: {said or 'it said nothing'}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(5)
