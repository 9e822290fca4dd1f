"""The LVLM through vLLM's asynchronous engine, in child processes of this one: for bulk work on GPUs.

vLLM is imported only when the engine starts. Its CPU build works too, which is how it is tested.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hqclip.annotate.engines.protocol import Answer, EngineDied, EngineInfo, Finish, Request, RequestFailed
from hqclip.annotate.engines.readiness import out_of_memory
from hqclip.annotate.lvlm import family_of, loading
from hqclip.annotate.prompt import Prompt
from hqclip.annotate.weights import check_weights
from hqclip.config import AnnotateConfig
from hqclip.errors import ConfigError, HQClipError, MissingSoftwareError, UnavailableError
from hqclip.settings import did_you_mean

LEAST_MEMORY, MEMORY_STEP = 0.8, 0.05  # share of GPU memory that is tried last, and how it is approached
LEAST_SEQS = 16
CLOSE_S = 2.0
UNUSABLE = ("not supported", "unsupported", "unrecognized", "does not appear to have", "validation error", "invalid")
QUIET = {  # results are on stdout, so what vLLM says goes to stderr
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH, "repetition": Finish.REPETITION}
ON_CPU = {"dtype": "float32", "enforce_eager": True, "block_size": 32, "skip_mm_profiling": True}


class VllmEngine:
    """One engine for `tensor_parallel` GPUs. Out of memory at the start, it asks for less and says so."""

    def __init__(self, config: AnnotateConfig, prompt: Prompt, model: Path | str) -> None:
        self._config, self._prompt, self._model = config, prompt, Path(model)
        self._engine: Any = None
        self._numbers = itertools.count()
        self._running: set[asyncio.Task[Any]] = set()
        self._reaper: Any = None

    async def start(self) -> EngineInfo:
        """See `Engine.start`. Also raises `NotFoundError` if the folder holds no model."""
        family = family_of(self._model)
        check_weights(self._model)
        vllm = _import_vllm()
        from hqclip.annotate.process_reaper import ProcessReaper

        on_cpu = _check_device(vllm)
        budget = self._config.image_tokens or family.image_tokens
        arguments = engine_arguments(self._config, self._model, family.processor_options(budget), on_cpu=on_cpu)
        self._reaper = reaper = ProcessReaper()
        try:
            self._engine, arguments = await asyncio.to_thread(start_within_memory, _build, arguments)
        except BaseException:
            await asyncio.to_thread(reaper.finish)
            raise
        self._chat = _Chat(self._model, self._prompt)
        scheduler = self._engine.vllm_config.scheduler_config
        settings = {
            **{name: value for name, value in arguments.items() if name != "model"},
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        }
        return EngineInfo(
            "vllm",
            str(vllm.__version__),
            "cpu" if on_cpu else str(vllm.platforms.current_platform.get_device_name()),
            0 if on_cpu else self._config.tensor_parallel,
            int(scheduler.max_num_seqs),
            grammar=True,
            settings=settings,
        )

    async def answer(self, request: Request) -> Answer:
        """See `Engine.answer`. Cancelling it aborts the request inside vLLM."""
        from vllm.exceptions import VLLMError
        from vllm.v1.engine.exceptions import EngineDeadError

        if self._engine is None:
            raise EngineDied("the engine is not running")
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._generate(request)
        except EngineDeadError as error:
            raise EngineDied(f"vLLM's engine process is gone: {_why(error)}") from error
        except (VLLMError, ValueError) as error:
            if self._engine is None or self._engine.errored:
                raise EngineDied(f"{type(error).__name__}: {error}") from error
            raise RequestFailed(f"{type(error).__name__}: {error}"[:500]) from error
        except asyncio.CancelledError:
            if self._engine is None and not task.cancelling():
                raise EngineDied("the engine was closed") from None
            raise
        finally:
            self._running.discard(task)

    async def _generate(self, request: Request) -> Answer:
        prompt = {
            "prompt": self._chat.render(request.alt_text),
            "multi_modal_data": {"image": _picture(request)},
        }
        last: Any = None
        number = f"{request.uid}-{next(self._numbers)}"
        async for output in self._engine.generate(prompt, self._sampling(request), number):
            last = output
        if last is None:
            raise EngineDied("vLLM ended a request without an answer")
        said = last.outputs[0]
        if said.finish_reason == "abort":
            raise EngineDied("vLLM gave the request up")
        if said.finish_reason not in FINISH:
            raise RequestFailed(f"vLLM ended the request with {said.finish_reason!r}")
        return Answer(
            said.text,
            FINISH[said.finish_reason],
            len(last.prompt_token_ids or ()),
            len(said.token_ids),
            last.num_cached_tokens or 0,
        )

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind, StructuredOutputsParams

        return SamplingParams(
            temperature=request.temperature,
            seed=request.seed if request.temperature else None,
            max_tokens=self._config.max_new_tokens,
            output_kind=RequestOutputKind.FINAL_ONLY,
            repetition_detection=RepetitionDetectionParams(max_pattern_size=20, min_pattern_size=2, min_count=8),
            structured_outputs=StructuredOutputsParams(json=self._prompt.schema) if request.grammar else None,
        )

    async def close(self) -> None:
        """See `Engine.close`."""
        engine, self._engine = self._engine, None
        reaper, self._reaper = self._reaper, None
        try:
            if engine is not None:
                for task in list(self._running):
                    task.get_loop().call_soon(_give_up, task)
                await asyncio.wait_for(asyncio.to_thread(engine.shutdown, CLOSE_S), 2 * CLOSE_S)
        except TimeoutError:
            pass  # it is stuck; its processes are killed
        finally:
            if reaper is not None:  # also of an engine that is still starting, which then fails
                await asyncio.to_thread(reaper.finish)


def _give_up(task: asyncio.Task[Any]) -> None:
    """Cancel what a request waits for, without counting it as cancelled by its caller."""
    if not task.done():
        task.cancel()
        task.uncancel()


def start_within_memory(
    build: Callable[[Mapping[str, Any]], Any], arguments: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The engine that `build` makes, and the arguments it started with: less memory, then fewer sequences.

    Raises `ConfigError` for what will never start, `MissingSoftwareError` for what does not fit into the memory, and
    `UnavailableError` for what may start another time.
    """
    while True:
        try:
            return build(arguments), arguments
        except HQClipError:
            raise
        except Exception as error:  # vLLM raises whatever its parts raise
            why = _why(error)
            smaller = _smaller(arguments)
            if out_of_memory(why):
                if smaller is None:
                    raise MissingSoftwareError(
                        f"{arguments['model']} does not fit into the memory here ({why}): take a larger GPU or more of "
                        "them (--tensor-parallel), a smaller --max-model-len, or a quantized model"
                    ) from error
                arguments = smaller
                continue
            if isinstance(error, ValueError | TypeError | KeyError) or any(word in why.lower() for word in UNUSABLE):
                raise ConfigError(f"vLLM does not start with {arguments['model']}: {why}") from error
            raise UnavailableError(f"vLLM does not start with {arguments['model']}: {why}") from error


