"""Models from folders, buckets and a hub: which commit, which files, what digest, one cache for all processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hqclip.errors import (
    AccessError,
    ConfigError,
    DataError,
    HQClipError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from hqclip.models.contents import chosen, folder_digest
from hqclip.models.find import find
from hqclip.store import open_store
from tests.fakes.gcs import FakeGcs
from tests.fakes.hub import FakeHub
from tests.hubs import environment_of

FILES = {
    "config.json": b'{"model_type": "qwen2_vl", "vision_config": {}}',
    "tokenizer.json": b"{}",
    "merges.txt": b"a b\n",
    "chat_template.jinja": b"{{ messages }}",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 4000,
    "model-00002-of-00002.safetensors": bytes(reversed(range(256))) * 300,
}
OTHERS = {
    "README.md": b"# hello",
    "pytorch_model.bin": b"a pickle",
    "model.gguf": b"other weights",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.safetensors": b"deep",
}
FIRST = "model-00001-of-00002.safetensors"


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def fetching(hub: FakeHub, cache: Path, name: str, *more: str) -> subprocess.Popen[str]:
    """Another process that fetches a model."""
    command = [sys.executable, "-m", "hqclip.cli", "models", "fetch", "--model", name, *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment_of(hub, cache), stdout=pipe, stderr=pipe, text=True)


def test_of_a_hub_only_what_the_digest_covers_is_fetched(hub: FakeHub, tmp_path: Path):
    commit = hub.push("org/lvlm", {**FILES, **OTHERS})
    found = find("org/lvlm")
    assert {path.name for path in found.folder.iterdir()} == set(FILES)
    assert (found.revision, found.digest) == (commit, folder_digest(write(tmp_path / "same", FILES)))
    assert set(hub.fetched) == set(FILES)
    assert hub.tokens == set()


def test_what_is_kept_is_not_asked_about_again(hub: FakeHub):
    commit = hub.push("org/lvlm", FILES)
    first = find(f"org/lvlm@{commit}")
    hub.asked.clear()
    assert find(f"hf-hub:org/lvlm@{commit}") == first
    assert hub.asked == []


def test_a_branch_is_its_commit_of_now(hub: FakeHub):
    first = hub.push("org/lvlm", FILES, "v1")
    second = hub.push("org/lvlm", {**FILES, "merges.txt": b"c d\n"})
    assert [find(name).revision for name in ("org/lvlm@v1", "org/lvlm", "org/lvlm@main")] == [first, second, second]
    assert find("org/lvlm@v1").digest != find("org/lvlm").digest


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("org/gone", NotFoundError, "model org/gone of the hub: .*check the name"),
        ("org/lvlm@gone", NotFoundError, "model org/lvlm@gone of the hub: .*check the name and the revision"),
        ("org/gated", AccessError, "HF_TOKEN"),
        ("no such name!", ConfigError, "model no such name! of the hub"),
        ("/no/such/folder", NotFoundError, "there is no such folder"),
        ("./none", NotFoundError, "there is no such folder"),
        ("a/b/c", NotFoundError, "there is no such folder"),
    ],
)
def test_a_name_that_stands_for_nothing_is_named(hub: FakeHub, name: str, kind: type[HQClipError], said: str):
    hub.push("org/lvlm", FILES)
    hub.push("org/gated", FILES)
    hub.gated.add("org/gated")
    with pytest.raises(kind, match=said):
        find(name)


def test_a_hub_that_is_down_is_worth_another_try(hub: FakeHub):
    hub.push("org/lvlm", FILES)
    hub.down = True
    with pytest.raises(UnavailableError, match=r"org/lvlm of the hub.*org/lvlm@COMMIT"):
        find("org/lvlm")


def test_a_machine_that_is_offline_says_so(hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    commit = hub.push("org/lvlm", FILES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("org/lvlm", f"org/lvlm@{commit}"):
        with pytest.raises(NotFoundError, match="this machine is offline and has no copy"):
            find(name)
    assert hub.asked == []


def test_the_own_cache_of_the_client_is_used_where_it_is(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, models_cache: Path
):
    from huggingface_hub import snapshot_download

    hub.push("org/lvlm", FILES)
    snapshot = Path(snapshot_download("org/lvlm"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = find("org/lvlm")
    assert found.folder == snapshot
    assert not models_cache.exists()

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (snapshot / FIRST).resolve().write_bytes(b"damaged")
    assert find("org/lvlm").folder.is_relative_to(models_cache)
    assert find("org/lvlm").digest == found.digest


def test_a_part_in_the_own_cache_of_the_client_is_no_model(hub: FakeHub, models_cache: Path):
    from huggingface_hub import hf_hub_download

    index = json.dumps({"weight_map": {"a": FIRST, "b": "model-00002-of-00002.safetensors"}}).encode()
    commit = hub.push("org/lvlm", {**FILES, "model.safetensors.index.json": index})
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json", FIRST):
        hf_hub_download("org/lvlm", name, revision=commit)
    assert find(f"org/lvlm@{commit}").folder.is_relative_to(models_cache)


def test_a_copy_of_the_client_without_a_part_of_the_tokenizer_is_completed(hub: FakeHub, models_cache: Path):
    from huggingface_hub import hf_hub_download

    commit = hub.push("org/lvlm", FILES)
    for name in set(FILES) - {"merges.txt"}:
        hf_hub_download("org/lvlm", name, revision=commit)
    found = find(f"org/lvlm@{commit}")
    assert found.folder.is_relative_to(models_cache) and "merges.txt" in found.sha256


@pytest.mark.parametrize("name", [FIRST, "merges.txt"])
def test_what_arrives_otherwise_than_the_hub_says_is_not_kept(hub: FakeHub, models_cache: Path, name: str):
    hub.push("org/lvlm", FILES)
    hub.lies[name] = bytes(len(FILES[name]))
    with pytest.raises(StorageError, match=f"{name} arrived with another content"):
        find("org/lvlm")
    assert not [path for path in models_cache.iterdir() if not path.name.startswith(".")]
    hub.lies.clear()
    assert find("org/lvlm").digest


def test_what_was_damaged_since_is_fetched_anew(hub: FakeHub, caplog: pytest.LogCaptureFixture):
    hub.push("org/lvlm", FILES)
    first = find("org/lvlm")
    (first.folder / FIRST).write_bytes(bytes(len(FILES[FIRST])))
    assert find("org/lvlm") == first
    assert hub.fetched[FIRST] == 2
    (first.folder / "tokenizer.json").unlink()
    assert find("org/lvlm") == first


def test_many_processes_fetch_a_model_once(hub: FakeHub, models_cache: Path):
    name = f"org/lvlm@{hub.push('org/lvlm', FILES)}"
    hub.hold(FIRST)
    processes = [fetching(hub, models_cache, name) for _ in range(2)]
    assert hub.waiting.acquire(timeout=60)
    waits = _line_with(processes, "waiting for it")
    hub.go_on()
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert waits
    assert results[0] == results[1]
    assert set(hub.fetched.values()) == {1}


def _line_with(processes: list[subprocess.Popen[str]], words: str) -> bool:
    """Whether one of two says so: the other one is silent until it is let go on."""
    import selectors

    with selectors.DefaultSelector() as ready:
        for process in processes:
            assert process.stderr
            ready.register(process.stderr, selectors.EVENT_READ)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for key, _ in ready.select(timeout=1):
                if words in key.fileobj.readline():  # type: ignore[union-attr]
                    return True
    return False


def test_a_process_that_is_killed_leaves_nothing_that_is_used(hub: FakeHub, models_cache: Path):
    name = f"org/lvlm@{hub.push('org/lvlm', FILES)}"
    hub.hold(FIRST)
    first = fetching(hub, models_cache, name)
    assert hub.waiting.acquire(timeout=60)
    second = fetching(hub, models_cache, name)  # it waits for the first one
    assert _line_with([second], "waiting for it")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not [path for path in models_cache.iterdir() if not path.name.startswith(".")]
    before = dict(hub.fetched)
    hub.go_on()
    result = json.loads(second.communicate(timeout=60)[0])
    assert {path.name for path in Path(result["model"]).iterdir()} == set(FILES)
    assert find(name).digest == result["digest"]
    whole = [file for file in before if file != FIRST]
    assert whole
    assert all(hub.fetched[file] == 1 for file in whole)  # what was whole was not fetched again


def test_a_folder_is_used_where_it_is(tmp_path: Path, models_cache: Path):
    folder = write(tmp_path / "volume", {**FILES, **{name: OTHERS[name] for name in ("README.md", "model.gguf")}})
    found = find(str(folder))
    assert (found.folder, found.revision, set(found.sha256)) == (folder, "", set(FILES))
    assert not models_cache.exists()


def test_a_bucket_is_fetched_once_and_anew_when_it_changed(fake_gcs: FakeGcs, models_cache: Path, tmp_path: Path):
    store = open_store("gs://bucket/lvlms/qwen")
    for name, content in {**FILES, **OTHERS}.items():
        store.write(name, content)
    found = find("gs://bucket/lvlms/qwen/")
    assert found.folder.is_relative_to(models_cache)
    assert (found.revision, found.digest) == ("", folder_digest(write(tmp_path / "same", FILES)))
    assert find("gs://bucket/lvlms/qwen") == found
    store.write("tokenizer.json", b"[]", create_only=False)
    assert find("gs://bucket/lvlms/qwen").digest != found.digest


def test_a_bucket_without_a_model_is_named(fake_gcs: FakeGcs, models_cache: Path):
    with pytest.raises(NotFoundError, match="gs://bucket/nothing holds no model"):
        find("gs://bucket/nothing")


def test_a_cache_that_cannot_be_written_to_is_named(hub: FakeHub, models_cache: Path):
    hub.push("org/lvlm", FILES)
    models_cache.write_bytes(b"")
    with pytest.raises(StorageError, match="models"):
        find("org/lvlm")


def test_the_files_of_an_open_clip_model_are_fetched_once():
    both = [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "model.safetensors",
        "config.json",
        "tokenizer.json",
    ]
    assert "model.safetensors" not in chosen(both)
    assert "model.safetensors" in chosen(both[2:])
    assert chosen(["config.json", "a.json", "x/y.json"]) == ["a.json", "config.json"]


@pytest.mark.parametrize("kind", ["folder", "gs"])
def test_a_mirror_is_checked_by_what_was_brought(hub: FakeHub, fake_gcs: FakeGcs, tmp_path: Path, kind: str):
    from hqclip.models.config import ModelsFetchConfig
    from hqclip.models.fetch import run

    hub.push("org/lvlm", FILES)
    to = str(tmp_path / "store") if kind == "folder" else "gs://bucket/store"
    name = run(ModelsFetchConfig(model="org/lvlm", to=to))["model"]
    assert find(name).digest == find("org/lvlm").digest
    open_store(name).write("merges.txt", b"x", create_only=False)
    with pytest.raises(DataError, match=r"merges.txt is missing or not what was mirrored, by .*\.json"):
        find(name)
