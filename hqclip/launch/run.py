"""A stage on the machines of a spec, from the beginning to its result: started or adopted, watched, explained."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from hqclip import log
from hqclip.errors import BudgetError, DataError, HQClipError, NotFoundError, StoppedError, TerminatedError
from hqclip.interruption import Interruption, interruptible
from hqclip.launch.attempts import last_stop, queued_s, read_attempts, root_cause
from hqclip.launch.exit_status import KILLED
from hqclip.launch.gpus import visible_gpus
from hqclip.launch.job import Job, folder, logs_folder, publish
from hqclip.launch.lease import LeaseKeeper
from hqclip.launch.limits import Exceeded
from hqclip.launch.registry import load
from hqclip.launch.resolve import make_order, warn_of_tags
from hqclip.launch.schedulers.protocol import FAILED, SUCCEEDED, Scheduler, State
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store, open_store
from hqclip.termination import put_back
from hqclip.typed_json import loads

LEASE_S = 10.0
BUDGET = "budget"  # the verdict on a job that was stopped by it


class LaunchError(HQClipError):
    """A job ended badly; the exit code is that of the rank that broke first."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


Tell = Callable[[Mapping[str, Any]], object]


def launch(
    spec: LaunchSpec,
    stage: str,
    settings: Mapping[str, Any],
    *,
    tell: Tell = dict,  # nobody listens
    budget: Exceeded | None = None,
) -> dict[str, Any]:
    """Run a stage to its end; its result, with `launch` added: name, nodes, GPUs of a node, attempts, restarts,
    seconds, node-hours, and the seconds that a node waited for its machine while this launcher watched.

    `tell` is told of the job once it is there (name, namespace, scheduler, key, GPUs of a node), and how it ended
    (verdict, attempts, restarts, why). `budget` is asked all the while: the fault that it gives ends the job, with
    time for a checkpoint, and is raised.
    The same call again finds the job that is there, whatever became of the first caller. SIGTERM ends the job, or
    leaves it if `on_termination` is detach. Raises `ConfigError` before anything runs, and `LaunchError` with the rank
    that broke first, its message and its traceback.
    """
    started, since = time.monotonic(), time.time()
    run = _on_kubernetes if spec.on_kubernetes else _locally
    job, state = run(spec, stage, settings, tell, budget)
    store = open_store(job.store)
    attempts = read_attempts(store, job.key)
    number = max((attempt.number for attempt in attempts), default=0)
    tell({"verdict": state.phase, "reason": state.reason, "attempts": number, "restarts": state.restarts})
    if state.phase != SUCCEEDED:
        raise _failure(store, job, state, spec.on_kubernetes)
    result = _result(store, job)
    return {
        **result,
        "launch": {
            "job": job.name,
            "key": job.key,
            "scheduler": spec.scheduler,
            "nodes": job.nodes,
            "gpus": _gpus_of_a_node(spec),
            "attempts": number,
            "restarts": state.restarts,
            "node_hours": sum(attempt.seconds for attempt in attempts) / 3600,
            "queued_seconds": queued_s(attempts, since),
            "seconds": time.monotonic() - started,
        },
    }


def _result(store: Store, job: Job) -> dict[str, Any]:
    """What the stage said. Raises `DataError` if that is lost."""
    key = f"{folder(job.key)}/result.json"
    try:
        return dict(loads(store.read(key)))
    except (NotFoundError, ValueError, TypeError) as error:
        raise DataError(
            f"{job.name} succeeded, but its result is lost ({error}): `hqclip jobs cancel --job {job.name}`, then "
            "launch again; what is done is not done again"
        ) from error


def _locally(
    spec: LaunchSpec, stage: str, settings: Mapping[str, Any], tell: Tell, budget: Exceeded | None
) -> tuple[Job, State]:
    from hqclip.launch.schedulers.local import LocalRun, only_one

    order = make_order(spec, stage, settings)
    store = open_store(order.job.store)
    with only_one(order.job.name):
        job = publish(store, order.job)
        about = {"name": job.name, "namespace": "", "scheduler": spec.scheduler, "key": job.key}
        tell({**about, "gpus": _gpus_of_a_node(spec)})
        run = LocalRun(spec, job, store, budget)

        def stop() -> str:
            run.stop()
            return f"stopped, and {job.name} with it"

        try:
            with _lease(store, job), interruptible(), _terminated(stop):
                return job, run.to_the_end()
        except BudgetError as fault:
            _tell_fault(tell, fault)
            raise
        except KeyboardInterrupt:
            log.info("launch", f"interrupted: {job.name} is stopped, with time for a checkpoint")
            run.stop()
            raise
        finally:
            run.close()


