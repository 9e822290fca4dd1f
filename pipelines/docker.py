"""A compiled pipeline, executed on this machine by Kubeflow's local runner: a container a task, in the task's image."""

from __future__ import annotations

import codecs
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container
from docker.types import Mount
from kfp import local
from kfp.local import docker_task_handler

from hqclip.errors import StoppedError, UnavailableError
from pipelines.local import Runner

SCRATCH = {"/tmp": "mode=1777,exec"}  # noqa: S108 - of the container, the only place it may write to but its folders
SHARED_MEMORY = "1g"  # what the workers of torch hand over passes through it; an engine's own default is 64 MB
NOT_STARTED, KILLED = 125, 137  # as `docker run` has it
EXIT_TASK = "finish"


class ContainerRunner(Runner):
    """Runs one compiled pipeline as its pods would be: the image's own code, a read-only root, no capabilities.

    Folders of this machine that the inputs name are there under the same paths: the store to write, others to read.
    """

    def run(self, inputs: dict[str, Any]) -> int:
        """0, or 1 if a task failed.

        Raises `UnavailableError` without an engine, `StoppedError` after a signal, and what `Runner.run` raises.
        """
        try:
            docker.from_env().close()
        except docker.errors.DockerException as error:
            raise UnavailableError(f"no Docker engine answers ({error}); start one, or run with --local") from error
        containers = Containers()
        with _started_by(containers.run), _signals_to(containers.stop):
            code = super().run(inputs)
        if containers.stopped:
            raise StoppedError("stopped by a signal, and so are the tasks; the same command continues")
        return code

    def tasks(self, inputs: dict[str, Any]) -> local.DockerRunner:
        """How the local runner starts a task: as the user of this process, or root as who owns the output folder."""
        owner = self._root.parent.stat() if os.getuid() == 0 else None
        user, group = (owner.st_uid, owner.st_gid) if owner else (os.getuid(), os.getgid())
        if inputs.get("store", "").startswith("/"):
            _make(Path(inputs["store"]), user, group)
        if owner:
            os.chown(self._root, user, group)
        return local.DockerRunner(
            user=f"{user}:{group}",
            network_mode="host",
            read_only=True,
            tmpfs=SCRATCH,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            shm_size=SHARED_MEMORY,
            mounts=mounts(inputs),
        )


def mounts(inputs: dict[str, Any]) -> list[Mount]:
    """The folders that inputs name by absolute paths, under the same paths."""
    store = inputs.get("store", "")
    found = {store: Mount(store, store, type="bind")} if store.startswith("/") else {}
    for name, value in inputs.items():
        if name != "store" and isinstance(value, str) and value.startswith("/"):
            folder = str(next(path for path in (Path(value), *Path(value).parents) if path.is_dir()))
            if folder not in found and folder != "/":
                found[folder] = Mount(folder, folder, type="bind", read_only=True)
    return list(found.values())


def _make(folder: Path, user: int, group: int) -> None:
    """Make a folder that tasks write to, as theirs, if it is not there."""
    if not folder.is_dir():
        _make(folder.parent, user, group)
        folder.mkdir()
        os.chown(folder, user, group)


class Containers:
    """The containers of a run. Each runs to its end and leaves nothing behind; `stop` ends them all.

    Stands for the local runner's own function, which lets an engine remove a container before it asks for the exit
    code and takes one that is gone for one that succeeded, and which leaves them running when it is interrupted.
    """

    def __init__(self) -> None:
        self._running: dict[str, Container] = {}
        self.stopped = False

    def run(
        self, client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **settings: Any
    ) -> int:
        """Print what the container prints; its exit code."""
        if self.stopped and command[-2:] != ["--function_to_execute", EXIT_TASK]:
            print("hqclip docker: not started")
            return KILLED
        try:
            container = client.containers.run(image, command, detach=True, volumes=volumes, **settings)
        except docker.errors.DockerException as error:  # the runner would take it for a fault of its own
            print(f"hqclip docker: {image} does not start: {error}; `make images` builds images")
            return NOT_STARTED
        self._running[container.id] = container
        try:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")  # pieces end anywhere
            for piece in container.logs(stream=True, follow=True):
                print(decoder.decode(piece), end="")
            code = int(container.wait()["StatusCode"])
            if self.stopped and code:
                print("hqclip docker: stopped")
            return code
        finally:
            del self._running[container.id]
            container.remove(force=True)

    def stop(self) -> None:
        """End those that run, and start no more but the exit task; the stages lose nothing by it."""
        self.stopped = True
        for container in list(self._running.values()):
            with suppress(docker.errors.DockerException, requests.RequestException):  # it has ended by itself
                container.kill()


@contextmanager
def _started_by(function: Callable[..., int]) -> Iterator[None]:
    """While entered, the local runner starts containers by this function."""
    own = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = function
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = own


@contextmanager
def _signals_to(stop: Callable[[], None]) -> Iterator[None]:
    """While entered, Ctrl-C and SIGTERM call this; the second time they do what they always did."""

    def handle(*_: object) -> None:
        for number, usual in before.items():
            signal.signal(number, usual)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
