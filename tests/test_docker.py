"""Tasks in containers: what they see of this machine, what comes of them, and what is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from hqclip.errors import UnavailableError
from pipelines.compiling import compile_pipeline
from pipelines.docker import ContainerRunner, Containers, mounts


class FakeContainer:
    """A container that prints some pieces and ends with a code, if it is not killed before."""

    id = "c0ffee"

    def __init__(self, pieces: list[bytes], code: int) -> None:
        self.pieces, self.code, self.removed = pieces, code, False

    def logs(self, stream: bool, follow: bool) -> Iterator[bytes]:
        yield from self.pieces

    def wait(self) -> dict[str, int]:
        assert not self.removed, "an engine knows nothing of a container that is gone"
        return {"StatusCode": self.code}

    def kill(self) -> None:
        self.code = 137

    def remove(self, force: bool) -> None:
        self.removed = True


class FakeEngine:
    """Starts one prepared container after the other."""

    def __init__(self, *containers: FakeContainer) -> None:
        self._waiting = list(containers)
        self.containers = self
        self.started: list[dict[str, Any]] = []

    def run(self, image: str, command: list[str], **settings: Any) -> FakeContainer:
        self.started.append({"image": image, "command": command, **settings})
        return self._waiting.pop(0)


def test_a_container_that_fails_fails_its_task_and_is_removed():
    container = FakeContainer([], 3)
    assert Containers().run(FakeEngine(container), "hqclip/base", ["false"], {}, read_only=True) == 3
    assert container.removed


def test_an_image_is_run_as_it_was_asked_for():
    engine = FakeEngine(FakeContainer([], 0))
    assert Containers().run(engine, "hqclip/base", ["true"], {"/out": {}}, read_only=True) == 0
    (settings,) = engine.started
    assert (settings["image"], settings["command"], settings["volumes"]) == ("hqclip/base", ["true"], {"/out": {}})
    assert settings["read_only"] and not settings.get("auto_remove")


def test_what_is_printed_may_come_in_pieces_that_end_within_a_letter(capsys: pytest.CaptureFixture[str]):
    word = "Bär".encode()
    Containers().run(FakeEngine(FakeContainer([word[:2], word[2:] + b"\n"], 0)), "hqclip/base", [], {})
    assert capsys.readouterr().out == "Bär\n"


def test_an_image_that_is_not_there_fails_its_task_and_says_how_to_get_it(capsys: pytest.CaptureFixture[str]):
    class Empty(FakeEngine):
        def run(self, image: str, command: list[str], **settings: Any) -> FakeContainer:
            raise docker.errors.ImageNotFound("pull access denied")

    assert Containers().run(Empty(), "hqclip/base:0.1.0", [], {}) == 125
    said = capsys.readouterr().out
    assert said.startswith("hqclip docker: hqclip/base:0.1.0 does not start")
    assert "make images" in said


def test_an_interrupted_container_is_removed():
    class Interrupted(FakeContainer):
        def logs(self, stream: bool, follow: bool) -> Iterator[bytes]:
            raise KeyboardInterrupt

    container = Interrupted([], 0)
    with pytest.raises(KeyboardInterrupt):
        Containers().run(FakeEngine(container), "hqclip/base", [], {})
    assert container.removed


def test_a_signal_ends_what_runs_and_starts_no_more_but_the_exit_task():
    containers = Containers()

    class Signalled(FakeContainer):
        def logs(self, stream: bool, follow: bool) -> Iterator[bytes]:
            containers.stop()
            return iter(())

    engine = FakeEngine(Signalled([], 0), FakeContainer([], 0))
    assert containers.run(engine, "hqclip/train", [], {}) == 137
    assert containers.run(engine, "hqclip/base", ["--function_to_execute", "trials"], {}) == 137
    assert containers.run(engine, "hqclip/base", ["--function_to_execute", "finish"], {}) == 0
    assert [settings["image"] for settings in engine.started] == ["hqclip/train", "hqclip/base"]


def test_tasks_see_the_store_to_write_and_the_folders_of_other_inputs_to_read(tmp_path: Path):
    (tmp_path / "pool").mkdir()
    inputs = {
        "store": str(tmp_path / "store"),
        "download_shards": str(tmp_path / "pool" / "{00000..00007}.tar"),
        "annotate_model": "Qwen/Qwen2.5-VL-7B-Instruct",
        "evaluate_suite": "gs://bucket/suite.json",
        "plan_cycle": 3,
    }
    seen = {mount["Target"]: mount["ReadOnly"] for mount in mounts(inputs)}
    assert seen == {str(tmp_path / "store"): False, str(tmp_path / "pool"): True}
    assert all(mount["Source"] == mount["Target"] for mount in mounts(inputs))


def test_a_store_in_a_bucket_is_no_folder_of_this_machine():
    assert mounts({"store": "gs://bucket/store", "download_shards": "/nowhere/{00..07}.tar"}) == []


@pytest.fixture
def runner(tmp_path: Path) -> ContainerRunner:
    return ContainerRunner(compile_pipeline("refine", tmp_path / "refine.yaml"), tmp_path / "out" / "tasks")


def test_tasks_have_no_more_rights_than_in_a_cluster(runner: ContainerRunner, tmp_path: Path):
    (tmp_path / "out" / "tasks").mkdir(parents=True)
    rights = runner.tasks({"store": str(tmp_path / "out" / "store")}).container_run_args
    assert rights["read_only"] and list(rights["tmpfs"]) == ["/tmp"]
    assert rights["cap_drop"] == ["ALL"] and rights["security_opt"] == ["no-new-privileges"]
    assert rights["user"] == f"{os.getuid()}:{os.getgid()}"
    assert (tmp_path / "out" / "store").is_dir()


def test_without_an_engine_it_says_so(runner: ContainerRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(UnavailableError, match="--local"):
        runner.run({})