def _on_kubernetes(
    spec: LaunchSpec, stage: str, settings: Mapping[str, Any], tell: Tell, budget: Exceeded | None
) -> tuple[Job, State]:
    from hqclip.launch.kube import connect
    from hqclip.launch.kubeflow import run_id
    from hqclip.launch.submit import submit
    from hqclip.launch.watch import Watch

    cluster = connect(spec.namespace)
    scheduler: Scheduler = load(spec.scheduler)
    if not spec.launch_id:
        spec = replace(spec, launch_id=run_id(cluster))
    order = make_order(spec, stage, settings)
    warn_of_tags(order)
    name, store = order.job.name, open_store(order.job.store)
    goes_on = "goes on by itself" + (f", for {spec.lease_stale_s:.0f} s" if spec.lease_stale_s else "")

    def cancel() -> str:
        if spec.on_termination == "detach":
            return f"{name} {goes_on}"
        try:
            cluster.delete(*scheduler.kind, name, at_once=True)
        except HQClipError as error:
            return f"stopped, but {name} could not be deleted ({error}) and {goes_on}"
        return f"stopped, and {name} with it"

    with interruptible(), _terminated(cancel), _interrupted(f"{name} {goes_on}"):
        job = submit(cluster, order, store)
        about = {"name": name, "namespace": cluster.namespace, "scheduler": spec.scheduler, "key": job.key}
        tell({**about, "gpus": _gpus_of_a_node(spec)})
        with _lease(store, job):
            outcome = Watch(cluster, scheduler, spec, store, budget=budget).to_the_end(job)
    if outcome.fault is not None:
        _tell_fault(tell, outcome.fault)
        cluster.delete(*scheduler.kind, name)
        raise outcome.fault
    return job, outcome.state


def _gpus_of_a_node(spec: LaunchSpec) -> int:
    """Those that are asked for; on this machine those that its processes see, too."""
    return spec.gpus if spec.on_kubernetes else spec.gpus or min(visible_gpus(), spec.processes)


def _tell_fault(tell: Tell, fault: HQClipError) -> None:
    """Why a job was given up."""
    verdict = BUDGET if isinstance(fault, BudgetError) else FAILED
    tell({"verdict": verdict, "reason": str(fault).partition("\n")[0]})


@contextmanager
def _lease(store: Store, job: Job) -> Iterator[None]:
    """While somebody watches, the workers know it."""
    if not job.lease_stale_s:
        yield
        return
    with LeaseKeeper(store, job.key, interval_s=LEASE_S):
        yield


@contextmanager
def _interrupted(what_goes_on: str) -> Iterator[None]:
    """Ctrl-C ends the watching, not the job: say so, and how to end that, too. A second one finds nothing to end."""
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it would break into the client's own clean-up
        log.info("launch", f"{what_goes_on}; the same command follows it again, `hqclip jobs cancel` ends it")
        raise


@contextmanager
def _terminated(act: Callable[[], str]) -> Iterator[None]:
    """On SIGTERM act at once, before anything else: a pod of Kubeflow has less than a second. Says what was done.

    What it breaks in with needs an `interruptible` around this.
    """

    came = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        came.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            what = act()
        except Exception as error:  # raised here, it would be the fault of whatever is under way
            what = f"stopped, but not in order ({type(error).__name__}: {error})"
        raise Interruption(TerminatedError(f"{what}; the same command continues"))

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        put_back(before, came=came.is_set())


def _failure(store: Store, job: Job, state: State, on_cluster: bool) -> LaunchError:
    """What broke first, in the words of the rank itself; else what the controller says."""
    attempts = read_attempts(store, job.key)
    cause = root_cause(attempts)
    logs = f"what it said is in {store.uri}/{logs_folder(job.key)}"
    if cause is None or cause.exit_status is None:
        if state.killed:
            how = f"{state.killed}. OOMKilled wants more memory, or fewer decode_threads"
            return LaunchError(f"{job.name} was killed: {how} ({state.reason})\n{logs}", KILLED)
        stop = last_stop(attempts)
        if stop is not None:
            how = f"stopped, and did not fail (exit code {stop.exit_code}): {stop.message}"
            how += f" ({state.reason})" if state.reason else ""
            return LaunchError(f"{job.name} was {how}\n{logs}", StoppedError.exit_code)
        reason = state.reason or "no agent wrote down why: killed from outside, or never started"
        return LaunchError(f"{job.name} ended: {reason}\n{logs}", StoppedError.exit_code)
    exit_status = cause.exit_status
    rank = f"rank {exit_status.rank} on node {cause.node}" if exit_status.rank is not None else f"node {cause.node}"
    trace = f"\n{exit_status.traceback.strip()}" if exit_status.traceback else ""
    again = "\nthe same launch says this again without trying; once it is mended, --again true tries"
    logs += again if exit_status.is_permanent and on_cluster else ""
    return LaunchError(
        f"{job.name} failed: {rank} ended with exit code {exit_status.exit_code} in attempt {cause.number} "
        f"({state.restarts} restarts): {exit_status.message}{trace}\n{logs}",
        exit_status.exit_code,
    )
