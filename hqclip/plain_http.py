"""The address of a server and the name of a secret in, a refusal out where the secret would cross a network in clear.

One rule for all servers. A secret may go over https; over http:// to this machine, from a pod to the services of
Kubeflow (its namespace is `kubeflow`), and to the hosts that HQCLIP_PLAIN_HTTP names. A redirect carries it nowhere.
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from hqclip.errors import ConfigError

ALLOWED = "HQCLIP_PLAIN_HTTP"  # environment variable: hosts, with commas; *.svc is all of that ending
POD = "KUBERNETES_SERVICE_HOST"  # environment of every pod
_OF_KUBEFLOW = re.compile(r"[a-z0-9-]+\.kubeflow(\.svc(\.cluster\.local)?)?")  # no domain of the world ends like this


def refuse_in_clear(secret: str, url: str, *, proxies: bool = True, allow: str = "") -> None:
    """Raises `ConfigError` where `secret`, which is its name, would go to `url` in clear; see `in_clear`."""
    if problem := in_clear(secret, url, proxies=proxies, allow=allow):
        raise ConfigError(problem)


def in_clear(secret: str, url: str, *, proxies: bool = True, allow: str = "") -> str:
    """What is wrong with it, a sentence; empty where it may go.

    `proxies`: whether whoever sends it asks the proxy of the environment, as most do. `allow` is a way to allow it
    beside the variable.
    """
    host, is_http = _host(url)
    if not is_http or any(fnmatchcase(host, pattern) for pattern in _allowed()):
        return ""
    is_near = is_this_machine(host) or (bool(os.environ.get(POD)) and bool(_OF_KUBEFLOW.fullmatch(host)))
    proxied = proxies and "http" in urllib.request.getproxies()
    proxied = proxied and not bool(urllib.request.proxy_bypass(host))
    if is_near and not proxied:
        return ""
    if is_near:
        return f"{secret} would go through the proxy of HTTP_PROXY in clear: name {host} in NO_PROXY"
    named = f"{ALLOWED}={f'[{host}]' if ':' in host else host}"
    return (
        f"{secret} would go to {host} in clear: give an https:// address, leave it out if the server wants none, or "
        f"allow it with {allow and allow + ' or '}{named} where you trust every machine on the way"
    )


def is_this_machine(host: str) -> bool:
    """Whether what is sent to this host does not leave the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A secret is for the address that was given and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """None is followed."""


def _host(url: str) -> tuple[str, bool]:
    """The host of an address, and whether it is one of http://."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").rstrip("."), parts.scheme == "http"
    except ValueError:  # such as half of an IPv6 address: whoever sends says what it makes of it
        return "", url.lower().startswith("http:")


def _allowed() -> list[str]:
    named = [each.strip() for each in os.environ.get(ALLOWED, "").split(",") if each.strip()]
    return [_host(each if "://" in each else f"//{each}")[0] for each in named]
