"""The LVLM through transformers' `generate`: for laptops and tests, exact and slow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils.logging import disable_progress_bar

from hqclip.annotate.engine import Answer, Request
from hqclip.annotate.prompt import Prompt
from hqclip.errors import ConfigError


class TransformersEngine:
    """Greedy decoding in float32, a batch at a time, padded on the left. Raises `ConfigError` if it does not load."""

    def __init__(self, model: str, prompt: Prompt, max_new_tokens: int, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        disable_progress_bar()
        try:
            self._processor = AutoProcessor.from_pretrained(model)
            self._model = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"model {model!r} does not load as an image-text model: {error}") from error
        self._prompt = prompt
        self._max_new_tokens = max_new_tokens
        self._end = set(_as_list(self._model.generation_config.eos_token_id))

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer a request. If a batch fails, its requests are tried alone, so one of them fails alone."""
        try:
            return self._generate(requests)
        except (RuntimeError, ValueError) as error:
            if len(requests) == 1:
                return [Answer("", False, 0, 0, error=f"{type(error).__name__}: {error}")]
            return [answer for request in requests for answer in self.answer([request])]

    @torch.inference_mode()
    def _generate(self, requests: Sequence[Request]) -> list[Answer]:
        chats = [
            self._processor.apply_chat_template(
                self._prompt.messages(request.alt_text), tokenize=False, add_generation_prompt=True
            )
            for request in requests
        ]
        inputs = self._processor(
            text=chats,
            images=[request.image for request in requests],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        ids = self._model.generate(**inputs, max_new_tokens=self._max_new_tokens, do_sample=False)
        width = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(1).tolist()
        return [self._read(row, n) for row, n in zip(ids[:, width:].tolist(), prompt_tokens, strict=True)]

    def _read(self, ids: list[int], prompt_tokens: int) -> Answer:
        stop = next((i for i, token in enumerate(ids) if token in self._end), None)
        said = ids[: len(ids) if stop is None else stop]
        text = self._processor.tokenizer.decode(said, skip_special_tokens=True)
        return Answer(text, stop is not None, prompt_tokens, len(said) + (stop is not None))


def _as_list(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]
