"""Further arguments of vLLM as JSON in, what is wrong with them out: they tune the engine and bring nothing to run.

A model is its weights (safetensors of its own folder, which its digest covers) and vLLM's code for it. So refused are
arguments that run the code of a model's author or of a module named in them, that unpickle, or that read weights,
tokenizers and adapters from elsewhere. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hqclip.strict_json import read_json

LOAD_FORMATS = ("auto", "safetensors", "fastsafetensors", "bitsandbytes", "mistral", "runai_streamer", "dummy")
EXECUTORS = ("mp", "uni", "ray", "external_launcher")
_CODE = "it runs code that is no part of vLLM"
_ELSEWHERE = "it reads what the model's digest does not cover; put everything into one folder, and name that as --model"
_REFUSED = {  # by name, at any depth
    **dict.fromkeys(("trust_remote_code", "code_revision", "auto_map", "logits_processors", "inductor_passes"), _CODE),
    **dict.fromkeys(("kv_transfer_config", "ec_transfer_config", "weight_transfer_config"), _CODE),
    "logits_processor_pattern": _CODE,
    **dict.fromkeys(("model", "tokenizer", "model_weights", "default_mm_loras", "lora_modules"), _ELSEWHERE),
    "qlora_adapter_name_or_path": _ELSEWHERE,
    "hf_token": "a key would be kept with the results; set HF_TOKEN in the environment",
}
_REFUSED_ENDINGS = {  # as vLLM calls classes and modules that it imports, and places that it reads
    **dict.fromkeys(("_cls", "_class", "_plugin", "_plugins", "_module_path", "_qualname", "_pass"), _CODE),
    **dict.fromkeys(("_path", "_uri", "_url"), _ELSEWHERE),
}
_ONLY = {  # what else a name may be is a module or a pickle
    "load_format": (LOAD_FORMATS, "weights are read from safetensors only"),
    "distributed_executor_backend": (EXECUTORS, _CODE),
    "generation_config": (("auto", "vllm"), _ELSEWHERE),
}


def refusals(text: str) -> list[str]:
    """What is wrong with `engine_options`, a sentence each."""
    try:
        options = read_json(text)
    except ValueError as error:
        return [f"engine_options {error}"]
    if not isinstance(options, dict):
        return ['engine_options must be a JSON object such as {"quantization": "fp8"}']
    return [
        f"engine_options: {name} is not allowed here: {why}"
        for name, value in _settings(options)
        if value not in (None, False, "", [], {}) and (why := _refusal(name.rpartition(".")[2], value))
    ]


def _settings(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting at any depth, by its path."""
    for name, value in options.items():
        yield above + name, value
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from _settings(inner, f"{above}{name}.")


def _refusal(name: str, value: Any) -> str:
    """Why a setting may not be given; empty if it may."""
    name = name.replace("-", "_")
    if name in _ONLY:
        allowed, why = _ONLY[name]
        return "" if value in allowed else f"{why}; give one of {', '.join(allowed)}"
    if name in _REFUSED:
        return _REFUSED[name]
    if name.endswith("attn_implementation") and "/" in str(value):
        return _CODE
    if name in ("backend", "tokenizer_mode", "config_format", "method") and (value == "custom" or "." in str(value)):
        return _CODE
    return next((why for ending, why in _REFUSED_ENDINGS.items() if name.endswith(ending)), "")
