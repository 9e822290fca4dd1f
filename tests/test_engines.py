"""The engines: what all must do, and what each does in its own way."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqclip import config
from hqclip.annotate.engines.protocol import Answer, Engine, EngineDied, Finish, Request, RequestFailed
from hqclip.annotate.engines.registry import ENGINES, make_engine
from hqclip.annotate.engines.replay import Recorder, ReplayEngine, read_recording, request_key
from hqclip.annotate.engines.transformers import TransformersEngine
from hqclip.annotate.prompt import PROMPTS
from hqclip.config import AnnotateConfig
from hqclip.demo.lvlm import folder
from hqclip.demo.scenes import draw_scene, render
from hqclip.demo.texts import alt_text
from hqclip.errors import ConfigError, DataError, NotFoundError, StorageError
from tests.engine_contract import LIVES, STARTED, Check, Subject, ask, ask_all
from tests.fakes.engines import ScriptedEngine, said
from tests.fakes.openai_server import FakeOpenAI

PROMPT = PROMPTS["shapes-1"]
QWEN = '{"model_type": "qwen2_vl", "vision_config": {}}'


def drawn(count: int) -> list[Request]:
    rng = np.random.default_rng(5071)
    scenes = [draw_scene(rng, (1, 2, 3)) for _ in range(count)]
    return [
        Request(f"{number:032x}", np.array(render(scene, rng)), alt_text(scene, rng))
        for number, scene in enumerate(scenes)
    ]


REQUESTS = drawn(10)


def config_of(engine: str, **settings: Any) -> AnnotateConfig:
    return AnnotateConfig(store="s", pool="p", prompt="shapes-1", engine=engine, **{"batch_size": 4, **settings})


@dataclass(frozen=True)
class Bench:
    """A started engine and the event loop it lives in."""

    runner: asyncio.Runner
    subject: Subject

    def check(self, check: Check) -> None:
        self.runner.run(check(self.subject))


def bench(make: Callable[..., Engine]) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        engine = make()
        info = runner.run(engine.start())
        yield Bench(runner, Subject(make, REQUESTS, PROMPT, engine, info))
        runner.run(engine.close())


@pytest.fixture(scope="session")
def transformers_bench() -> Iterator[Bench]:
    yield from bench(lambda **settings: make_engine(config_of("transformers", **settings), PROMPT, folder()))


@pytest.fixture(scope="session")
def openai_bench() -> Iterator[Bench]:
    with FakeOpenAI() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")

        def make(**settings: Any) -> Engine:
            return make_engine(config_of("openai", server=fake.url, **settings), PROMPT, "teacher")

        yield from bench(make)


@pytest.fixture(scope="session")
def replay_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Recordings of the demo model, one for each token limit."""
    recordings = tmp_path_factory.mktemp("recordings")

    async def record(max_new_tokens: int) -> None:
        engine = TransformersEngine(config_of("transformers", max_new_tokens=max_new_tokens), PROMPT, folder())
        recorder = Recorder(engine, recordings / f"{max_new_tokens}.jsonl")
        await recorder.start()
        await ask_all(recorder, [*REQUESTS, *(replace(request, grammar=True) for request in REQUESTS[:4])])
        await recorder.close()

    asyncio.run(record(400))
    asyncio.run(record(16))

    def make(max_new_tokens: int = 400) -> Engine:
        recording = str(recordings / f"{max_new_tokens}.jsonl")
        return make_engine(config_of("replay", recording=recording), PROMPT, "demo")

    yield from bench(make)


@pytest.mark.parametrize("check", [*STARTED, *LIVES], ids=lambda check: check.__name__)
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "vllm"])  # its own tests are in tests/vllm
def test_every_engine(engine: str, check: Check, request: pytest.FixtureRequest):
    """A further engine needs the fixture `{name}_bench` here, and nothing else."""
    request.getfixturevalue(f"{engine}_bench").check(check)


def test_the_registry_and_the_settings_name_the_same_engines():
    assert tuple(ENGINES) == config.ENGINES
    for name, (module, engine) in ENGINES.items():
        assert inspect.isclass(getattr(importlib.import_module(module), engine))
        assert hasattr(importlib.import_module(module), "model_digest") == (name not in config.LOCAL_ENGINES)


# transformers


def test_a_warmer_answer_depends_on_its_seed_and_on_nobody_else(transformers_bench: Bench):
    async def check() -> None:
        engine = transformers_bench.subject.engine
        warm = [replace(REQUESTS[0], temperature=1.5, seed=seed) for seed in range(4)]
        alone = [(await ask(engine, request)).text for request in warm]
        assert len(set(alone)) > 1
        among = await ask_all(engine, [REQUESTS[1], *reversed(warm), *REQUESTS[2:]])
        assert [answer.text for answer in among[1:5]] == alone[::-1]

    transformers_bench.runner.run(check())


@pytest.fixture
def endless(tmp_path: Path) -> TransformersEngine:
    """An engine that knows no end: its answers would take hours."""
    for file in folder().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 639, "pad_token_id": 0}))
    return TransformersEngine(config_of("transformers", max_new_tokens=131_072), PROMPT, tmp_path)


def test_closing_stops_a_long_answer_at_its_next_token(endless: TransformersEngine):
    async def check() -> None:
        await endless.start()
        asked = asyncio.create_task(endless.answer(REQUESTS[0]))
        await asyncio.sleep(0.5)
        assert not asked.done()
        await endless.close()
        with pytest.raises(EngineDied, match="it was closed"):
            await asked

    asyncio.run(check())


