"""A message in, told once to each receiver; a mark in the store says so, and what failed is sent by whoever comes next.

`notices/{id}.json` is a message with what became of it, `notices/{id}.done` says that nothing is left to do. Whoever
sends claims the message first, by compare-and-swap. One that is killed between a receiver's yes and its mark lets the
next send again: the message has the same id then.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from hqclip import log
from hqclip.errors import ConfigError, ConflictError, DataError, HQClipError, NotFoundError, UnavailableError
from hqclip.notify.channels import LIMIT_S, send
from hqclip.notify.config import Receivers, read_environment
from hqclip.notify.message import Message
from hqclip.store import ObjectInfo, Store
from hqclip.store.documents import parse_json

PREFIX = "notices/"
TRIES = 12  # two hours of a janitor that comes every ten minutes
CLAIM_S = 60.0  # more than any sending takes
NOBODY = "there is nobody to tell: set HQCLIP_NOTIFY_SLACK_URL, HQCLIP_NOTIFY_WEBHOOK_URL or HQCLIP_NOTIFY_SMTP_HOST"
OLD_S = 3 * 86400.0  # what nobody could be told for so long is no news


def tell(store: Store, message: Message) -> bool:
    """Tell of an event; whether there are receivers and all know of it now. A fault is a warning."""
    try:
        receivers = read_environment()
        if not receivers.names:
            return False
        if store.exists(_done(message.id)):
            return True
        if message.event in receivers.silent:
            close(store, message.id)
            return True
        said = {"made": time.time(), "message": message.cleaned(receivers.secrets).to_mapping()}
        try:
            store.write(_key(message.id), _content(said))
        except ConflictError:
            log.debug("notify", f"{message.id} was told by another")
        return _deliver(store, receivers, _key(message.id))
    except HQClipError as error:
        _warn(f"nobody was told of it: {error}")
        return False


def resend(store: Store, limit_s: float = 60.0) -> list[str]:
    """Send what is open; the ids of what still is. Raises what the store and `read_environment` raise."""
    receivers, until = read_environment(), time.monotonic() + limit_s
    still = []
    for key in open_notices(store) if receivers.names else ():
        if time.monotonic() > until or not _deliver(store, receivers, key):
            still.append(key.removeprefix(PREFIX).removesuffix(".json"))
    return still


def open_notices(store: Store) -> list[str]:
    """Keys of messages that are not known to all yet."""
    keys = set(store.list(PREFIX))
    return sorted(key for key in keys if key.endswith(".json") and f"{key[: -len('.json')]}.done" not in keys)


def known(store: Store) -> set[str]:
    """What `mark_of` gives for every event that was told, or is being told, or needs no telling."""
    return {key.removeprefix(PREFIX).rpartition(".")[0] for key in store.list(PREFIX)}


def mark_of(id: str) -> str:
    """An id as the store has it."""
    return re.sub(r"[^\w.-]", "-", id)


def close(store: Store, id: str) -> None:
    """Nothing is left to tell of it."""
    store.write(_done(id), b"")


def _deliver(store: Store, receivers: Receivers, key: str) -> bool:
    """Whether all receivers of this environment know it now, or will never."""
    claimed = _claim(store, receivers, key)
    if claimed is None:
        return store.exists(f"{key.removesuffix('.json')}.done")
    seen, said, message = claimed
    waiting = [name for name in receivers.names if name not in said["sent"]]
    faults = send(message, receivers, waiting, LIMIT_S)
    for name, fault in faults.items():
        if fault:
            _warn(f"{name} does not know of {message.id}: {fault}; tried {said['tries']} of {TRIES} times")
        else:
            said["sent"].append(name)
            log.info("notify", f"{name} was told: {message.title}")
    left = [name for name, fault in faults.items() if fault]
    try:
        store.swap(key, _content({**said, "claimed": 0.0, "faults": faults}), expected=seen)
        if not left:
            close(store, message.id)
    except HQClipError as error:
        _warn(f"{message.id} may be told again: that it was is not marked: {error}")
    return not left


def _claim(store: Store, receivers: Receivers, key: str) -> tuple[ObjectInfo, dict[str, Any], Message] | None:
    """The message, if it is ours to send now."""
    id, now = key.removeprefix(PREFIX).removesuffix(".json"), time.time()
    if store.exists(_done(id)) or (seen := store.stat(key)) is None:
        return None
    try:
        said = parse_json(store.read(key), f"{store.uri}/{key}", "it is left out")
        message = Message.from_mapping(said.get("message", {}), f"{store.uri}/{key}")
        sent, tries, made = list(said.get("sent", [])), int(said.get("tries", 0)), float(said["made"])
        claim_age = now - float(said.get("claimed", 0.0))
    except (DataError, NotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        _warn(f"{key} is damaged and is left out: {error}")
        close(store, id)
        return None
    if tries >= TRIES or now - made > OLD_S:
        _warn(f"{id} is given up after {tries} tries: not all of {', '.join(receivers.names)} know of it")
        close(store, id)
        return None
    if abs(claim_age) < CLAIM_S:
        return None
    claim = {**said, "sent": sent, "tries": tries + 1, "claimed": now}
    try:
        return store.swap(key, _content(claim), expected=seen), claim, message
    except ConflictError:
        return None  # somebody was quicker


def send_test() -> dict[str, Any]:
    """Send a test to all; who took it. Raises `ConfigError` if there is nobody, `UnavailableError` if one did not."""
    receivers = read_environment()
    if not receivers.names:
        raise ConfigError(NOBODY)
    title, why = "hqclip: a test", "Somebody asked whether this arrives."
    message = Message(id=f"test-{time.time_ns()}", event="test", title=title, why=why)
    faults = {name: fault for name, fault in send(message, receivers, receivers.names).items() if fault}
    if faults:
        raise UnavailableError("; ".join(f"{name}: {fault}" for name, fault in faults.items()))
    return {"told": receivers.names}


def _key(id: str) -> str:
    return f"{PREFIX}{mark_of(id)}.json"


def _done(id: str) -> str:
    return f"{PREFIX}{mark_of(id)}.done"


def _content(said: dict[str, Any]) -> bytes:
    return json.dumps(said, indent=1).encode()


def _warn(text: str) -> None:
    log.warning("notify", text)
