"""The work of one agent, from the job in the store to the record of its end."""

from __future__ import annotations

import io
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from hqclip import log
from hqclip.agent.address import read_address, write_address
from hqclip.agent.environment import take_over
from hqclip.agent.exit_agreement import ExitAgreement, publish
from hqclip.agent.gang import run_gang
from hqclip.agent.rank import AGENT_NAME, AGENT_PID
from hqclip.agent.replica import run_replica
from hqclip.agent.stop import Halt, Stop
from hqclip.agent.termination_message import write_termination_message
from hqclip.backoff import pause_s
from hqclip.errors import ConfigError, HQClipError
from hqclip.launch import attempts
from hqclip.launch.exit_status import STOPPED, TERMINATED, ExitStatus
from hqclip.launch.job import GANG, Job, read_job
from hqclip.launch.lease import LeaseWatch
from hqclip.process_watch import when_parent_is_gone
from hqclip.store import Store, open_store

PARENT = "HQCLIP_PARENT"  # process id of a launcher on this machine, which started this agent
AGREEMENT_S = 10.0  # that another agent of the gang may take to publish its exit code


def run_agent(words: Sequence[str], stop: Stop, rank_module: str) -> int:
    """Do the work of this node of the job `words` (store and key) and say how it ended; the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what ranks say is seen when they say it
    start = time.monotonic()
    agents: list[Agent] = []  # this one, once it has begun

    def work() -> ExitStatus:
        if len(words) != 2:
            raise ConfigError(f"hqclip-agent takes STORE_URI and KEY, not {' '.join(words) or 'nothing'}")
        store = open_store(words[0])
        job = read_job(store, words[1])

        def lost() -> None:
            if agents:
                agents[0].publish_stop()
            stop.lose_launcher("the launcher has not renewed its lease")

        with LeaseWatch(store, words[1], stale_s=job.lease_stale_s, lost=lost):
            when_parent_is_gone(os.environ.get(PARENT), lambda: stop.lose_launcher("the launcher has ended"))
            with stop.deferred():  # what is recorded as begun has an end
                agents.append(Agent(store, job, words[1], stop, ["-u", "-m", rank_module, *words]))
            return agents[0].run()

    exit_status = _how_it_ends(work, stop)
    stop.armed = False
    _report(exit_status, agents[0].begun if agents else None, time.monotonic() - start)
    if agents:
        agents[0].write_end(exit_status, time.monotonic() - start)
    return exit_status.exit_code


class Agent:
    """One agent of the job `key`, from the record of its beginning; its ranks run `python {command}`."""

    def __init__(self, store: Store, job: Job, key: str, stop: Stop, command: Sequence[str]) -> None:
        self._store, self._job, self._key, self._stop, self._command = store, job, key, stop, command
        self._agreement = ExitAgreement(store, key)
        self.begun = attempts.begin(
            store,
            key,
            node=_node(job),
            attempt=os.environ.get("HQCLIP_ATTEMPT", ""),
            pod=os.environ.get("HQCLIP_POD", ""),
            progress=attempts.progress_mark(store, job.progress),
        )

    def run(self) -> ExitStatus:
        """Start the ranks until they end for good; how this agent ends."""
        exit_status = _how_it_ends(self._start_ranks, self._stop)
        self._stop.armed = False  # what has ended cannot be stopped: it is told as it was
        by_others = exit_status.exit_code == TERMINATED and not self._stop.asked  # ranks stop together, on all nodes
        if (exit_status.failed or by_others) and self._job.shape == GANG:
            exit_status = self._agree(exit_status)
        return exit_status

    def publish_stop(self) -> None:
        """Tell the other agents, whose ranks stop with ours, that the launcher is gone; nothing waits for the store."""
        if self._job.shape == GANG and self._job.nodes > 1:
            threading.Thread(target=self._publish, args=(STOPPED,), name="exit-agreement", daemon=True).start()

    def write_end(self, exit_status: ExitStatus, seconds: float) -> None:
        """Record the end, and write the termination message again with the progress; a store that fails is named."""
        try:
            progress = attempts.progress_mark(self._store, self._job.progress)
            record = attempts.end_record(self.begun, exit_status, progress, seconds)
            write_termination_message(record)
            attempts.end(self._store, self._key, self.begun, record)
        except HQClipError as error:
            log.warning("agent", f"the end of this agent was not recorded: {error}")

    def _start_ranks(self) -> ExitStatus:
        job, begun = self._job, self.begun
        attempts.refuse_crash_loop(self._store, self._key, begun.node, job.no_progress_attempts, begun.progress)
        if job.environment_script:
            take_over(job.environment_script)
        # what a scheduler counts begins anew when Kueue preempts: the ranks are told how often this node has begun
        attempt = str(begun.number - 1)
        os.environ.update({AGENT_NAME: begun.name, AGENT_PID: str(os.getpid()), "HQCLIP_ATTEMPT": attempt})
        together = job.shape == GANG and job.nodes > 1
        restarts = 0 if together else job.restarts_in_place  # the rendezvous is of all nodes
        for turn in itertools.count():
            exit_status = self._start_once(turn)
            if not exit_status.failed or exit_status.is_permanent or turn >= restarts or self._stop.asked:
                return exit_status
            wait_s = pause_s(turn)
            log.warning("agent", f"{exit_status.message}; it starts again in {wait_s:.0f} s")
            time.sleep(wait_s)
        raise AssertionError

    def _start_once(self, turn: int) -> ExitStatus:
        job, node = self._job, self.begun.node
        if job.shape != GANG:
            return run_replica(node, self._command, job.shutdown_s)
        run_id = f"{job.name}-{self.begun.attempt}-{turn}"
        if node == 0 and os.environ.get("HQCLIP_RENDEZVOUS", "").startswith(":"):
            write_address(self._store, self._key, os.environ.get("HQCLIP_POD_IP", ""))
        node_0 = partial(read_address, self._store, self._key)
        return run_gang(job, node, run_id, self._command, self._stop, node_0)

    def _agree(self, exit_status: ExitStatus) -> ExitStatus:
        """The end that all agents of the gang have: a permanent one if one of them has it, or that nobody waits."""
        if exit_status.is_permanent:
            self._publish(exit_status.exit_code)
            return exit_status
        try:
            patience_s = AGREEMENT_S if self._job.nodes > 1 else 0.0
            published = self._agreement.wait(patience_s, until=lambda: self._stop.asked)
        except HQClipError as error:
            log.warning("agent", f"whether another agent knows more cannot be told: {error}")
            return exit_status
        if published is None:
            return exit_status
        other, code = published
        message = f"ends as agent {other} does, which ended first; here: {exit_status.message}"
        return ExitStatus(exit_code=code, message=message, traceback=exit_status.traceback, timestamp=time.time())

    def _publish(self, exit_code: int) -> None:
        try:
            publish(self._store, self._key, self.begun.name, exit_code)
        except HQClipError as error:
            log.warning("agent", f"the other agents were not told of exit code {exit_code}: {error}")


def _how_it_ends(work: Callable[[], ExitStatus], stop: Stop) -> ExitStatus:
    """The end of some work, also where it is an exception: torch raises whatever its parts raise, and all is told."""
    try:
        return work()
    except Halt:
        return ExitStatus.of(stop.error())
    except Exception as error:
        return ExitStatus.of(error)


def _node(job: Job) -> int:
    node = os.environ.get("HQCLIP_NODE", "")
    if not node.isdecimal() or int(node) >= job.nodes:
        raise ConfigError(f"HQCLIP_NODE is {node!r}; give the number of this node, 0 to {job.nodes - 1}")
    return int(node)


def _report(exit_status: ExitStatus, begun: attempts.Attempt | None, seconds: float) -> None:
    """To who reads the log and to Kubernetes, before anything that may take long."""
    if exit_status.traceback and exit_status.rank is None:
        log.warning("agent", exit_status.traceback)
    where = f" of {begun.name}" if begun else ""
    because = f": {exit_status.message}" if exit_status.message else ""
    log.info("agent", f"the end{where} after {seconds:.0f} s, with exit code {exit_status.exit_code}{because}")
    write_termination_message(attempts.end_record(begun, exit_status, begun.progress if begun else "", seconds))
