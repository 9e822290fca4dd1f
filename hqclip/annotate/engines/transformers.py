"""The LVLM through transformers' `generate`: for laptops and tests, exact and slow."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor, StoppingCriteria, StoppingCriteriaList
from transformers.utils.logging import disable_progress_bar

from hqclip.annotate.engines.protocol import Answer, EngineDied, EngineInfo, Finish, Request, RequestFailed
from hqclip.annotate.lvlm import family_of, loading
from hqclip.annotate.prompt import Prompt
from hqclip.annotate.weights import check_weights
from hqclip.config import AnnotateConfig

LINGER_S = 0.02  # a batch that is not full leaves when no request has come for so long
WHY = 500  # characters of an error that are told


@dataclass(frozen=True)
class _Waiting:
    request: Request
    answer: asyncio.Future[Answer]


class TransformersEngine:
    """Decoding in float32 on the CPU, padded on the left, a batch at a time in one thread; the event loop stays free.

    Greedy requests that wait are answered together. Warmer ones are answered one by one, so that the same request and
    seed give the same answer in any company.
    """

    def __init__(self, config: AnnotateConfig, prompt: Prompt, model: Path | str) -> None:
        self._config, self._prompt, self._model = config, prompt, Path(model)
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._unanswered: set[asyncio.Future[Answer]] = set()
        self._serving: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._stop = threading.Event()

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Also raises `NotFoundError` if the folder is missing or holds no model."""
        family_of(self._model)
        check_weights(self._model)
        self._thread = ThreadPoolExecutor(1, "lvlm")
        self._stop, self._queue = threading.Event(), asyncio.Queue()
        loading = self._thread.submit(_Model, self._model, self._prompt, self._config, self._stop)
        model = await asyncio.wrap_future(loading)
        self._serving = asyncio.create_task(self._serve(model, self._thread))
        settings = {
            "dtype": "float32",
            "batch_size": self._config.batch_size,
            "max_new_tokens": self._config.max_new_tokens,
            "threads": model.threads,
        }
        return EngineInfo(
            "transformers",
            transformers.__version__,
            "cpu",
            0,
            self._config.batch_size,
            grammar=False,
            settings=settings,
        )

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`."""
        if self._serving is None or self._serving.done():
            raise EngineDied("the engine is not running")
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._unanswered.add(waiting.answer)
        try:
            self._queue.put_nowait(waiting)
            return await waiting.answer
        finally:
            self._unanswered.discard(waiting.answer)

    async def close(self) -> None:
        """See `Engine.close`. What is being generated ends with its next token."""
        self._stop.set()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
            self._thread = None

    async def _serve(self, model: _Model, thread: ThreadPoolExecutor) -> None:
        """Answer what waits, in order of arrival, until this task is cancelled; then nobody is left waiting."""
        try:
            while True:
                for company in _companies(await self._next_batch()):
                    answers = await asyncio.wrap_future(thread.submit(model.answer, company))
                    for waiting, answer in zip(company, answers, strict=True):
                        if waiting.answer.done():
                            continue
                        if isinstance(answer, RequestFailed):
                            waiting.answer.set_exception(answer)
                        else:
                            waiting.answer.set_result(answer)
        finally:
            fault = sys.exception()
            why = "it was closed" if isinstance(fault, asyncio.CancelledError) else f"{type(fault).__name__}: {fault}"
            for unanswered in self._unanswered:
                if not unanswered.done():
                    unanswered.set_exception(EngineDied(why))

    async def _next_batch(self) -> list[_Waiting]:
        """A full batch, or what there is when no more comes; without those who gave up waiting."""
        batch = [await self._queue.get()]
        while len(batch) < self._config.batch_size:
            try:
                async with asyncio.timeout(LINGER_S):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return [waiting for waiting in batch if not waiting.answer.done()]


def _companies(batch: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Who is answered together: all greedy ones, and each of the others alone."""
    greedy = [waiting for waiting in batch if waiting.request.temperature == 0]
    others = [[waiting] for waiting in batch if waiting.request.temperature > 0]
    return [greedy, *others] if greedy else others


class _Model:
    """A loaded model; everything here happens in one thread. Raises `ConfigError` if it does not load."""

    def __init__(self, model: Path, prompt: Prompt, config: AnnotateConfig, stop: threading.Event) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.threads = torch.get_num_threads()
        disable_progress_bar()
        with loading(model):
            self._processor = AutoProcessor.from_pretrained(str(model), trust_remote_code=False)
            self._processor.apply_chat_template(prompt.messages("alt-text"), tokenize=False, add_generation_prompt=True)
            self._model = AutoModelForImageTextToText.from_pretrained(
                str(model), dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            ).eval()
            self._end = set(_as_list(self._model.generation_config.eos_token_id))
        self._prompt, self._max_new_tokens, self._stop = prompt, config.max_new_tokens, stop

    def answer(self, company: Sequence[_Waiting]) -> list[Answer | RequestFailed]:
        """One answer a request. If a batch fails, its requests are tried alone, so that one of them fails alone."""
        try:
            return list(self._generate(company))
        except (RuntimeError, ValueError) as error:
            if len(company) == 1:
                return [RequestFailed(f"{type(error).__name__}: {error}"[:WHY])]
            return [answer for waiting in company for answer in self.answer([waiting])]

    @torch.inference_mode()
    def _generate(self, company: Sequence[_Waiting]) -> list[Answer]:
        chats = [
            self._processor.apply_chat_template(
                self._prompt.messages(waiting.request.alt_text), tokenize=False, add_generation_prompt=True
            )
            for waiting in company
        ]
        inputs = self._processor(
            text=chats,
            images=[waiting.request.image for waiting in company],
            input_data_format="channels_last",  # it guesses otherwise, and takes three rows for three colours
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(company[0].request.seed)
            ids = self._model.generate(
                **inputs,
                **_decoding(company[0].request.temperature),
                max_new_tokens=self._max_new_tokens,
                stopping_criteria=StoppingCriteriaList([_Abandoned(company, self._stop)]),
            )
        width = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(1).tolist()
        return [self._read(row, n) for row, n in zip(ids[:, width:].tolist(), prompt_tokens, strict=True)]

    def _read(self, ids: list[int], prompt_tokens: int) -> Answer:
        stop = next((i for i, token in enumerate(ids) if token in self._end), None)
        said = ids[: len(ids) if stop is None else stop]
        text = self._processor.tokenizer.decode(said, skip_special_tokens=True)
        finish = Finish.LENGTH if stop is None else Finish.STOP
        return Answer(text, finish, prompt_tokens, len(said) + (stop is not None))


class _Abandoned(StoppingCriteria):
    """Ends the answers for which nobody waits any longer, and all of them when the engine stops."""

    def __init__(self, company: Sequence[_Waiting], stop: threading.Event) -> None:
        self._company, self._stop = company, stop

    def __call__(self, *_: Any, **__: Any) -> torch.Tensor:
        stop = self._stop.is_set()
        return torch.tensor([stop or waiting.answer.done() for waiting in self._company])


def _decoding(temperature: float) -> dict[str, Any]:
    """What `generate` is told: the likeliest token, or one drawn from the whole distribution."""
    if temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}


def _as_list(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]
