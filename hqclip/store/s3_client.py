"""The client of S3 for this process, how long it goes on, and what the answers mean to people.

In: the environment, read as all tools of S3 read it: AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3), AWS_REGION,
AWS_CA_BUNDLE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or any other source of credentials that botocore knows (web
identity, a profile, the machine's role), AWS_CONFIG_FILE. Out: answers, or an error that says what helps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import botocore
import botocore.session
from botocore import exceptions as faults
from botocore.config import Config

from hqclip.backoff import FIRST_S, LONGEST_S, pause_s
from hqclip.errors import AccessError, ConfigError, HQClipError, NotFoundError, StorageError, UnavailableError
from hqclip.plain_http import refuse_in_clear
from hqclip.store.buckets import short

T = TypeVar("T")
CONNECT_S, ANSWER_S = 60, 120
CONNECTIONS = 64  # kept open in a process: one for each thread
REGION = "us-east-1"  # what servers that know no regions are signed for
BUSY = {408, 429, 500, 502, 503, 504, 509}
# Conflict: AWS asks for another try where two conditional writes met.
BUSY_CODES = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict"}
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidIdentityToken"}
UNKNOWN_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}


@dataclass(frozen=True)
class Patience:
    """How long to go on when the service is busy or the line is down, in seconds."""

    total_s: float = 600.0
    first_s: float = FIRST_S
    longest_s: float = LONGEST_S

    def run(self, request: Callable[[], T]) -> T:
        """What `request` gives, asked again while what it raises will pass; it must be safe to repeat."""
        start, tried = time.monotonic(), 0
        while True:
            try:
                return request()
            except (faults.BotoCoreError, faults.ClientError) as error:
                pause = pause_s(tried, first_s=self.first_s, longest_s=self.longest_s)
                if not _passes(error) or time.monotonic() - start + pause > self.total_s:
                    raise
            time.sleep(pause)
            tried += 1


def client() -> Any:
    """One for all stores of a process; a forked process must not use its parent's connections.

    Raises `ConfigError` for settings that botocore cannot follow.
    """
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _client(os.getpid(), settings)


@lru_cache(maxsize=1)
def _client(_process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    given = dict(settings)
    for name in ("AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        if given.get(name) and not Path(given[name]).is_file():
            raise ConfigError(f"{name} is {given[name]!r}, and there is no such file")
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=ANSWER_S,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},  # `Patience` tries again, and says how long
        # What is sent carries Content-MD5, which all servers check; the trailing checksums many do not know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = botocore.session.Session()
        region = given.get("AWS_REGION") or session.get_config_variable("region") or REGION
        client = session.create_client("s3", region_name=region, config=config)
        if getattr(session.get_credentials(), "method", "") == "assume-role-with-web-identity":
            unsigned = Config(signature_version=botocore.UNSIGNED)
            sts = session.create_client("sts", region_name=region, config=unsigned)
            # S3 itself gets signatures; STS gets the token, and answers with keys
            refuse_in_clear("the web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)", sts.meta.endpoint_url)
        return client
    except (faults.BotoCoreError, ValueError) as error:
        raise ConfigError(f"{short(error)}; look at the variables AWS_... of the environment") from error


def code_of(error: Exception) -> str:
    """What the service calls it, such as `NoSuchKey`; the status where it says no more; "" if it gave no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, faults.ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of an answer; 0 if there was none."""
    if not isinstance(error, faults.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _passes(error: Exception) -> bool:
    if isinstance(error, faults.ClientError):
        return status_of(error) in BUSY or code_of(error) in BUSY_CODES
    if isinstance(error, faults.SSLError):
        return not _is_certificate(error)
    return isinstance(error, (faults.ConnectionError, faults.HTTPClientError, faults.IncompleteReadError))


def _is_certificate(error: Exception) -> bool:
    return "CERTIFICATE" in str(error).upper()


@contextmanager
def faults_of(uri: str, permission: str) -> Iterator[None]:
    """Say what the service refused and what helps. A failed precondition (412) is left to those who set it."""
    try:
        yield
    except faults.ClientError as error:
        if status_of(error) == 412:
            raise
        raise _refusal(uri, permission, error) from error
    except faults.BotoCoreError as error:
        raise _silence(uri, error) from error


def _refusal(uri: str, permission: str, error: faults.ClientError) -> HQClipError:
    """For what the service answered."""
    code, status, said = code_of(error), status_of(error), short(error)
    if code == "NoSuchBucket":
        return NotFoundError(f"{uri}: there is no such bucket; make it, or look at AWS_ENDPOINT_URL ({said})")
    if status == 404 or code == "404":
        return NotFoundError(f"{uri}: no such object or bucket, or it was replaced while it was read")
    if code in EXPIRED:
        return AccessError(f"{uri}: the credentials have expired or are not valid; get new ones ({said})")
    if code in SKEWED:
        return AccessError(f"{uri}: the clock of this machine is not that of the service; set it by NTP ({said})")
    if code in UNKNOWN_KEYS:
        return AccessError(f"{uri}: the service does not take these keys; look at {KEYS} ({said})")
    if code in ELSEWHERE or status == 301:
        return ConfigError(f"{uri}: the bucket is in another region; set AWS_REGION to it ({said})")
    if status in (401, 403):
        return AccessError(
            f"{uri}: permission {permission} is missing. (Without s3:ListBucket, what does not exist looks the same.) "
            f"{said}"
        )
    if _passes(error):
        return UnavailableError(f"{uri}: the service was busy ({said}); run again")
    return StorageError(f"{uri}: {said}")


def _silence(uri: str, error: faults.BotoCoreError) -> HQClipError:
    """For what never was answered."""
    if isinstance(error, faults.SSLError) and _is_certificate(error):
        return ConfigError(
            f"{uri}: the certificate of the service is not trusted; name a file with that of its CA in AWS_CA_BUNDLE "
            f"({short(error)})"
        )
    if _passes(error):
        return UnavailableError(f"{uri}: the service gave no answer ({short(error)}); run again")
    if isinstance(error, _CREDENTIALS):
        return AccessError(f"{uri}: no valid credentials; set {KEYS}, or give the pod a web identity ({short(error)})")
    return StorageError(f"{uri}: {short(error)}")


_CREDENTIALS = (
    faults.NoCredentialsError,
    faults.PartialCredentialsError,
    faults.CredentialRetrievalError,
    faults.TokenRetrievalError,
    faults.MetadataRetrievalError,
    faults.InvalidConfigError,
    faults.NoAuthTokenError,
    faults.SSOError,
    faults.LoginError,
    faults.UnauthorizedSSOTokenError,
)