def _smaller(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is tried next when the memory does not suffice; None when there is nothing left to give."""
    memory = arguments.get("gpu_memory_utilization", LEAST_MEMORY)
    if memory > LEAST_MEMORY:
        return {**arguments, "gpu_memory_utilization": round(max(LEAST_MEMORY, memory - MEMORY_STEP), 3)}
    if arguments["max_num_seqs"] > LEAST_SEQS:
        return {**arguments, "max_num_seqs": max(LEAST_SEQS, arguments["max_num_seqs"] // 2)}
    return None


def engine_arguments(
    config: AnnotateConfig, model: Path, processor: Mapping[str, Any], *, on_cpu: bool
) -> dict[str, Any]:
    """What vLLM's engine is started with; `engine_options` come last and win."""
    arguments: dict[str, Any] = {
        "model": str(model),
        "load_format": "safetensors",
        "trust_remote_code": False,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "tensor_parallel_size": config.tensor_parallel,
        "gpu_memory_utilization": config.gpu_memory,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_cache_gb": 0,  # every image is seen once
        "enable_prefix_caching": True,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
        "disable_log_stats": True,
        "seed": 0,
    }
    if processor:
        arguments["mm_processor_kwargs"] = dict(processor)
    return {**arguments, **(ON_CPU if on_cpu else {}), **json.loads(config.engine_options)}


def _build(arguments: Mapping[str, Any]) -> Any:
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name in arguments:
        if name not in known:
            raise ConfigError(f"engine_options: vLLM has no argument {name!r}{did_you_mean(name, known)}")
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


class _Chat:
    """Renders the chat of a request once and for all: only the alt-text changes."""

    MARK = "alttextgoeshere"

    def __init__(self, model: Path, prompt: Prompt) -> None:
        from transformers import AutoProcessor

        messages = prompt.messages(self.MARK)
        with loading(model):
            processor = AutoProcessor.from_pretrained(str(model), trust_remote_code=False)
            rendered = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if rendered.count(self.MARK) != 1:
            raise ConfigError(f"the chat template of {model} drops or repeats the text after the image")
        self._before, _, self._after = rendered.partition(self.MARK)

    def render(self, alt_text: str) -> str:
        """The chat with a cleaned alt-text in it."""
        return f"{self._before}{alt_text}{self._after}"


def _picture(request: Request) -> Any:
    from PIL import Image

    return Image.fromarray(request.image)


def _import_vllm() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        import vllm.platforms
    except ModuleNotFoundError as error:
        raise MissingSoftwareError(
            f"the vllm engine needs vLLM ({error}): use the annotate image, or install hqclip with its extra `vllm`"
        ) from error
    return vllm


def _check_device(vllm: Any) -> bool:
    """Whether this is vLLM's CPU build. Raises `MissingSoftwareError` for a GPU build without a GPU."""
    if vllm.platforms.current_platform.is_cpu():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        return True
    import torch

    if not torch.cuda.is_available():
        raise MissingSoftwareError(
            "the vllm engine finds no GPU here: ask for one, or use --engine transformers on a CPU"
        )
    return False


def _why(error: BaseException) -> str:
    """What went wrong, from the innermost cause that says something."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(inner)
    said = next((str(cause) for cause in reversed(causes) if str(cause)), type(error).__name__)
    return " ".join(said.split())[:500]
