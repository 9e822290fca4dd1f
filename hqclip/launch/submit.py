"""An order in, its job on the cluster out: created, or found there. A name is one job, however often it is asked."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hqclip import log
from hqclip.errors import AccessError, ConfigError, ConflictError, DataError, UnavailableError
from hqclip.launch.attempts import read_attempts, root_cause
from hqclip.launch.forgotten import wait_until_forgotten
from hqclip.launch.job import Job, newest, publish
from hqclip.launch.kube import AlreadyExists, Cluster, NotServed
from hqclip.launch.kubeflow import owner
from hqclip.launch.naming import DIGEST, KEY, LAUNCH_ID, OURS, clean
from hqclip.launch.patches import Json
from hqclip.launch.registry import KUBERNETES, load
from hqclip.launch.resolve import Order
from hqclip.launch.schedulers.protocol import ENDED, FAILED, Scheduler
from hqclip.store import Store

GONE_S = 300.0  # how long a deleted job may take to be gone


def submit(cluster: Cluster, order: Order, store: Store) -> Job:
    """The job of this order, with the number under which its workers know it.

    One that is there is followed if it has the digest of the order; a failed one is deleted and created anew, unless
    trying again would change nothing; one that ended with another digest is, too. Raises `ConflictError` if the name
    stands for another job that is alive, and `MissingSoftwareError` if the cluster has no such scheduler.
    """
    scheduler: Scheduler = load(order.spec.scheduler)
    name = order.job.name
    give_up = time.monotonic() + GONE_S
    deleted = None  # when, if that was seen
    while time.monotonic() < give_up:
        there = cluster.get(*scheduler.kind, name)
        if there is None:
            scheduler.check(cluster, order.spec)
            began = time.monotonic()
            wait_until_forgotten(cluster, scheduler, store, name, order.spec.grace_s, deleted)
            give_up += time.monotonic() - began  # somebody may have been quicker: then there is time to look
            _refuse_twice(cluster, scheduler, name)
            try:
                return _numbered(order.job, store, create(cluster, scheduler, _published(cluster, order, store)))
            except AlreadyExists:  # somebody was quicker, or this was done and the answer was lost
                continue
        if there["metadata"].get("deletionTimestamp"):
            deleted = deleted or time.time()
            cluster.wait(1.0)
            continue
        if _is_followed(order, store, there, scheduler.state(cluster, there).phase):
            return _numbered(order.job, store, there)
        cluster.delete(*scheduler.kind, name, uid=there["metadata"]["uid"])
        deleted = time.time()
    raise UnavailableError(f"{name} was deleted and is still not gone after {GONE_S:.0f} s; look at its finalizers")


def _refuse_twice(cluster: Cluster, scheduler: Scheduler, name: str) -> None:
    """Raises `ConflictError` if another scheduler runs the job: both would write to the same places of the store."""
    others: list[Scheduler] = [load(each) for each in KUBERNETES if each != scheduler.name]
    for other in others:
        with suppress(AccessError):  # who may not look at its jobs has none there
            there = cluster.get(*other.kind, name)
            if there is None or not there["metadata"].get("labels", {}).items() >= OURS.items():
                continue
            phase = other.state(cluster, there).phase
            if phase not in ENDED:
                raise ConflictError(
                    f"{name} is {phase} by the scheduler {other.name} already, not by {scheduler.name}: wait for it, "
                    f"follow it with --scheduler {other.name}, or `hqclip jobs cancel --job {name}`"
                )


def create(cluster: Cluster, scheduler: Scheduler, body: Json, *, dry_run: bool = False) -> Json:
    """The object as the server has it. Raises `AlreadyExists`.

    Raises `NotServed`, which says what to install, where nobody knows its kind, or an older one than is needed does.
    """
    try:
        return cluster.create(*scheduler.kind, body, dry_run=dry_run)
    except NotServed as error:
        raise NotServed(f"{error}: install {scheduler.install}") from error
    except ConfigError as error:
        for field, version in scheduler.newer.items():
            if "unknown field" in str(error) and field in str(error):
                raise NotServed(
                    f"{version} or newer is needed, and what is installed here is older: {error}"
                ) from error
        raise


def _published(cluster: Cluster, order: Order, store: Store) -> Json:
    """What is created: the object of the order with the number under which its job is published, and with its owner."""
    body: Json = _with_key(order.body, order.job.key, publish(store, order.job).key)
    workflow = owner(cluster)
    if workflow:
        body["metadata"]["ownerReferences"] = [workflow]
    return body


def _with_key(value: Any, old: str, new: str) -> Any:
    """A copy with another key of the job, which stands in its annotations and in the arguments of its pods."""
    if isinstance(value, dict):
        return {name: _with_key(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_key(item, old, new) for item in value]
    return new if value == old else value


def _is_followed(order: Order, store: Store, there: Json, phase: str) -> bool:
    """Whether the job that is there is the one; if not, it makes room. Raises `ConflictError` if it may not."""
    name, digest = order.job.name, str(there["metadata"].get("annotations", {}).get(DIGEST, ""))
    if phase == FAILED and _is_tried_again(order, store, there):
        log.info("launch", f"{name} has failed before and is started anew")
        return False
    if digest == order.job.digest:
        log.info("launch", f"{name} is there already ({phase}) and is followed")
        return True
    if phase in ENDED:
        log.info("launch", f"{name} has ended with other settings and is replaced")
        return False
    raise ConflictError(
        f"{name} is {phase} with other settings or machines (spec digest {digest}, not {order.job.digest}): wait "
        f"for it, or cancel it with `hqclip jobs cancel --job {name}`"
    )


def _is_tried_again(order: Order, store: Store, there: Json) -> bool:
    """Whether a failed job is: what failed for good is not in the same launch, and its fault is said again at once."""
    ours = there["metadata"].get("labels", {}).get(LAUNCH_ID, "") == clean(order.spec.launch_id)
    return order.spec.again or not ours or not _failed_for_good(store, there)


def _failed_for_good(store: Store, there: Json) -> bool:
    key = _key(there)
    try:
        cause = root_cause(read_attempts(store, key)) if key else None
    except DataError:
        return False  # nobody can read why any more
    return bool(cause and cause.exit_status and cause.exit_status.is_permanent)


def _numbered(job: Job, store: Store, body: Json) -> Job:
    return replace(job, launch=int(_key(body).rpartition("/")[2] or newest(store, job.name)))


def _key(body: Json) -> str:
    return str(body["metadata"].get("annotations", {}).get(KEY, ""))
