"""Answers that were recorded earlier: an engine that reads them, and a recorder around any other engine.

A recording is a file of JSON lines, one answer a line under the digest of its request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from hqclip.annotate.engines.protocol import Answer, Engine, EngineDied, EngineInfo, Finish, Request, RequestFailed
from hqclip.annotate.prompt import Prompt
from hqclip.config import AnnotateConfig
from hqclip.errors import ConfigError, StorageError


class ReplayEngine:
    """Says what was recorded for the same request; every other request fails."""

    def __init__(self, config: AnnotateConfig, _prompt: Prompt, _model: Path | str) -> None:
        self._path, self._max_num_seqs = Path(config.recording), config.max_num_seqs
        self._answers: dict[str, Answer] | None = None

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Raises `ConfigError` for a file that cannot be read or holds no answer."""
        self._answers = await asyncio.to_thread(read_recording, self._path)
        settings = {"recording": str(self._path), "answers": len(self._answers)}
        return EngineInfo("replay", "1", "file", 0, self._max_num_seqs, grammar=False, settings=settings)

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`. A look into a table: it never waits."""
        if self._answers is None:
            raise EngineDied("the engine is not running")
        answer = self._answers.get(request_key(request))
        if answer is None:
            raise RequestFailed(
                f"no recorded answer to uid {request.uid} at temperature {request.temperature}, seed {request.seed}, "
                f"grammar {request.grammar} in {self._path}"
            )
        return answer

    async def close(self) -> None:
        """See `Engine.close`."""
        self._answers = None


class Recorder:
    """An engine that passes every request on to `engine` and appends the answers to the file `path`."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine, self._path = engine, path
        self._file: BinaryIO | None = None

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Raises `StorageError` if the file cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)  # a line is one write
            self._file.write(b"\n" if _ends_within_a_line(self._path) else b"")
        except OSError as error:
            raise StorageError(f"recording {self._path} cannot be written ({error.strerror})") from error
        return await self._engine.start()

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`."""
        answer = await self._engine.answer(request)
        if self._file is not None:
            self._file.write(_line(request_key(request), answer))
        return answer

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._engine.close()
        if self._file is not None:
            self._file.close()
            self._file = None


def model_digest(config: AnnotateConfig) -> str:
    """Recorded answers are known by their content: SHA-256, hexadecimal. Raises `ConfigError`."""
    try:
        with Path(config.recording).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"recording {config.recording!r} cannot be read ({error.strerror})") from error


def request_key(request: Request) -> str:
    """The digest, 32 hexadecimal digits, of all that decides an answer: picture, alt-text and way of asking.

    A request without the digest of its image is known by its uid.
    """
    picture = request.sha256 or request.uid
    asked = f"{picture}\0{request.alt_text}\0{request.temperature!r}\0{request.seed}\0{request.grammar}"
    return hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def read_recording(path: Path) -> dict[str, Answer]:
    """Answers by `request_key`; of two to the same request the later one. Lines cut by a kill are left out.

    Raises `ConfigError` if the file cannot be read or has no whole line.
    """
    answers: dict[str, Answer] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                read = _read(line)
                if read is not None:
                    answers[read[0]] = read[1]
    except OSError as error:
        raise ConfigError(f"recording {str(path)!r} cannot be read ({error.strerror})") from error
    if not answers:
        raise ConfigError(f"recording {str(path)!r} holds no recorded answers; give a file that a Recorder wrote")
    return answers


def _line(key: str, answer: Answer) -> bytes:
    record = {
        "key": key,
        "text": answer.text,
        "finish": answer.finish,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": answer.output_tokens,
        "cached_tokens": answer.cached_tokens,
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _read(line: bytes) -> tuple[str, Answer] | None:
    try:
        record: dict[str, Any] = json.loads(line)
        tokens = (record["prompt_tokens"], record["output_tokens"], record["cached_tokens"])
        return record["key"], Answer(record["text"], Finish(record["finish"]), *tokens)
    except (ValueError, KeyError, TypeError):
        return None


def _ends_within_a_line(path: Path) -> bool:
    """Whether whoever wrote last was killed in the middle of a line."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return False
        file.seek(-1, 2)
        return file.read(1) != b"\n"
