"""The name of a job that was deleted in, back only once its scheduler has forgotten that job.

Volcano (1.15) keeps jobs by their names. Of one that was deleted it looks whether its pods are gone after pauses that
double, and the look after they are gone deletes whatever has the name by then: a job that came too soon is never looked
after. Its pods run, but nobody starts them again or counts them. So a name is left alone once more as long as its pods
took to go. When the job was deleted and its pods were gone is told by the pods as long as they are there, else guessed
by the lease and by the ends of agents, rather too late than too soon.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime

from hqclip import log
from hqclip.errors import DataError
from hqclip.launch.attempts import read_attempts
from hqclip.launch.job import newest
from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.lease import last_look
from hqclip.launch.patches import Json
from hqclip.launch.pods import job_pods
from hqclip.launch.schedulers.protocol import Scheduler
from hqclip.store import Store

POLL_S = 2.0
MARGIN_S = 1.0
BLUR_S = 10.0  # between the last lease of a job and its deletion, and between the end of an agent and that of its pod
MOST_S = 180.0  # Volcano's longest pause


def wait_until_forgotten(
    cluster: Cluster, scheduler: Scheduler, store: Store, name: str, grace_s: float, deleted: float | None
) -> None:
    """Return when the name can be given again; at once where it was free for long, or the scheduler does not mind.

    `deleted` is when the job that had it was deleted, if that was seen, in seconds since 1970. Its pods had `grace_s`
    to end.
    """
    number = newest(store, name) if scheduler.keeps_names else 0
    if not number:
        return
    going = cluster.list(CORE, "pods", labelSelector=f"{scheduler.pod_label}={name}")
    if going:
        log.info("launch", f"{len(going)} pods of the last job that was called {name} are still going")
        deleted = _deleted(going) if deleted is None else deleted
        patience = time.monotonic() + MOST_S
        while job_pods(cluster, scheduler, name):
            if time.monotonic() > patience:
                return  # they may never go, as of a node that is lost
            cluster.wait(POLL_S)
    free = _guessed(store, f"{name}/{number}", grace_s) if deleted is None else 2 * time.time() - deleted + MARGIN_S
    rest = min(free - time.time(), MOST_S)
    if rest > 0:
        log.info("launch", f"{scheduler.name} is given {rest:.0f} s to forget the last job that was called {name}")
        cluster.wait(rest)


def _deleted(pods: Iterable[Json]) -> float:
    """When the first of these pods was told to end: its time to end was added to that. Now, if none was told."""
    told = (pod["metadata"] for pod in pods if pod["metadata"].get("deletionTimestamp"))
    times = (
        datetime.fromisoformat(each["deletionTimestamp"]).timestamp() - each.get("deletionGracePeriodSeconds", 0)
        for each in told
    )
    return min(times, default=time.time())


def _guessed(store: Store, key: str, grace_s: float) -> float:
    """When the name of a job is free that nobody saw go, by what it has left in the store; 0 if it has left nothing."""
    try:
        last = last_look(store, key)
    except DataError:
        last = None
    longest = grace_s + BLUR_S  # that pods took to go
    deleted = min(last.time, time.time()) if last else 0.0  # a clock may be ahead
    if time.time() > deleted + 2 * longest + BLUR_S:
        return 0.0
    gone = _last_end(store, key)
    gone = deleted + longest if gone is None else gone + BLUR_S
    return gone + max(0.0, gone - deleted) + BLUR_S


def _last_end(store: Store, key: str) -> float | None:
    """When the last agent of a job ended; None if one was killed, or nobody can tell."""
    try:
        attempts = {attempt.node: attempt for attempt in read_attempts(store, key)}  # the newest of each node
    except DataError:
        return None
    if any(attempt.exit_status is None for attempt in attempts.values()):
        return None
    return max((attempt.begun + attempt.seconds for attempt in attempts.values()), default=None)
