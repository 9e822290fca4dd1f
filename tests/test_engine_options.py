"""What `--engine-options` may tell vLLM: how to work, never what else to run or to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hqclip.config import AnnotateConfig
from hqclip.engine_options import refusals
from hqclip.errors import ConfigError

FINE: list[dict[str, Any]] = [
    {},
    {"quantization": "fp8"},
    {"trust_remote_code": False},
    {"load_format": "bitsandbytes", "quantization": "bitsandbytes"},
    {"distributed_executor_backend": "mp"},
    {"compilation_config": {"level": 3, "backend": "inductor", "cudagraph_capture_sizes": [1, 2]}},
    {"structured_outputs_config": {"backend": "xgrammar"}},
    {"mm_processor_kwargs": {"size": {"longest_edge": 200704}}},
    {"speculative_config": {"method": "ngram", "num_speculative_tokens": 4}},
    {"hf_overrides": {"architectures": ["Qwen2VLForConditionalGeneration"]}},
    {"enable_lora": False, "kv_cache_dtype": "fp8", "generation_config": "vllm"},
]
CODE: list[dict[str, Any]] = [
    {"trust_remote_code": True},
    {"trust-remote-code": 1},
    {"mm_processor_kwargs": {"trust_remote_code": True}},
    {"hf_overrides": {"auto_map": {"AutoModel": "evil.py--Evil"}}},
    {"hf_overrides": {"text_config": {"_attn_implementation": "evil/kernels"}}},
    {"speculative_config": [{"trust_remote_code": True}]},
    {"code_revision": "main"},
    {"worker_cls": "os.system"},
    {"worker_extension_cls": "evil.Worker"},
    {"scheduler_cls": "evil.Scheduler"},
    {"logits_processors": ["evil.Processor"]},
    {"distributed_executor_backend": "evil.Executor"},
    {"kv_transfer_config": {"kv_connector": "Evil", "kv_connector_module_path": "evil"}},
    {"reasoning_parser_plugin": "/tmp/evil.py"},
    {"structured_outputs_config": {"reasoning_parser_plugin": "/tmp/evil.py"}},
    {"io_processor_plugin": "evil"},
    {"tokenizer_mode": "custom"},
    {"compilation_config": {"backend": "evil.backend"}},
    {"compilation_config": {"inductor_passes": {"a": "evil.pass"}}},
    {"compilation_config": {"inductor_compile_config": {"post_grad_custom_post_pass": "evil"}}},
]
ELSEWHERE: list[dict[str, Any]] = [
    {"model": "other/model"},
    {"tokenizer": "other/tokenizer"},
    {"hf_config_path": "/tmp/other"},
    {"speculative_config": {"model": "other/draft"}},
    {"default_mm_loras": {"image": "/tmp/lora"}},
    {"model_loader_extra_config": {"tensorizer_uri": "s3://x"}},
    {"model_loader_extra_config": {"qlora_adapter_name_or_path": "x"}},
    {"generation_config": "/tmp/other"},
    *({"load_format": name} for name in ("pt", "npcache", "gguf", "tensorizer", "evil_plugin")),
]


@pytest.mark.parametrize("options", FINE, ids=json.dumps)
def test_what_tunes_the_engine_is_passed_on(options: dict[str, Any]):
    assert refusals(json.dumps(options)) == []


@pytest.mark.parametrize("options", [*CODE, *ELSEWHERE], ids=json.dumps)
def test_what_brings_code_or_other_weights_is_refused_before_anything_is_read(options: dict[str, Any]):
    said = refusals(json.dumps(options))[0]
    assert said.startswith(f"engine_options: {next(iter(options))}")
    assert ("code that is no part of vLLM" in said) == (options in CODE)
    with pytest.raises(ConfigError, match="is not allowed here"):
        AnnotateConfig(store="s", pool="p", engine_options=json.dumps(options))


def test_a_key_does_not_belong_into_what_is_kept_with_the_results():
    assert "HF_TOKEN in the environment" in refusals('{"hf_token": "hf_x"}')[0]


@pytest.mark.parametrize("text", ["{", "[]", "3", '"a"', "[" * 100_000])
def test_what_is_no_object_is_refused(text: str):
    assert len(refusals(text)) == 1
