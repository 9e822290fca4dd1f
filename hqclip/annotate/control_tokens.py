"""The folder of an LVLM in, what a text must not contain out: the tokens with which its tokenizer speaks of turns,
images and tools. A tokenizer finds them in any text, so alt-text that holds one could end its turn or claim a picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Whatever stands in angle brackets: chat tokens of most families, HTML, and the marks around the alt-text.
BRACKETS = re.compile(r"<[^<>]{1,64}>|\[/?INST\]")
KNOWN = (  # those in square brackets, for a model whose tokenizer nobody can look into: Mistral, Pixtral, GLM, BERT
    *("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]"),
    *("[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[THINK]"),
    *("[/THINK]", "[AUDIO]", "[BEGIN_AUDIO]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[MODEL_SETTINGS]"),
    *("[/MODEL_SETTINGS]", "[gMASK]", "[sMASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[BOS]", "[EOS]"),
)
FILES = (  # in which tokenizers and processors name them
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tekken.json"),
    *("processor_config.json", "preprocessor_config.json"),
)
_SHORTEST = 3  # a padding token may be "!"


def control_tokens(folder: Path | None = None) -> re.Pattern[str]:
    """What is taken out of texts for the model in a folder; without a folder, or a tokenizer in it, the usual ones."""
    found: set[str] = set()
    for name in FILES if folder else ():
        if folder and (folder / name).is_file():
            found |= set(_named_in(_read(folder / name), name))
    has_tokenizer = folder is not None and ((folder / "tokenizer.json").is_file() or (folder / "tekken.json").is_file())
    return _pattern(found if has_tokenizer else {*found, *KNOWN})


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches all of them, the longer first; most are in brackets anyway."""
    own = {token for token in tokens if _is_mark(token) and not BRACKETS.fullmatch(token)}
    return re.compile("|".join([*map(re.escape, sorted(own, key=len, reverse=True)), BRACKETS.pattern]))


def _is_mark(token: str) -> bool:
    """Not a word, a blank or a sign of punctuation that happens to be special."""
    return len(token) >= _SHORTEST and bool(token.strip()) and not re.fullmatch(r"[\w\s\u2581]+", token)


def _named_in(document: Any, name: str) -> Iterator[str]:
    """The tokens that one file names. Added ones that are not special count where they look like marks."""
    if not isinstance(document, Mapping):
        return
    if name == "added_tokens.json":
        yield from filter(_looks_like_a_mark, document)
    decoder = document.get("added_tokens_decoder")
    listed = [document.get("added_tokens"), list(decoder.values()) if isinstance(decoder, Mapping) else None]
    for entry in (entry for entries in listed if isinstance(entries, list) for entry in entries):
        text = _text(entry)
        if isinstance(entry, Mapping) and entry.get("special") or _looks_like_a_mark(text):
            yield text
    for key, value in document.items():
        if key.endswith("special_tokens") or (key.endswith("_token") and name != "tokenizer.json"):
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    """Of a token, a list of them, or a table of them by name."""
    if isinstance(value, list):
        for item in value:
            yield _text(item)
    elif isinstance(value, Mapping) and "content" not in value and "token_str" not in value:
        yield from map(_text, value.values())
    else:
        yield _text(value)


def _text(token: Any) -> str:
    found = token.get("content", token.get("token_str")) if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else ""


def _looks_like_a_mark(text: str) -> bool:
    return text[:1] in tuple("<[") and text[-1:] in tuple(">]")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # who loads the model says so
