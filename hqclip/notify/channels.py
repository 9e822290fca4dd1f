"""A message in, sent to every place at the same time within a number of seconds; what went wrong, by place, out."""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hqclip import __version__
from hqclip.foreign_text import harmless
from hqclip.notify.config import Receivers
from hqclip.notify.message import Message, as_mail, as_slack
from hqclip.plain_http import NoRedirect

LIMIT_S = 10.0  # for all places together, whatever they do


def send(message: Message, to: Receivers, names: Sequence[str], limit_s: float = LIMIT_S) -> dict[str, str]:
    """Why it was not taken, by name; empty where it was. Never raises for what a receiver does, never takes longer.

    A receiver that takes a message and says so too late counts as one that did not.
    """
    outcome: dict[str, str] = {}
    until = time.monotonic() + limit_s
    for name in names:
        threading.Thread(target=_one, args=(name, message, to, limit_s, outcome), daemon=True).start()
    while len(outcome) < len(names) and time.monotonic() < until:
        time.sleep(0.01)
    told = dict(outcome)
    return {name: told.get(name, f"no answer within {limit_s:.0f} s") for name in names}


def _one(name: str, message: Message, to: Receivers, limit_s: float, outcome: dict[str, str]) -> None:
    try:
        _SENDERS[name](message, to, limit_s)
        said = ""
    except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
        said = harmless(_fault(error), [*to.secrets])[:300] or type(error).__name__
    except Exception as error:  # a receiver's worst, in a thread of its own: the run must not know of it
        said = f"could not be sent: {type(error).__name__}"
    outcome[name] = said


def _slack(message: Message, to: Receivers, limit_s: float) -> None:
    _post(to.slack_url, as_slack(message), {}, limit_s)


def _webhook(message: Message, to: Receivers, limit_s: float) -> None:
    login = {"Authorization": f"Bearer {to.webhook_token}"} if to.webhook_token else {}
    _post(to.webhook_url, message.to_mapping(), login, limit_s)


def _mail(message: Message, to: Receivers, limit_s: float) -> None:
    mail = as_mail(message, to.smtp_from, to.smtp_to)
    with smtplib.SMTP(to.smtp_host, to.smtp_port, timeout=limit_s) as server:
        if to.smtp_security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if to.smtp_user:
            server.login(to.smtp_user, to.smtp_password)
        if refused := server.send_message(mail):
            raise smtplib.SMTPRecipientsRefused(refused)


_SENDERS: Mapping[str, Callable[[Message, Receivers, float], None]] = {
    "slack": _slack,
    "webhook": _webhook,
    "mail": _mail,
}


def _post(url: str, body: Mapping[str, Any], headers: Mapping[str, str], limit_s: float) -> None:
    known = {"Content-Type": "application/json", "User-Agent": f"hqclip/{__version__}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), {**known, **headers}, method="POST")  # noqa: S310
    with urllib.request.build_opener(NoRedirect()).open(request, timeout=limit_s) as answer:
        answer.read(1000)


def _fault(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        moved = ", a redirect, which is not followed: give the address it leads to" if 300 <= error.code < 400 else ""
        return f"the receiver answered {error.code}{moved}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"the mail server answered {error.smtp_code} {said}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"the mail server refused {', '.join(error.recipients)}"
    if isinstance(error, urllib.error.URLError):
        return f"not reached: {error.reason}"
    if isinstance(error, ssl.SSLError | TimeoutError | ConnectionError | smtplib.SMTPException):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__  # an address that is none: what it says shows parts of it
