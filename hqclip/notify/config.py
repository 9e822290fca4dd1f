"""The environment in, where messages go out: every variable has its name, its help and its refusal here.

A platform file fills them for all tasks, the exit task too: what is secret from a secret, the rest as it stands.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hqclip.errors import ConfigError
from hqclip.foreign_text import harmless
from hqclip.known_secrets import HIDDEN
from hqclip.plain_http import in_clear
from hqclip.settings import Settings, setting

PREFIX = "HQCLIP_NOTIFY_"
EVENTS = {
    "promoted": "a new model is in force",
    "kept": "the champion was kept",
    "waits": "a winner waits for approval",
    "succeeded": "a run ended well that judges no model",
    "nothing_to_do": "there was nothing to do",
    "locked": "a run was kept out by another",
    "failed": "a run failed",
    "budget": "a run was stopped by its budget",
    "cancelled": "a run was cancelled, terminated, or lost",
    "gc_failed": "hqclip gc failed",
    "never_started": "no run began when one was expected",
}
SECRETS = ("slack_url", "webhook_url", "webhook_token", "smtp_password")


@dataclass(frozen=True, kw_only=True)
class Receivers(Settings):
    """Where messages go; all are empty by default, and nobody is told. A field `x_y` is `HQCLIP_NOTIFY_X_Y`."""

    slack_url: str = setting("secret: incoming webhook of Slack, or of what takes the same, as Mattermost", "")
    webhook_url: str = setting("secret: address that gets each message as JSON, by POST", "")
    webhook_token: str = setting("secret: sent to webhook_url as `Authorization: Bearer`", "")
    smtp_host: str = setting("mail server; messages go to smtp_to", "")
    smtp_port: int = setting("port of the mail server", 587, minimum=1, maximum=65535)
    smtp_security: str = setting("none only for a relay that knows no TLS", "starttls", choices=("starttls", "none"))
    smtp_user: str = setting("login at the mail server; empty for none", "")
    smtp_password: str = setting("secret: password of smtp_user", "")
    smtp_from: str = setting("sender of mails", "")
    smtp_to: tuple[str, ...] = setting("receivers of mails", ())
    silent: tuple[str, ...] = setting(
        "events that nobody is told of, or none", ("nothing_to_do",), choices=(*EVENTS, "none")
    )

    def conflicts(self) -> list[str]:
        """What is given by half, and addresses that are none. No value of a secret is said."""
        problems = [
            f"{name} is no address of http:// or https://"
            for name in ("slack_url", "webhook_url")
            if (url := getattr(self, name)) and not _is_web(url)
        ]
        # the address of a chat's webhook is the key to it, whatever else it is given
        for secret, url in (("slack_url", self.slack_url), ("webhook_token", self.webhook_token and self.webhook_url)):
            problems += [problem] if (problem := in_clear(secret, url)) else []
        if self.webhook_token and not self.webhook_url:
            problems.append("webhook_token is given without webhook_url")
        if self.smtp_host and not (self.smtp_from and self.smtp_to):
            problems.append("smtp_host is given: give smtp_from and smtp_to as well")
        if self.smtp_to and not self.smtp_host:
            problems.append("smtp_to is given without smtp_host")
        if bool(self.smtp_user) != bool(self.smtp_password):
            problems.append("give smtp_user and smtp_password together, or neither")
        if self.smtp_user and self.smtp_security == "none":
            problems.append("smtp_security is none: smtp_password would be sent in the clear; leave the login out")
        return problems

    @property
    def names(self) -> list[str]:
        """Which kinds there are: slack, webhook, mail."""
        kinds = {"slack": self.slack_url, "webhook": self.webhook_url, "mail": self.smtp_host}
        return [name for name, place in kinds.items() if place]

    @property
    def secrets(self) -> list[str]:
        """What must not be shown."""
        return [value for name in SECRETS if (value := getattr(self, name))]


@dataclass(frozen=True, kw_only=True)
class NotifyTestConfig(Settings):
    """Send a test message to all receivers that the environment names, and say who took it."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig(Settings):
    """Tell of runs that ended without their exit task, and of nights without a run; the janitor's neighbour runs it."""

    store: str = setting("root of the store whose runs are watched")
    expect_every_hours: float = setting("a run is expected so often: 24 for a nightly; 0 expects none", 0.0, minimum=0)
    slack_hours: float = setting("so much later than expected is no news yet", 2.0, minimum=0)
    lost_hours: float = setting(
        "a run of which Kubernetes says nothing counts as lost so long after its last word", 24.0, above=0
    )


FIELDS = tuple(field.name for field in dataclasses.fields(Receivers))
SECRET_VARIABLES = tuple(f"{PREFIX}{name.upper()}" for name in SECRETS)
VARIABLES = {f"{PREFIX}{field.name.upper()}": str(field.metadata["help"]) for field in dataclasses.fields(Receivers)}


def read_environment(environment: Mapping[str, str] | None = None) -> Receivers:
    """Raises `ConfigError` that names variables, and never shows a secret; an unknown `HQCLIP_NOTIFY_` is refused."""
    said = os.environ if environment is None else environment
    given = {
        name.removeprefix(PREFIX).lower(): value.strip()
        for name, value in said.items()
        if name.startswith(PREFIX) and value.strip()
    }
    try:
        return Receivers.from_mapping(given)
    except ConfigError as error:
        text = str(error)
        for secret in sorted((given[name] for name in SECRETS if name in given), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        text = re.sub(rf"\b({'|'.join((*FIELDS, *map(re.escape, given)))})\b", _variable, text)
        raise ConfigError("\n".join(harmless(line) for line in text.splitlines())) from None


def _variable(match: re.Match[str]) -> str:
    return f"{PREFIX}{match[1].upper()}"


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
