"""The folder of an LVLM in, a refusal out: of weights that are no safetensors covered by its digest, and of code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hqclip.errors import ConfigError
from hqclip.models.contents import SAFE

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".npz", ".gguf")


def check_weights(folder: Path) -> None:
    """Raises `ConfigError` for a model whose weights are not all safetensors in this very folder, or with an adapter.

    Other formats are pickles, which run code when they are read, or are not what the model's digest covers.
    """
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{folder} holds an adapter, which lies on weights from elsewhere: merge it into its model "
            "(peft: merge_and_unload, then save_pretrained) and give the folder of the result"
        )
    names = sorted(path.name for path in folder.iterdir())
    if not any(name.endswith(SAFE) for name in names):
        others = [name for name in names if name.endswith(_PICKLES)]
        raise ConfigError(
            f"{folder} has no weights in safetensors{f', only {others[0]}' if others else ''}: other formats are not "
            "read, because they can run code; take a revision of the model that has them (on the hub: name@revision), "
            "or convert it where you trust it: from_pretrained(...), then save_pretrained(...) writes safetensors"
        )
    for name in names:
        if name.endswith(f"{SAFE}.index.json"):
            _check_index(folder / name)
    for key, value in _settings(_read(folder / "config.json")):
        if key.endswith("attn_implementation") and "/" in str(value):
            raise ConfigError(f"{folder}/config.json asks for code of a hub ({key}: {value!r}): take that line out")


def _check_index(path: Path) -> None:
    """Every file that an index of weights names lies beside it."""
    named = _read(path).get("weight_map")
    for name in sorted(set(map(str, named.values()))) if isinstance(named, Mapping) else []:
        if "/" in name or "\\" in name or not name.endswith(SAFE) or not (path.parent / name).is_file():
            raise ConfigError(
                f"{path} names {name!r}, which is no {SAFE} file beside it: fetch the model anew, or save it again "
                "with save_pretrained(...)"
            )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); fetch the model anew") from error
    return document if isinstance(document, Mapping) else {}


def _settings(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _settings(value)
