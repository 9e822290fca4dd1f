"""What can go wrong with a local folder."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from hqclip.errors import AccessError, ConfigError, ConflictError, NotFoundError, StorageError
from hqclip.store.local import LocalStore

BIG = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_writer_killed_half_way_leaves_nothing_under_a_final_name(local: LocalStore, tmp_path: Path):
    os.mkfifo(tmp_path / "slow")
    command = "import sys; from pathlib import Path; from hqclip.store import open_store\n"
    command += "open_store(sys.argv[1]).write('shards/0.tar', Path(sys.argv[2]))"
    root = Path(__file__).parents[1]
    writer = subprocess.Popen([sys.executable, "-c", command, local.uri, tmp_path / "slow"], cwd=root)

    def wait_for_file_of(size_bytes: int) -> None:
        while not any(path.stat().st_size >= size_bytes for path in local.root.rglob("*.tmp")):
            assert writer.poll() is None
            time.sleep(0.005)

    with (tmp_path / "slow").open("r+b", buffering=0) as pipe:
        wait_for_file_of(0)
        pipe.write(b"x" * (3 << 20))
        wait_for_file_of(1 << 20)
        writer.kill()
        writer.wait()
    assert len(names_in(local.root)) == 2  # the folder and what the writer left in it
    assert list(local.list()) == list(local.list("shards/.")) == []
    assert local.stat("shards/0.tar") is None
    local.write("shards/0.tar", b"whole")
    assert list(local.list()) == ["shards/0.tar"]


def test_a_full_disk_is_said_and_leaves_nothing(local: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    local.write("kept", b"x")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"store/a: No space left on device; free some space"):
        local.write("a", b"x")
    with pytest.raises(StorageError, match=r"copy: No space left on device; free some space"):
        local.download("kept", tmp_path / "copy")
    assert names_in(local.root) == ["kept"]
    assert not (tmp_path / "copy").exists()


def test_a_file_that_may_not_grow_is_a_storage_error(local: LocalStore):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(StorageError, match="store/big: File too large"):
            local.write("big", BIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(local.root) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_one_may_not_write_to_is_an_access_error(local: LocalStore):
    local.write("a/key", b"x")
    (local.root / "a").chmod(0o500)
    with pytest.raises(AccessError, match="a/"):
        local.write("a/other", b"x")


def test_a_key_below_another_key_is_a_conflict_in_a_folder(local: LocalStore):
    local.write("a", b"x")
    for key in ("a/b", "a/b/c"):
        with pytest.raises(ConflictError, match="a file is in the way"):
            local.write(key, b"x")
        assert local.stat(key) is None
    local.write("folder/key", b"x")
    with pytest.raises(ConflictError, match="folder exists"):
        local.write("folder", b"x")
    with pytest.raises(NotFoundError):
        local.read("folder")


def test_files_of_the_store_itself_are_no_objects(local: LocalStore):
    info = local.write("key", b"1")
    local.swap("key", b"2", expected=info)
    assert ".hqclip-lock" in names_in(local.root)
    assert list(local.list()) == list(local.list("k")) == ["key"]
    for key in (".hqclip-lock", "a/.hqclip-x.tmp/b"):
        with pytest.raises(ConfigError, match="in the making"):
            local.write(key, b"x")


def test_others_may_read_what_the_umask_lets_them(local: LocalStore):
    before = os.umask(0o027)
    try:
        local.write("key", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((local.root / "key").stat().st_mode) == 0o640


def test_a_file_of_any_size_is_stored_in_little_memory(local: LocalStore, tmp_path: Path):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    local.write("huge", tmp_path / "huge")
    local.download("huge", tmp_path / "copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_file_whose_name_is_no_utf8_is_read(local: LocalStore):
    local.root.mkdir(exist_ok=True)
    (local.root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    (key,) = local.list()
    assert local.read(key) == b"x"


def test_links_made_by_people_are_followed(local: LocalStore, tmp_path: Path):
    local.write("pool/0.tar", b"x")
    (local.root / "linked").symlink_to(local.root / "pool")
    (local.root / "broken").symlink_to(tmp_path / "nowhere")
    assert list(local.list()) == ["linked/0.tar", "pool/0.tar"]
