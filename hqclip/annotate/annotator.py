"""Who annotates: an LVLM, a prompt and a way of asking, under one digest that names the folder of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip.annotate.engines.registry import model_digest
from hqclip.annotate.lvlm import UNKNOWN, Family, family_of
from hqclip.annotate.prompt import Prompt, check_prompt, load_prompt
from hqclip.annotate.weights import check_weights
from hqclip.config import LOCAL_ENGINES, AnnotateConfig
from hqclip.models.find import Weights, find
from hqclip.records import canonical_json, digest_of
from hqclip.store import Store

READER = 2  # raise it when alt-text is cleaned, images are shrunk or answers are read differently
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "lvlm"


@dataclass(frozen=True)
class Annotator:
    """Everything that decides what is written about an image. Batch sizes, windows and threads do not."""

    prompt: Prompt
    model: str
    weights: Weights | None
    family: Family
    image_tokens: int
    about: dict[str, Any]

    @classmethod
    def of(cls, config: AnnotateConfig) -> Annotator:
        """What the settings name, with the model's folder found or fetched.

        Raises `ConfigError` for a prompt or a model that cannot be used, and what `find` raises.
        """
        prompt = load_prompt(config.prompt, config.max_tags, config.max_sentences)
        check_prompt(prompt)
        weights = weights_of(config.model) if config.engine in LOCAL_ENGINES else None
        family = family_of(weights.folder) if weights else UNKNOWN
        if weights:
            check_weights(weights.folder)
        image_tokens = config.image_tokens or family.image_tokens
        about = {
            "engine": config.engine,
            "model_digest": weights.digest if weights else model_digest(config),
            "prompt": prompt.name,
            "prompt_digest": prompt.digest,
            "image_tokens": image_tokens,
            **{name: getattr(config, name) for name in DECIDING},
            "reader": READER,
        }
        return cls(prompt, config.model, weights, family, image_tokens, about)

    @property
    def digest(self) -> str:
        """Names the annotator by content: where its model lies does not matter."""
        return digest_of(self.about)

    @property
    def folder(self) -> Path | None:
        """Where the model lies on this machine; None if its engine has it elsewhere."""
        return self.weights.folder if self.weights else None

    @property
    def lvlm(self) -> dict[str, str]:
        """The model by name, the revision of the hub that it is of (empty for others), and its content."""
        revision = self.weights.revision if self.weights else ""
        return {"model": self.model, "revision": revision, "digest": self.about["model_digest"]}

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


def weights_of(name: str) -> Weights:
    """The LVLM of this name: `demo` is the one of this package, any other is as `find` says. Raises what that does."""
    return find(str(DEMO_MODEL) if name == "demo" else name)
