"""The model card that goes with every exported model."""

from __future__ import annotations

from hqclip import __version__
from hqclip.config import TrainConfig
from hqclip.records import DatasetVersion


def model_card(config: TrainConfig, dataset: DatasetVersion, steps: int, losses: dict[str, float]) -> str:
    """Markdown: what the model is, what it was trained on, how to load it."""
    settings = "\n".join(f"| {k} | {v} |" for k, v in config.lasting().items())
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in losses.items() if name != "step")
    return f"""# {config.run}

A CLIP model ({config.model}) trained by hqclip {__version__} on {steps * config.batch_size:,} samples seen.

Load it with `open_clip.create_model_and_transforms("local-dir:FOLDER")`. `tag_head.safetensors` and `tags.json` hold
the tag classifier that helped training; inference does not need them.

## Data

Data set `{dataset.name}`, version {dataset.digest}: {dataset.usable_rows:,} usable of {dataset.rows:,} samples,
annotator {dataset.annotator}, {dataset.tag_vocabulary:,} tags in the vocabulary. Its texts were written by a
vision-language model and may be wrong; the model inherits the biases of both.

## Settings

| setting | value |
|---|---|
{settings}

## Losses, mean over the last logged steps

| loss | value |
|---|---|
{measured}
"""