def test_an_answer_that_nobody_waits_for_makes_room(endless: TransformersEngine):
    thread = replace(REQUESTS[0], image=np.zeros((1, 300, 3), np.uint8))

    async def check() -> None:
        await endless.start()
        asked = asyncio.create_task(endless.answer(REQUESTS[0]))
        await asyncio.sleep(0.5)
        asked.cancel()
        with pytest.raises(RequestFailed, match="aspect ratio"):  # which it finds when it is this request's turn
            await endless.answer(thread)
        await endless.close()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({}, NotFoundError, "holds no model: there is no config.json"),
        ({"config.json": '{"model_type": "gpt2"}'}, ConfigError, "is a gpt2 model, which sees no images"),
        ({"config.json": QWEN}, ConfigError, "has no weights in safetensors"),
        ({"config.json": QWEN, "model.safetensors": ""}, ConfigError, "does not load"),
    ],
)
def test_a_folder_without_an_lvlm_is_refused(tmp_path: Path, files: dict[str, str], error: type[Exception], words: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    engine = TransformersEngine(config_of("transformers"), PROMPT, tmp_path)
    with pytest.raises(error, match=words):
        asyncio.run(engine.start())
    asyncio.run(engine.close())


def damaged(tmp_path: Path, name: str, content: bytes) -> TransformersEngine:
    for file in folder().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes(content)
    return TransformersEngine(config_of("transformers"), PROMPT, tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path):
    weights = (folder() / "model.safetensors").read_bytes()[:1000]
    with pytest.raises(DataError, match="damaged or cut"):
        asyncio.run(damaged(tmp_path, "model.safetensors", weights).start())


@pytest.mark.parametrize("content", [b"[]", b"{}", b"{", b"\xff\xfe\0", b"[" * 100_000, b'{"vision_config": "x"}'])
@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_model_with_a_damaged_file_is_refused_or_answers(tmp_path: Path, name: str, content: bytes):
    """Nothing else: what libraries raise when an entry is of another type than they await is an open set."""
    needs_nothing = name == "tokenizer_config.json" and content.endswith(b"}")
    assert outcome(damaged(tmp_path, name, content)) == ("starts" if needs_nothing else "refused")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("generation_config.json", b"[]"),
        ("chat_template.jinja", b"{% if"),
        ("chat_template.jinja", b"{{ messages.nothing.nowhere }}"),
        ("config.json", b'{"model_type": "internvl", "vision_config": [1]}'),
    ],
)
def test_a_model_whose_files_do_not_go_together_is_refused(tmp_path: Path, name: str, content: bytes):
    assert outcome(damaged(tmp_path, name, content)) == "refused"


@pytest.mark.parametrize("value", ["x", [1], {"hidden_size": "x"}])
def test_a_part_of_the_config_that_is_of_another_type_is_refused(tmp_path: Path, value: object):
    config = json.loads((folder() / "config.json").read_text()) | {"vision_config": value}
    assert outcome(damaged(tmp_path, "config.json", json.dumps(config).encode())) == "refused"


def outcome(engine: TransformersEngine) -> str:
    async def start_and_close() -> str:
        try:
            await engine.start()
        except ConfigError:
            return "refused"
        finally:
            await engine.close()
        return "starts"

    return asyncio.run(start_and_close())


# replay


def replay(recording: Path) -> ReplayEngine:
    return ReplayEngine(config_of("replay", recording=str(recording)), PROMPT, "demo")


async def record(path: Path, requests: list[Request], scripts: dict[str, Any] | None = None) -> None:
    recorder = Recorder(ScriptedEngine(scripts), path)
    await recorder.start()
    await asyncio.gather(*(recorder.answer(request) for request in requests), return_exceptions=True)
    await recorder.close()


def test_what_was_said_is_said_again(tmp_path: Path):
    odd = Answer('{"tags": ["日本\\ud800", "a\n"]}', Finish.REPETITION, 5, 7, 3)
    request = replace(REQUESTS[0], alt_text="odd \ud800", temperature=0.5, seed=3)
    asyncio.run(record(tmp_path / "new" / "r.jsonl", [request], {request.alt_text: [odd]}))

    async def check() -> None:
        engine = replay(tmp_path / "new" / "r.jsonl")
        await engine.start()
        assert await engine.answer(request) == odd
        with pytest.raises(RequestFailed, match=f"no recorded answer to uid {request.uid} at temperature 0.5, seed 4"):
            await engine.answer(replace(request, seed=4))

    asyncio.run(check())


def test_an_answer_belongs_to_the_picture_the_alt_text_and_the_way_of_asking():
    request = replace(REQUESTS[0], sha256="ab")
    others: list[dict[str, Any]] = [
        {"sha256": "cd"},
        {"sha256": ""},
        {"alt_text": "else"},
        {"temperature": 0.5},
        {"seed": 1},
        {"grammar": True},
    ]
    assert len({request_key(replace(request, **other)) for other in [{}, *others]}) == len(others) + 1
    assert request_key(replace(request, uid="other")) == request_key(request)


def test_a_line_cut_by_a_kill_costs_one_answer(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    asyncio.run(record(path, REQUESTS[:3]))
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_recording(path)) == 2
    asyncio.run(record(path, REQUESTS[3:5]))
    assert len(read_recording(path)) == 4


def test_what_failed_is_not_recorded(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    scripts = {REQUESTS[1].alt_text: [RequestFailed("no")], REQUESTS[2].alt_text: [said("yes")]}
    asyncio.run(record(path, REQUESTS[:3], scripts))
    assert set(read_recording(path)) == {request_key(REQUESTS[0]), request_key(REQUESTS[2])}


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n", json.dumps({"a": 1}).encode()])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "r.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"r.jsonl' (cannot be read|holds no recorded answers)"):
        asyncio.run(replay(path).start())


def test_a_recording_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        asyncio.run(record(tmp_path / "file" / "r.jsonl", []))
