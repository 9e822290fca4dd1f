"""Who annotates: an LVLM, a prompt and a way of asking, under one digest that names the folder of the results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip.annotate.engines.registry import model_digest
from hqclip.annotate.lvlm import UNKNOWN, Family, family_of
from hqclip.annotate.prompt import Prompt, check_prompt, load_prompt
from hqclip.annotate.weights import UNREAD, check_weights
from hqclip.config import LOCAL_ENGINES, AnnotateConfig
from hqclip.errors import ConfigError, NotFoundError, UnavailableError
from hqclip.records import canonical_json, digest_of
from hqclip.store import Store

READER = 2  # raise it when alt-text is cleaned, images are shrunk or answers are read differently
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "lvlm"


@dataclass(frozen=True)
class Annotator:
    """Everything that decides what is written about an image. Batch sizes, windows and threads do not."""

    prompt: Prompt
    model: str
    folder: Path | None
    family: Family
    image_tokens: int
    about: dict[str, Any]

    @classmethod
    def of(cls, config: AnnotateConfig) -> Annotator:
        """What the settings name, with the model's folder found or fetched.

        Raises `ConfigError`, `NotFoundError` and `UnavailableError` for a prompt or a model that cannot be used.
        """
        prompt = load_prompt(config.prompt, config.max_tags, config.max_sentences)
        check_prompt(prompt)
        folder = model_folder(config.model) if config.engine in LOCAL_ENGINES else None
        family = family_of(folder) if folder else UNKNOWN
        if folder:
            check_weights(folder)
        image_tokens = config.image_tokens or family.image_tokens
        about = {
            "engine": config.engine,
            "model_digest": folder_digest(folder) if folder else model_digest(config),
            "prompt": prompt.name,
            "prompt_digest": prompt.digest,
            "image_tokens": image_tokens,
            **{name: getattr(config, name) for name in DECIDING},
            "reader": READER,
        }
        return cls(prompt, config.model, folder, family, image_tokens, about)

    @property
    def digest(self) -> str:
        """Names the annotator by content: where its model lies does not matter."""
        return digest_of(self.about)

    @property
    def lvlm(self) -> dict[str, str]:
        """The model by name, the revision of the hub that it is of (empty for others), and its content."""
        return {"model": self.model, "revision": _revision(self.folder), "digest": self.about["model_digest"]}

    def write(self, store: Store, provenance: Mapping[str, Any]) -> str:
        """Spell the annotator out in `annotator.json`, the first time; the folder of its results."""
        folder = f"annotations/{self.digest}"
        if not store.exists(f"{folder}/annotator.json"):
            about = {**self.about, "model": self.model, "instruction": self.prompt.system, "provenance": provenance}
            store.write(f"{folder}/annotator.json", canonical_json(about), create_only=False)
        return folder


DECIDING = (
    *("max_new_tokens", "max_alt_tokens", "temperature", "attempts", "grammar", "max_model_len", "engine_options"),
)


def model_folder(name: str) -> Path:
    """Where the LVLM lies: `demo` is the one of this package, a folder is itself, other names are of the hub."""
    if name == "demo":
        return DEMO_MODEL
    if Path(name).is_dir():
        return Path(name)
    if name.startswith(("/", "./", "../")) or name.count("/") > 1:
        raise NotFoundError(f"model {name!r}: there is no such folder; give the folder of an LVLM, or a hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, ignore_patterns=list(UNREAD)))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(f"model {name!r} is neither a folder nor on the hub: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UnavailableError(f"model {name!r} is not a folder, and the hub does not give it: {error}") from error


def _revision(folder: Path | None) -> str:
    """The commit of the hub that a folder of its cache holds, which is called after it."""
    return folder.name if folder and folder.parent.name == "snapshots" else ""


def folder_digest(folder: Path) -> str:
    """SHA-256 over the files that make the model: weights, configs, tokenizer; not its README."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model"):
            total.update(path.name.encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
