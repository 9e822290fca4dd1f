"""A response of OpenAI's chat protocol in, its answer out, in whichever of the ways that servers wrap it.

The text may be a string, a part or a list of them, a document, or stand where the reasoning or the arguments of a tool
should; a refusal may be a field, a part, a reason to end, or the code of an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hqclip.annotate.engines.protocol import Answer, Finish

FINISHES = {  # in lower case; everything else ended of itself
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens"), Finish.LENGTH),
    "repetition": Finish.REPETITION,
    **dict.fromkeys(("content_filter", "content_filtered", "refusal", "safety", "recitation"), Finish.REFUSED),
    **dict.fromkeys(("blocklist", "prohibited_content", "spii", "guardrail_intervened"), Finish.REFUSED),
}
GIVEN_UP = ("abort", "error")  # vLLM's, when it did not finish the answer
FILTERED = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed")
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_NO_ANSWER = ("thinking", "reasoning", "redacted_thinking")  # parts of a message
_REASONING = ("reasoning_content", "reasoning")


class GivenUpError(ValueError):
    """The server says itself that it did not finish."""


def read_response(document: Any) -> Answer:
    """The answer in the JSON of a response. Raises `UNREADABLE` for what is none."""
    choice = document["choices"][0]
    ended = str(choice.get("finish_reason") or "").lower()
    if ended in GIVEN_UP:
        raise GivenUpError(f"the server gave the answer up ({ended})")
    message = choice["message"]
    refusal = _refusal(message)
    finish = Finish.REFUSED if refusal else FINISHES.get(ended, Finish.STOP)
    elsewhere = (refusal, _arguments(message), *(_text(message.get(name)) for name in _REASONING))
    text = next((said for said in (_text(message.get("content")), *elsewhere) if said.strip()), "")
    usage = _mapping(document.get("usage"))
    details = _mapping(usage.get("prompt_tokens_details"))
    tokens = (usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens"))
    return Answer(text, finish, *map(_number, tokens))


def refused_by_filter(document: Any) -> bool:
    """Whether an error says that the content is not wanted, by its code."""
    error = document.get("error", document) if isinstance(document, Mapping) else None
    if not isinstance(error, Mapping):
        return False
    inner = error.get("innererror")
    codes = (error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None)
    return any(str(code).lower() in FILTERED for code in codes)


def _text(content: Any) -> str:
    """The text of a message's content; what the model thought is not part of it."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if content.get("type") in _NO_ANSWER:
        return ""
    for name in ("text", "value"):
        if name in content:  # a part of a message
            return _text(content[name])
    return "" if "type" in content else json.dumps(content)  # already read for us


def _arguments(message: Mapping[str, Any]) -> str:
    """Those of the tool that was called last: some servers keep to a schema by having one called."""
    calls = [call.get("function") for call in message.get("tool_calls") or [] if isinstance(call, Mapping)]
    functions = [function for function in [message.get("function_call"), *calls] if isinstance(function, Mapping)]
    return _text(functions[-1].get("arguments")) if functions else ""


def _refusal(message: Mapping[str, Any]) -> str:
    """What the model said instead of an answer."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return "".join(str(part["refusal"]) for part in [message, *parts] if part.get("refusal"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> int:
    """A number of tokens; 0 if the server does not count."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < 2**31 else 0
