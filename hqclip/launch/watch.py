"""A job followed to its end: what it waits for, what its pods say, when it has taken too long; an `Outcome` out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hqclip.errors import ConfigError, HQClipError, UnavailableError
from hqclip.launch.attempts import progress_mark
from hqclip.launch.backend import Backend
from hqclip.launch.follow import Follower, job_pods
from hqclip.launch.job import Job
from hqclip.launch.kube import Cluster
from hqclip.launch.order import Order
from hqclip.launch.patches import Json
from hqclip.launch.state import ENDED, FAILED, PENDING, State
from hqclip.launch.why import hopeless, why_pending
from hqclip.launch.words import say
from hqclip.store import Store

POLL_S = 5.0
SAY_AGAIN_S = 300.0  # how often a waiting job says so
HOPELESS_S = 60.0  # how long a container that cannot start is given: registries have bad minutes


@dataclass(frozen=True)
class Outcome:
    """How a watch ended; `fault` is for a job that was given up, None for one that ended by itself."""

    state: State
    fault: HQClipError | None = None


class Watch:
    """Looks at a job on Kubernetes every few seconds. A cluster that does not answer for a while is waited for."""

    def __init__(
        self,
        cluster: Cluster,
        backend: Backend,
        order: Order,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._backend, self._order, self._store = cluster, backend, order, store
        self._clock = clock
        self._said, self._said_at = "", -SAY_AGAIN_S
        self._since: dict[str, float] = {}  # when a phase, a hopeless container or the present progress was first seen
        self._mark: str | None = None
        self._why = ""

    def to_the_end(self, job: Job) -> Outcome:
        """Follow the job until it has ended, is gone, or has used up its time."""
        follower = Follower(self._cluster, self._store, job.key, whose=self._order.spec.follow)
        try:
            while True:
                body = self._backend.get(self._cluster, job.name)
                if body is None:
                    gone = f"{job.name} was deleted by somebody else while it was watched"
                    return Outcome(State(FAILED, 0, gone))
                state = self._backend.read(self._cluster, body)
                pods = job_pods(self._cluster, self._backend, job.name)
                follower.look(pods)
                if state.phase in ENDED:
                    return Outcome(state)
                self._report(job, body, state, pods)
                fault = self._too_long(job, state, pods)
                if fault is not None:
                    return Outcome(state, fault)
                self._cluster.wait(POLL_S)
        finally:
            follower.finish()

    def _report(self, job: Job, body: Json, state: State, pods: list[tuple[int, Json]]) -> None:
        running = sum(pod.get("status", {}).get("phase") == "Running" for _, pod in pods)
        text = f"{job.name} is {state.phase}, {running} of {job.nodes} pods run"
        if state.restarts:
            text += f", started again {state.restarts} times"
        if state.phase == PENDING:
            self._why = why_pending(self._cluster, self._backend, body, pods) or state.reason
            text += f" ({self._why})" if self._why else ""
        now = self._clock()
        if text != self._said or (state.phase == PENDING and now - self._said_at >= SAY_AGAIN_S):
            self._said, self._said_at = text, now
            say(text)

    def _too_long(self, job: Job, state: State, pods: list[tuple[int, Json]]) -> HQClipError | None:
        """What ends the patience with a job."""
        spec = self._order.spec
        waiting = self._lasts("pending", state.phase == PENDING)
        running = self._lasts("running", state.phase != PENDING)
        stuck = hopeless(pods)
        if stuck and self._lasts("hopeless", bool(stuck)) >= HOPELESS_S:
            return ConfigError(f"{job.name} cannot start: {stuck}. Mend image, image_pull_secrets or secret_env")
        self._lasts("hopeless", bool(stuck))
        if spec.pending_timeout_s and waiting >= spec.pending_timeout_s:
            why = self._why or "the cluster gives no reason"
            return UnavailableError(f"{job.name} got no machines in {waiting:.0f} s (pending_timeout_s): {why}")
        if spec.running_timeout_s and running >= spec.running_timeout_s:
            return UnavailableError(f"{job.name} has run for {running:.0f} s, which is running_timeout_s")
        if spec.stall_timeout_s and job.progress and self._stalls(job, running) >= spec.stall_timeout_s:
            return UnavailableError(
                f"{job.name} has written nothing below {job.progress} for {spec.stall_timeout_s:g} s (stall_timeout_s)"
            )
        return None

    def _lasts(self, what: str, so: bool) -> float:
        """Seconds for which it has been so without a break."""
        if not so:
            self._since.pop(what, None)
            return 0.0
        return self._clock() - self._since.setdefault(what, self._clock())

    def _stalls(self, job: Job, running: float) -> float:
        mark = progress_mark(self._store, job.progress)
        if mark != self._mark or not running:
            self._mark = mark
            self._since.pop("stalled", None)
        return self._lasts("stalled", True)
