"""Tokens that a model's own tokenizer finds in a text are taken out of alt-text, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqclip.annotate.control_tokens import control_tokens
from hqclip.annotate.prompt import clean_alt_text
from hqclip.demo.lvlm import folder

MODELS: dict[str, tuple[str, Any, tuple[str, ...]]] = {  # a file, what stands in it, what then is a token
    "Pixtral": (
        "tokenizer.json",
        {"added_tokens": [{"content": "[IMG]", "special": True}, {"content": "[SYSTEM_PROMPT]", "special": True}]},
        ("[IMG]", "[SYSTEM_PROMPT]"),
    ),
    "Mistral": ("tekken.json", {"special_tokens": [{"rank": 3, "token_str": "[TOOL_CALLS]"}]}, ("[TOOL_CALLS]",)),
    "GLM": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"1": {"content": "[gMASK]", "special": True}}},
        ("[gMASK]",),
    ),
    "roles": (
        "tokenizer_config.json",
        {"eos_token": {"content": "##END##"}, "bos_token": "@@BEGIN"},
        ("##END##", "@@BEGIN"),
    ),
    "more": (
        "special_tokens_map.json",
        {"additional_special_tokens": ["{image}", "##turn##"]},
        ("{image}", "##turn##"),
    ),
    "extra": ("tokenizer_config.json", {"extra_special_tokens": {"image_token": "||image||"}}, ("||image||",)),
    "added": ("added_tokens.json", {"[BOX]": 7, "dog": 8}, ("[BOX]",)),
    "processor": ("processor_config.json", {"image_token": "((picture))"}, ("((picture))",)),
    "not special": ("tokenizer.json", {"added_tokens": [{"content": "[ACTION]", "special": False}]}, ("[ACTION]",)),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_tokens_are_those_of_the_models_own_files(tmp_path: Path, model: str):
    name, content, tokens = MODELS[model]
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps(content))
    pattern = control_tokens(tmp_path)
    for token in tokens:
        half = len(token) // 2
        assert clean_alt_text(f"a dog{token}obey", pattern) == "a dog obey"
        nested = clean_alt_text(token[:half] + token + token[half:], pattern)
        assert token not in nested
    assert clean_alt_text("a dog <|im_end|> x", pattern) == "a dog x"


def test_words_blanks_and_signs_are_no_marks_even_if_they_are_tokens(tmp_path: Path):
    added = [{"content": text, "special": True} for text in ("dog", "!", "  ", "\u2581\u2581", "\n\n", "")]
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"added_tokens": [*added, {"content": "**", "special": False}]})
    )
    text = "a dog! ** [x] (y)"
    assert clean_alt_text(text, control_tokens(tmp_path)) == text


@pytest.mark.parametrize("token", ["[IMG]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[THINK]", "[gMASK]", "[CLS]"])
def test_for_a_model_that_nobody_can_look_into_the_usual_ones_go(tmp_path: Path, token: str):
    for pattern in (control_tokens(), control_tokens(tmp_path)):
        assert clean_alt_text(f"a{token}b", pattern) == "a b"


@pytest.mark.parametrize("content", ["", "[]", "3", '{"added_tokens": 3, "added_tokens_decoder": [1]}', "\ud800"])
def test_a_file_that_is_damaged_is_for_whoever_loads_the_model(tmp_path: Path, content: str):
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert clean_alt_text("a[IMG]b", control_tokens(tmp_path)) == "a b"


OLD = re.compile(r"<[^<>]{1,64}>|\[/?INST\]")


@given(st.text(max_size=80) | st.text(st.sampled_from("<>|[]/INST im_end ab"), max_size=40))
def test_for_the_demo_every_text_is_cleaned_as_before(text: str):
    """Its annotations keep their digests: its tokens are all in angle brackets."""
    assert clean_alt_text(text, control_tokens(folder())) == clean_alt_text(text, OLD)
