"""A job followed to its end: what it waits for, what its pods say, when it has taken too long; an `Outcome` out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hqclip import log
from hqclip.errors import ConfigError, HQClipError, TimeLimitError, UnavailableError
from hqclip.launch.attempts import count_begun
from hqclip.launch.diagnose import hopeless, killed, why_pending
from hqclip.launch.follow import Follower
from hqclip.launch.job import GANG, Job
from hqclip.launch.kube import Cluster
from hqclip.launch.limits import Exceeded, Limits
from hqclip.launch.patches import Json
from hqclip.launch.pod_watch import PodWatch
from hqclip.launch.pods import PodRow, running
from hqclip.launch.schedulers.protocol import ENDED, FAILED, PENDING, RESTARTING, RUNNING, Scheduler, State
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store

POLL_S = 5.0
SAY_AGAIN_S = 300.0  # how often a waiting job says so
DEAF_S = 1800.0  # how long a cluster that does not answer is waited for, if there is no lease
LOST_S = 120.0  # how long a controller may go on with a job whose pods have all ended
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
        scheduler: Scheduler,
        spec: LaunchSpec,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
        budget: Exceeded | None = None,
    ) -> None:
        self._cluster, self._scheduler, self._spec, self._store = cluster, scheduler, spec, store
        self._clock, self._budget = clock, budget
        self._said, self._said_at = "", -SAY_AGAIN_S
        self._since: dict[str, float] = {}  # when a phase or a hopeless container was first seen
        self._has_run = False
        self._looked_at: set[PodRow] = set()  # of those in trouble
        self._killed = ""  # the last that is known
        self._phase, self._begun = "", 0  # the phase before, and how often node 0 has begun
        self._why = ""

    def to_the_end(self, job: Job) -> Outcome:
        """Follow the job until it has ended, is gone, or has used up its time or budget."""
        follower = Follower(self._cluster, self._store, job.key, whose=self._spec.follow)
        limits = Limits(self._spec, job, self._store, self._clock, self._budget)
        watched = PodWatch(self._cluster, self._scheduler, job.name)
        try:
            while True:
                try:
                    outcome = self._look(job, watched, follower, limits)
                    self._lasts("deaf", False)
                except UnavailableError as error:
                    self._be_patient(job, error)
                    outcome = None
                if outcome is not None:
                    follower.finish(5.0 if outcome.fault is None else 0.5)
                    return outcome
                self._cluster.wait(POLL_S)
        finally:
            follower.stop()
            watched.close()

    def _look(self, job: Job, watched: PodWatch, follower: Follower, limits: Limits) -> Outcome | None:
        """One look at the job; how it ended, if it has."""
        body = self._cluster.get(*self._scheduler.kind, job.name)
        if body is None:
            gone = f"{job.name} was deleted by somebody else while it was watched"
            return Outcome(State(FAILED, 0, gone))
        said = self._scheduler.state(self._cluster, body)
        pods = watched.look()
        state = self._put_right(job, said, pods)
        follower.look(pods)
        self._has_run = self._has_run or running(pods) > 0
        self._killed = killed(self._cluster, [pod for pod in pods if pod not in self._looked_at]) or self._killed
        self._looked_at.update(pods)
        if state.phase in ENDED:
            return Outcome(replace(state, killed=self._killed) if state.phase == FAILED else state)
        waits = state.phase in (PENDING, RESTARTING) and not running(pods)
        self._report(job, body, state, pods, waits)
        fault = self._is_lost(job, said, pods) or self._waits_too_long(job, pods, waits) or limits.exceeded(waits=waits)
        return Outcome(state, fault) if fault is not None else None

    def _put_right(self, job: Job, state: State, pods: list[PodRow]) -> State:
        """What the controller says, put right by what it does not count.

        It is behind its pods: those that run, or have just ended well, are pending no more. And what Kueue preempted
        it lets begin anew, with no restart; how often node 0 has begun is in the store.
        """
        if state.phase == PENDING and any(pod.runs or pod.is_done for pod in pods):
            state = replace(state, phase=RUNNING)
        if job.shape != GANG:
            return state  # replicas begin for themselves
        if state.phase == PENDING and self._begun:
            state = replace(state, phase=RESTARTING)
        if state.phase != self._phase:
            is_new = state.phase == RUNNING and self._phase == RESTARTING  # its agent takes a while to say so
            try:
                self._begun = max(count_begun(self._store, job.key, 0), self._begun + is_new)
            except HQClipError as error:
                log.debug("launch", f"how often node 0 has begun is not known now: {error}")
            self._phase = state.phase
        return replace(state, restarts=max(state.restarts, self._begun - 1))

    def _be_patient(self, job: Job, error: UnavailableError) -> None:
        """A cluster that is away, as in an upgrade, is waited for as long as the workers would wait for us."""
        patience_s = job.lease_stale_s or DEAF_S
        if self._lasts("deaf", True) >= patience_s:
            raise UnavailableError(
                f"{error}; {job.name} goes on by itself: the same command follows it, `hqclip jobs cancel` ends it"
            ) from error
        log.warning("launch", f"{error}; {job.name} goes on, and is looked for again")

    def _report(self, job: Job, body: Json, state: State, pods: list[PodRow], waits: bool) -> None:
        if not waits and pods and all(pod.is_done for pod in pods):
            return  # the controller will say so in a moment
        text = f"{job.name} is {state.phase}, {running(pods)} of {job.nodes} pods run"
        if state.restarts:
            text += f", started again {'once' if state.restarts == 1 else f'{state.restarts} times'}"
        if waits:
            self._why = why_pending(self._cluster, self._scheduler, body, pods) or state.reason
            text += f" ({self._why})" if self._why else ""
        now = self._clock()
        if text != self._said or (waits and now - self._said_at >= SAY_AGAIN_S):
            self._said, self._said_at = text, now
            log.info("launch", text)

    def _is_lost(self, job: Job, said: State, pods: list[PodRow]) -> HQClipError | None:
        """That the controller does not see that all pods of the job have ended, so nothing comes of it any more."""
        ended = bool(pods) and all(pod.has_ended for pod in pods)
        if self._lasts("lost", self._scheduler.keeps_names and ended) < LOST_S:
            return None
        return UnavailableError(
            f"{job.name} was lost by {self._scheduler.name}, which calls it {said.phase} {LOST_S:.0f} s after all its "
            "pods have ended; launch again, and what is done is not done again"
        )

    def _waits_too_long(self, job: Job, pods: list[PodRow], waits: bool) -> HQClipError | None:
        """What ends the patience with a job that waits. It counts anew after every preemption.

        A container that cannot start is hopeless before any has run; later its registry has a bad hour.
        """
        spec = self._spec
        waiting = self._lasts("pending", waits)
        stuck = "" if self._has_run else hopeless(self._cluster, pods)
        if self._lasts("hopeless", bool(stuck)) >= HOPELESS_S:
            return ConfigError(f"{job.name} cannot start: {stuck}. Mend image, image_pull_secrets or secret_env")
        if spec.pending_timeout_s and waiting >= spec.pending_timeout_s:
            why = self._why or "the cluster gives no reason"
            return TimeLimitError(f"{job.name} got no machines in {waiting:.0f} s (pending_timeout_s): {why}")
        return None

    def _lasts(self, what: str, so: bool) -> float:
        """Seconds for which it has been so without a break."""
        if not so:
            self._since.pop(what, None)
            return 0.0
        return self._clock() - self._since.setdefault(what, self._clock())
