"""A job as processes of this machine, by TorchX's own local scheduler: the laptop's way, and that of one pod."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchx.runner import Runner
from torchx.schedulers.local_scheduler import CWDImageProvider, LocalScheduler

from hqclip.errors import ConflictError, HQClipError
from hqclip.launch.app import ROLE, app_def
from hqclip.launch.attempts import read_attempts, root_cause
from hqclip.launch.job import GANG, KEPT_BYTES, Job, logs_folder
from hqclip.launch.limits import Exceeded, Limits
from hqclip.launch.schedulers.protocol import FAILED, SUCCEEDED, State
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store
from hqclip.store.leftovers import scratch_folder

SCHEDULER, SESSION = "local_cwd", "hqclip"
POLL_S = 0.2


class Processes(LocalScheduler):
    """TorchX's scheduler, which also lets its processes end in their own time: it kills after ten seconds."""

    def __init__(self, session_name: str) -> None:
        handled = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        super().__init__(session_name, CWDImageProvider)
        for number, handler in handled.items():
            signal.signal(number, handler)  # TorchX takes them over, to raise what its clients would try again
        self.started: list[subprocess.Popen[bytes]] = []

    def run_local_job(self, *args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        """Start one process, and remember it."""
        process = super().run_local_job(*args, **kwargs)
        self.started.append(process)
        return process

    def stop(self, seconds: float) -> None:
        """SIGTERM to every agent, which hands it on; SIGKILL to whoever takes longer."""
        alive = [process for process in self.started if process.poll() is None]
        for process in alive:
            process.terminate()
        end = time.monotonic() + seconds
        for process in alive:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


class LocalRun:
    """All attempts of one job on this machine: there is no controller here, so the launcher starts it again."""

    def __init__(self, spec: LaunchSpec, job: Job, store: Store, budget: Exceeded | None = None) -> None:
        self._spec, self._job, self._store, self._budget = spec, job, store, budget
        self._folders = contextlib.ExitStack()
        self._logs = self._folders.enter_context(scratch_folder())
        self._scheduler = Processes(SESSION)
        self._runner = Runner(SESSION, {SCHEDULER: lambda *_args, **_kwargs: self._scheduler})

    def to_the_end(self) -> State:
        """Run until it succeeds, fails for good, or has used up its retries. Raises what a limit says."""
        limits = Limits(self._spec, self._job, self._store, time.monotonic, self._budget)
        for attempt in range(self._spec.retries + 1):
            handle = self._start(attempt)
            while True:
                status = self._runner.status(handle)
                if status is None or status.is_terminal():
                    break
                fault = limits.exceeded()
                if fault is not None:
                    self.stop()
                    raise fault
                time.sleep(POLL_S)
            if status is not None and status.state.name == "SUCCEEDED":
                return State(SUCCEEDED, attempt)
            cause = root_cause(read_attempts(self._store, self._job.key))
            if cause and cause.exit_status and cause.exit_status.is_permanent:
                break
        return State(FAILED, attempt)

    def stop(self) -> None:
        """End what runs, with time for a checkpoint."""
        self._scheduler.stop(self._spec.grace_s)

    def close(self) -> None:
        """Keep the logs in the store."""
        for path in sorted(self._logs.rglob("combined.log")):
            attempt, node = path.relative_to(self._logs).parts[0], path.parent.name
            key = f"{logs_folder(self._job.key)}/{node}-{attempt}.txt"
            with contextlib.suppress(HQClipError):
                self._store.write(key, path.read_bytes()[-KEPT_BYTES:], create_only=False)
        self._folders.close()

    def _start(self, attempt: int) -> str:
        spec, job = self._spec, self._job
        options = {
            "log_dir": str(self._logs / str(attempt)),
            "auto_set_cuda_visible_devices": job.nodes > 1 and spec.gpus > 0,
        }
        app = app_def(spec, job, entrypoint=sys.executable, env=_environment(spec, job, attempt))
        handle = self._runner.schedule(self._runner.dryrun(app, SCHEDULER, options))
        nodes = {"rank0": 1, "all": job.nodes, "none": 0}[spec.follow]
        for node in range(nodes):
            named = nodes > 1 and job.shape != GANG  # ranks of a gang are named by torchrun
            threading.Thread(target=self._follow, args=(handle, node, named), daemon=True).start()
        return handle

    def _follow(self, handle: str, node: int, prefix: bool) -> None:
        for line in self._runner.log_lines(handle, ROLE, node, should_tail=True):
            sys.stderr.write(f"[{node}] {line}" if prefix else line)


def _environment(spec: LaunchSpec, job: Job, attempt: int) -> dict[str, str]:
    """What an agent is told; TorchX fills in `${...}`."""
    return {
        "HQCLIP_NODE": "${replica_id}",
        "HQCLIP_RENDEZVOUS": f"localhost:{_free_port()}" if job.nodes > 1 else "",
        "HQCLIP_ATTEMPT": str(attempt),
        "HQCLIP_PARENT": str(os.getpid()),  # a local agent ends when its launcher is gone
        **{name: value.replace("$", "$$") for name, value in (item.split("=", 1) for item in spec.env)},
    }


@contextlib.contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the name of a job on this machine. Raises `ConflictError` if another process does."""
    path = Path(tempfile.gettempdir()) / f"hqclip-{os.getuid()}-{name}.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"{name} is run by another launcher on this machine; wait for it or stop it") from None
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
