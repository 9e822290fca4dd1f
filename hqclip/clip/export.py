"""A model by its name in, a folder out that transformers loads as `CLIPModel` and `CLIPProcessor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from hqclip.clip import transformers_form
from hqclip.clip.sources import AGAIN, model_files
from hqclip.config import ExportTransformersConfig
from hqclip.errors import ConflictError, DataError
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.foreign import translated
from hqclip.store import open_store
from hqclip.store.documents import parse_json
from hqclip.store.leftovers import scratch_folder


def run(config: ExportTransformersConfig) -> dict[str, Any]:
    """Write `config.model` to the folder `config.out`, whole or not at all.

    Raises `ConflictError` if the folder is there, `ConfigError` for a model that has no such form, and what the model's
    name may raise.
    """
    out = Path(config.out)
    if out.exists():
        raise ConflictError(f"{out} is there already; give another --out, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with model_files(open_store(config.store), config.model) as files, scratch_folder(out.parent) as scratch:
        told = parse_json((files.folder / CONFIG).read_bytes(), f"{files.where}/{CONFIG}", AGAIN)
        with translated(f"{files.where}/{WEIGHTS}"):
            weights = load_file(files.folder / WEIGHTS)
        made = scratch / "model"
        made.mkdir()
        try:
            transformers_form.write(made, told, weights, files.where)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{files.where}/{CONFIG} is damaged ({error!r}); {AGAIN}") from error
        made.rename(out)
    return {"model": config.model, "model_digest": files.digest, "folder": str(out)}
