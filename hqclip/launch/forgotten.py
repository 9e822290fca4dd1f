"""The name of a job that was deleted in, back only once its scheduler has forgotten that job.

Volcano (1.15) keeps jobs by their names. Of one that was deleted it looks whether its pods are gone after pauses that
double, and the look after they are gone deletes whatever has the name by then: a job that came too soon is never looked
after. Its pods run, but nobody starts them again or counts them. So a name is left alone once more as long as its pods
took to go.
"""

from __future__ import annotations

import json
import time

from hqclip import log
from hqclip.errors import NotFoundError
from hqclip.launch.attempts import read_attempts
from hqclip.launch.job import folder, newest
from hqclip.launch.kube import Cluster
from hqclip.launch.pods import job_pods
from hqclip.launch.schedulers.protocol import Scheduler
from hqclip.store import Store

MARGIN_S = 1.0
MOST_S = 180.0  # Volcano's longest pause


def wait_until_forgotten(
    cluster: Cluster, scheduler: Scheduler, store: Store, name: str, deleted: float | None
) -> None:
    """Return when the name can be given again; at once where it was free for long, or the scheduler does not mind.

    `deleted` is when the job that had it was deleted, if that was seen, in seconds since 1970; else its lease and its
    agents tell.
    """
    number = newest(store, name) if scheduler.keeps_names else 0
    if not number:
        return
    deleted = _lease_time(store, f"{name}/{number}") if deleted is None else deleted
    if deleted is None:
        return
    looked = time.monotonic()
    gone = None
    while job_pods(cluster, scheduler, name) and time.monotonic() < looked + MOST_S:
        gone = time.time()
        cluster.wait(1.0)
    gone = max(_last_end(store, f"{name}/{number}", deleted), deleted) if gone is None else time.time()
    rest = min(gone + (gone - deleted) + MARGIN_S - time.time(), MOST_S)
    if rest > 0:
        log.info("launch", f"{name} was deleted just now, and {scheduler.name} is given {rest:.0f} s to forget it")
        cluster.wait(rest)


def _lease_time(store: Store, key: str) -> float | None:
    """When a launcher last said that it watched the job, if one did."""
    try:
        return float(json.loads(store.read(f"{folder(key)}/lease.json"))["time"])
    except (NotFoundError, ValueError, TypeError, KeyError):
        return None


def _last_end(store: Store, key: str, default: float) -> float:
    """When the last agent of a job ended."""
    ends = (each.begun + each.seconds for each in read_attempts(store, key) if each.exit_status is not None)
    return max(ends, default=default)
