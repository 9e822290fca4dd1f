"""Create a job, or find that it is there: a name is one job, however often and by whomever it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

from hqclip.errors import ConflictError, UnavailableError
from hqclip.launch.backend import Backend
from hqclip.launch.kube import AlreadyExists, Cluster
from hqclip.launch.log import say
from hqclip.launch.naming import DIGEST
from hqclip.launch.patches import Json
from hqclip.launch.state import ENDED, FAILED

GONE_S = 300.0  # how long a deleted job may take to be gone


def create_or_adopt(
    cluster: Cluster,
    backend: Backend,
    name: str,
    digest: str,
    *,
    make: Callable[[], Json],
    replace: Callable[[Json], bool],
) -> Json:
    """The job of this name as the cluster has it: there already with this digest, or created as `make` says.

    A failed one is deleted and created anew if `replace` says so of it; one that ended with another digest is, too.
    Raises `ConflictError` if the name stands for another job that is alive.
    """
    give_up = time.monotonic() + GONE_S
    while time.monotonic() < give_up:
        there = backend.get(cluster, name)
        if there is None:
            try:
                return cluster.create(backend.api, backend.plural, make())
            except AlreadyExists:  # somebody was quicker, or this was done and the answer was lost
                continue
        if there["metadata"].get("deletionTimestamp"):
            cluster.wait(1.0)
            continue
        phase, same = backend.read(cluster, there).phase, _digest(there) == digest
        if phase == FAILED and replace(there):
            say(f"{name} has failed before and is started anew")
        elif same:
            say(f"{name} is there already ({phase}) and is followed")
            return there
        elif phase in ENDED:
            say(f"{name} has ended with other settings and is replaced")
        else:
            raise ConflictError(
                f"{name} is {phase} with other settings or machines (spec digest {_digest(there)}, not {digest}): wait "
                f"for it, or cancel it with `hqclip jobs cancel --job {name}`"
            )
        cluster.delete(backend.api, backend.plural, name, uid=there["metadata"]["uid"])
    raise UnavailableError(f"{name} was deleted and is still not gone after {GONE_S:.0f} s; look at its finalizers")


def _digest(body: Json) -> str:
    return str(body["metadata"].get("annotations", {}).get(DIGEST, ""))
