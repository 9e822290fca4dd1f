"""What killed processes leave in the making is removed by the next one, and what others are making is not."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hqclip.store import leftovers, local
from hqclip.store.leftovers import HIDDEN, MAKING, scratch_folder
from hqclip.store.local import LocalStore, new_file

ROOT = Path(__file__).parents[1]
WRITER = """
import sys
from pathlib import Path
from hqclip.store.local import new_file
with new_file(Path(sys.argv[1]) / "final") as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""
WORKER = """
import sys
from pathlib import Path
from hqclip.store.leftovers import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "shard.tar").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def at_work(program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of its work; it finishes with the block, unless it was killed."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that has looked nowhere yet."""
    monkeypatch.setattr(leftovers, "_looked", set())


@pytest.mark.parametrize("way", ["write", "list"])
def test_the_file_of_a_killed_writer_goes_and_that_of_another_stays(tmp_path: Path, anew: None, way: str):
    folder = tmp_path / "shards"
    with at_work(WRITER, folder) as killed:
        (left,) = names_in(folder)
        killed.kill()
    with at_work(WRITER, folder) as other:
        (working,) = set(names_in(folder)) - {left}
        store = LocalStore(tmp_path)
        keys = []
        if way == "write":
            store.write("shards/a", b"1")
            keys = ["a"]
        else:
            assert list(store.list("sh")) == []
        assert names_in(folder) == [working, *keys]
        assert other.poll() is None
    assert "final" in names_in(folder) and working not in names_in(folder)


def test_the_folder_of_a_killed_process_goes_and_that_of_another_stays(tmp_path: Path, anew: None):
    (tmp_path / "not-ours").mkdir()
    with at_work(WORKER, tmp_path) as killed:
        killed.kill()
    (left,) = set(names_in(tmp_path)) - {"not-ours"}
    with at_work(WORKER, tmp_path):
        working = set(names_in(tmp_path)) - {left, "not-ours"}  # it has removed what was left
        assert len(working) == 1 and left not in names_in(tmp_path)
        with scratch_folder(tmp_path) as mine:
            assert {mine.name, *working, "not-ours"} == set(names_in(tmp_path))
    assert names_in(tmp_path) == ["not-ours"]


def test_a_folder_in_the_making_is_no_object_of_the_store_it_lies_in_and_goes_when_left(tmp_path: Path, anew: None):
    store = LocalStore(tmp_path)
    store.write("lvlms/lesson.json", b"{}")
    with at_work(WORKER, tmp_path / "lvlms") as killed:
        assert list(store.list()) == ["lvlms/lesson.json"]
        assert len(names_in(tmp_path / "lvlms")) == 2, "it is at work"
        killed.kill()
    assert list(store.list()) == ["lvlms/lesson.json"]
    assert names_in(tmp_path / "lvlms") == ["lesson.json"]


def test_temporary_folders_of_the_version_before_go_and_names_like_theirs_in_a_store_are_its_own(
    tmp_path: Path, anew: None
):
    temporary, root = tmp_path / "temporary", tmp_path / "store"
    (temporary / "hqclip-scratch-eusuo74x" / "deep").mkdir(parents=True)
    with scratch_folder(temporary) as folder:
        assert names_in(temporary) == [folder.name]
    for key in ("mine/hqclip-scratch-notes/a.txt", "mine/b.txt"):
        LocalStore(root).write(key, b"mine")
    assert list(LocalStore(root).list()) == ["mine/b.txt", "mine/hqclip-scratch-notes/a.txt"]


def test_what_others_link_to_is_not_removed(tmp_path: Path, anew: None):
    """As somebody may who shares the place of temporary files."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(b"1")
    (tmp_path / f"{HIDDEN}folder{MAKING}").symlink_to(tmp_path / "precious")
    (tmp_path / f"{HIDDEN}file{MAKING}").symlink_to(tmp_path / "precious/file")
    with scratch_folder(tmp_path):
        assert names_in(tmp_path / "precious") == ["file"]


def test_every_temporary_folder_is_made_where_the_next_process_finds_it():
    made = re.compile(r"TemporaryDirectory|TemporaryFile|mkdtemp|mkstemp|mktemp")
    sources = [path for part in ("hqclip", "components", "pipelines") for path in (ROOT / part).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in sources if made.search(path.read_text())] == [
        "hqclip/store/leftovers.py"
    ]


def test_threads_of_one_process_do_not_remove_what_each_other_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = LocalStore(tmp_path)

    def work(thread: int) -> None:
        for number in range(20):
            monkeypatch.setattr(leftovers, "_looked", set())
            store.write(f"{thread}-{number}", b"x")
            list(store.list())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.list())) == 160
    assert not list(tmp_path.glob("*.tmp"))


def test_a_file_that_was_taken_for_left_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taken: list[Path] = []

    def late(path: Path, descriptor: int) -> bool:
        if not taken:
            taken.append(path)
            leftovers.remove_if_left(path)
        return leftovers.hold(path, descriptor)

    monkeypatch.setattr(local, "hold", late)
    with new_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert taken and (tmp_path / "a").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["a"]


def test_without_locks_files_are_written_and_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".hqclip-0123.tmp").write_bytes(b"left")
    monkeypatch.setattr(leftovers, "_looked", set())
    monkeypatch.setattr(fcntl, "flock", refuse)
    with new_file(tmp_path / "a") as file:
        file.write(b"whole")
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert list(LocalStore(tmp_path).list()) == ["a"]
    assert names_in(tmp_path) == [".hqclip-0123.tmp", "a"]
