"""MLflow's own client for one server: it sends no login in clear, and what it raises and is answered means something.

The login is the one that the client finds: MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD, ~/.mlflow/credentials, MLFLOW_TRACKING_AUTH, the address itself, ~/.netrc.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from hqclip.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    DataError,
    HQClipError,
    MissingSoftwareError,
    UnavailableError,
)
from hqclip.foreign_text import harmless
from hqclip.plain_http import refuse_in_clear

_NO_ANSWER_OF_MLFLOW = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # that its client trips over


class Mlflow:
    """The methods of `MlflowClient` by their names; `uri` is the address as it may be shown.

    Raises `MissingSoftwareError` without MLflow, and `ConfigError` for an address that its client does not take, such
    as a folder, or to which a login would go in clear. Methods raise `AccessError` and `ConfigError` for what the
    server refuses, `ConflictError` for what is there already, `UnavailableError` if it does not answer, and
    `DataError` for answers that are none of MLflow.
    """

    def __init__(self, uri: str) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise MissingSoftwareError(f"this needs MLflow ({error}): pip install 'hqclip[mlflow]'") from error
        self.uri, self._uri = harmless(uri), uri
        _refuse_in_clear(uri)
        self._client = self._ask(MlflowClient, tracking_uri=uri, registry_uri=uri)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, getattr(self._client, name))

    def told(self, value: Any, what: str) -> str:
        """A text of an answer that cannot be done without, such as an id. Raises `DataError` where it is not there."""
        if not isinstance(value, str) or not value:
            raise DataError(f"MLflow at {self.uri} answered without {what}: give the address of its tracking server")
        return value

    def check_files(self, artifact_uri: str) -> None:
        """Raises `ConfigError` where files of a run would take the login elsewhere in clear: the server says where."""
        place = urlsplit(artifact_uri)
        if place.netloc and place.scheme == "mlflow-artifacts":  # by the scheme of the server itself
            _refuse_in_clear(f"{urlsplit(self._uri).scheme}://{place.netloc}")
        elif place.scheme in ("http", "https"):
            _refuse_in_clear(artifact_uri)

    def _ask(self, method: Callable[..., Any], *given: Any, **more: Any) -> Any:
        from google.protobuf.json_format import ParseError
        from mlflow.exceptions import MlflowException

        try:
            return method(*given, **more)
        except MlflowException as error:
            raise self._refusal(error) from error
        except OSError as error:
            raise UnavailableError(
                f"MLflow at {self.uri} gave no answer: {harmless(str(error))}; the same command continues"
            ) from error
        except (ParseError, *_NO_ANSWER_OF_MLFLOW) as error:
            raise DataError(
                f"MLflow at {self.uri} gave an answer that is none of MLflow: give the address of its tracking server "
                f"({type(error).__name__}: {harmless(str(error))[:200]})"
            ) from error

    def _refusal(self, error: Any) -> HQClipError:
        """What a fault of MLflow's client means to people."""
        status, said = error.get_http_status_code(), harmless(str(error))[:500]
        if status in (401, 403):
            return AccessError(
                f"MLflow at {self.uri} lets nobody in like this: set MLFLOW_TRACKING_TOKEN, or "
                f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD ({said})"
            )
        if error.error_code == "RESOURCE_ALREADY_EXISTS":
            return ConflictError(f"MLflow at {self.uri} has it already: {said}")
        if 400 <= status < 500 and status not in (408, 429):
            return ConfigError(f"MLflow at {self.uri} refused it: {said}")
        return UnavailableError(f"MLflow at {self.uri} did not take it: {said}; the same command continues")


def _refuse_in_clear(url: str) -> None:
    if secret := _login(url):
        refuse_in_clear(secret, url)


def _login(url: str) -> str:
    """The name of what MLflow's client, and requests under it, would send to a server; empty for nothing."""
    from mlflow.utils.credentials import get_default_host_creds
    from requests.utils import get_netrc_auth

    if not url.startswith(("http://", "https://")):  # a folder or a database
        return ""
    found = get_default_host_creds(url)
    if found.username and found.password:
        return "MLFLOW_TRACKING_PASSWORD (or that of ~/.mlflow/credentials)"
    if found.token:
        return "MLFLOW_TRACKING_TOKEN"
    if found.auth:
        return "the login of MLFLOW_TRACKING_AUTH"
    if urlsplit(url).username:
        return "the login in the address"
    return "the login of ~/.netrc" if get_netrc_auth(url) else ""
