"""`hqclip annotate --engine vllm` as a program: stopped, killed, continued; and vLLM behind its own server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate.annotator import DEMO_MODEL
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.prompt import PROMPTS
from hqclip.config import AnnotateConfig
from tests.engine_contract import ask_all
from tests.vllm.conftest import SETTINGS, Started, draw_requests


def start(config: AnnotateConfig) -> subprocess.Popen[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_mapping().items() if value != []]
    flags = [flag for flag in flags if not flag.startswith("--gpu-prices")]
    command = [sys.executable, "-m", "hqclip.cli", "annotate", *flags]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], limit_s: float = 240.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def processes_of(store: str) -> list[str]:
    """Processes that were started for this store, and vLLM's own, which bear its name."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                parent = (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if store in words or f"HQCLIP_TEST={store}\0" in parent:
                found.append(words)
    return found


def test_killed_and_stopped_and_continued_every_image_has_one_row(
    pool: AnnotateConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HQCLIP_TEST", pool.store)
    parts = lambda: list((Path(pool.store) / "annotations").rglob("parts/*/*.parquet"))  # noqa: E731
    killed = start(pool)
    wait_for(lambda: len(parts()) >= 1, killed)
    killed.kill()
    killed.wait()
    end = time.monotonic() + 30
    while processes_of(pool.store) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(pool.store) == [], "the engine outlived its parent"
    killed.communicate()

    saved = len(parts())
    stopped = start(pool)
    wait_for(lambda: len(parts()) > saved or bool(list(Path(pool.store).rglob("annotations/*/0*.parquet"))), stopped)
    stopped.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 143, errors
    assert time.monotonic() - asked < 10
    assert "what was finished is kept" in errors

    last = start(pool)
    out, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    result = json.loads(out)
    assert result["rows"] == 600
    assert result["statuses"]["ok"] >= 590
    assert not parts()
    requests = sum(json.loads(p.read_text())["requests"] for p in Path(pool.store).rglob("progress.json"))
    assert requests <= 600 - 128  # the two that ended well know what they asked; the killed one saved a part or more


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """vLLM's OpenAI-compatible server with the tiny LVLM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"max-model-len": 1024, "max-num-seqs": 16, "block-size": 32, "dtype": "float32", "port": port}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(DEMO_MODEL)]
    command += ["--served-model-name", "tiny", "--enforce-eager", "--skip-mm-profiling", "--host", "127.0.0.1"]
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
                assert time.monotonic() < end
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_behind_its_own_server_it_says_the_same(started: Started, server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    config = AnnotateConfig(**{**SETTINGS, "engine": "openai", "server": server, "model": "tiny"})
    requests = draw_requests(16)

    async def served() -> Any:
        engine = make_engine(config, PROMPTS["shapes-1"], "tiny")
        await engine.start()
        try:
            return await ask_all(engine, requests)
        finally:
            await engine.close()

    answers = asyncio.run(served())
    here = started.runner.run(ask_all(started.engine, requests))
    assert [answer.text for answer in answers] == [answer.text for answer in here]
    assert [answer.output_tokens for answer in answers] == [answer.output_tokens for answer in here]
