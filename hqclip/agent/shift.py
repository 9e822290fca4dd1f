"""The work of one agent, from the job in the store to the record of its end."""

from __future__ import annotations

import io
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

from hqclip.agent.environment import take_over
from hqclip.agent.gang import run_gang
from hqclip.agent.last_words import leave_last_words
from hqclip.agent.orphan import when_orphaned
from hqclip.agent.rank import AGENT_NAME, AGENT_PID, read_job
from hqclip.agent.replica import run_replica
from hqclip.agent.stop import Halt, Stop
from hqclip.agent.verdict import Verdicts, publish
from hqclip.errors import ConfigError, HQClipError
from hqclip.launch import attempts
from hqclip.launch.ending import STOPPED, TERMINATED, Ending
from hqclip.launch.job import GANG, Job
from hqclip.launch.lease import LeaseWatch
from hqclip.store import Store, open_store

PARENT = "HQCLIP_PARENT"  # process id of a launcher on this machine, which started this agent
VERDICT_S = 10.0  # that another agent of the gang may take to say why
LONGEST_PAUSE_S = 60.0


def run_agent(words: Sequence[str], stop: Stop, rank_module: str) -> int:
    """Do the work of this node of the job `words` (store and key) and say how it ended; the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what ranks say is seen when they say it
    start = time.monotonic()
    shift: list[Shift] = []

    def work() -> Ending:
        if len(words) != 2:
            raise ConfigError(f"hqclip-agent takes STORE_URI and KEY, not {' '.join(words) or 'nothing'}")
        store, job = open_store(words[0]), read_job(*words)

        def lost() -> None:
            if shift:
                shift[0].share_the_stop()
            stop.lose_launcher("the launcher has not renewed its lease")

        with LeaseWatch(store, words[1], stale_s=job.lease_stale_s, lost=lost):
            when_orphaned(os.environ.get(PARENT), lambda: stop.lose_launcher("the launcher has ended"))
            shift.append(Shift(store, job, words[1], stop, ["-u", "-m", rank_module, *words]))
            return shift[0].run()

    ending = _how_it_ends(work, stop)
    stop.armed = False
    _tell(ending, shift[0].begun if shift else None, time.monotonic() - start)
    if shift:
        shift[0].write_end(ending, time.monotonic() - start)
    return ending.exit_code


class Shift:
    """One agent of the job `key`, from the record of its beginning; its ranks run `python {command}`."""

    def __init__(self, store: Store, job: Job, key: str, stop: Stop, command: Sequence[str]) -> None:
        self._store, self._job, self._key, self._stop, self._command = store, job, key, stop, command
        self._verdicts = Verdicts(store, key)
        self.begun = attempts.begin(
            store,
            key,
            node=_node(job),
            attempt=os.environ.get("HQCLIP_ATTEMPT", ""),
            pod=os.environ.get("HQCLIP_POD", ""),
            progress=attempts.progress_mark(store, job.progress),
        )

    def run(self) -> Ending:
        """Start the ranks until they end for good; how this agent ends."""
        ending = _how_it_ends(self._start_ranks, self._stop)
        self._stop.armed = False  # what has ended cannot be stopped: it is told as it was
        by_others = ending.exit_code == TERMINATED and not self._stop.asked  # ranks stop together, on all nodes
        if (ending.failed or by_others) and self._job.shape == GANG:
            ending = self._agree(ending)
        return ending

    def share_the_stop(self) -> None:
        """Tell the other agents, whose ranks stop with ours, that the launcher is gone; nothing waits for the store."""
        if self._job.shape == GANG and self._job.nodes > 1:
            threading.Thread(target=self._publish, args=(STOPPED,), name="verdict", daemon=True).start()

    def write_end(self, ending: Ending, seconds: float) -> None:
        """The record of the end, and once more the last words, now with the progress; a store that fails is named."""
        try:
            progress = attempts.progress_mark(self._store, self._job.progress)
            record = attempts.end_record(self.begun, ending, progress, seconds)
            leave_last_words(record)
            attempts.end(self._store, self._key, self.begun, record)
        except HQClipError as error:
            _say(f"the end of this agent was not recorded: {error}")

    def _start_ranks(self) -> Ending:
        job, begun = self._job, self.begun
        attempts.refuse_crash_loop(self._store, self._key, begun.node, job.no_progress_attempts, begun.progress)
        if job.environment_script:
            take_over(job.environment_script)
        os.environ.update({AGENT_NAME: begun.name, AGENT_PID: str(os.getpid())})
        together = job.shape == GANG and job.nodes > 1
        restarts = 0 if together else job.restarts_in_place  # nodes that restart alone would not meet again
        for turn in itertools.count():
            ending = self._start_once(turn)
            if not ending.failed or ending.is_permanent or turn >= restarts or self._stop.asked:
                return ending
            pause_s = min(2.0**turn, LONGEST_PAUSE_S)
            _say(f"{ending.message}; it starts again in {pause_s:.0f} s")
            time.sleep(pause_s)
        raise AssertionError

    def _start_once(self, turn: int) -> Ending:
        job, node = self._job, self.begun.node
        if job.shape != GANG:
            return run_replica(node, self._command, job.shutdown_s)
        return run_gang(job, node, f"{job.name}-{self.begun.attempt}-{turn}", self._command, self._stop)

    def _agree(self, ending: Ending) -> Ending:
        """The end that all agents of the gang have: a permanent one if one of them has it, or that nobody waits."""
        if ending.is_permanent:
            self._publish(ending.exit_code)
            return ending
        try:
            patience_s = VERDICT_S if self._job.nodes > 1 else 0.0
            verdict = self._verdicts.wait(patience_s, until=lambda: self._stop.asked)
        except HQClipError as error:
            _say(f"whether another agent knows more cannot be told: {error}")
            return ending
        if verdict is None:
            return ending
        other, code = verdict
        message = f"ends as agent {other} does, which ended first; here: {ending.message}"
        return Ending(exit_code=code, message=message, traceback=ending.traceback, timestamp=time.time())

    def _publish(self, exit_code: int) -> None:
        try:
            publish(self._store, self._key, self.begun.name, exit_code)
        except HQClipError as error:
            _say(f"the other agents were not told of exit code {exit_code}: {error}")


def _how_it_ends(work: Callable[[], Ending], stop: Stop) -> Ending:
    """The end of some work, also where it is an exception: torch raises whatever its parts raise, and all is told."""
    try:
        return work()
    except Halt:
        return Ending.of(stop.error())
    except Exception as error:
        return Ending.of(error)


def _node(job: Job) -> int:
    node = os.environ.get("HQCLIP_NODE", "")
    if not node.isdecimal() or int(node) >= job.nodes:
        raise ConfigError(f"HQCLIP_NODE is {node!r}; give the number of this node, 0 to {job.nodes - 1}")
    return int(node)


def _tell(ending: Ending, begun: attempts.Attempt | None, seconds: float) -> None:
    """To who reads the log and to Kubernetes, before anything that may take long."""
    if ending.traceback and ending.rank is None:
        print(ending.traceback, file=sys.stderr, flush=True)
    where = f" of {begun.name}" if begun else ""
    because = f": {ending.message}" if ending.message else ""
    _say(f"the end{where} after {seconds:.0f} s, with exit code {ending.exit_code}{because}")
    leave_last_words(attempts.end_record(begun, ending, begun.progress if begun else "", seconds))


def _say(line: str) -> None:
    print(f"hqclip agent: {line}", file=sys.stderr, flush=True)
