"""An LVLM and examples in, a fine-tuned LVLM of the same kind in a folder out: LoRA on its language part, merged.

The chat of an example is the one of inference, rendered by the same prompt over the same pixels; the loss is that of
the answer alone. The vision tower and the embeddings stay as they are.
"""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from hqclip.annotate.lvlm import loading
from hqclip.distill.config import DistillConfig
from hqclip.distill.training_set import Example, TrainingSet, completion
from hqclip.errors import ConfigError
from hqclip.progress import Progress
from hqclip.store.leftovers import scratch_folder

WARMUP = 0.05  # share of the steps
BESIDE_WEIGHTS = (".json", ".jinja", ".txt", ".model")  # tokenizer, processor and chat template are taken over as is


def fine_tune(config: DistillConfig, training_set: TrainingSet, out: Path) -> dict[str, float]:
    """Save the pupil, taught, to the new folder `out`; steps, and nats a token at the first and last step.

    bfloat16 on a GPU, float32 on the CPU; saved in the precision it had. Raises `ConfigError` if the pupil cannot be
    taught.
    """
    base, examples = training_set.pupil.folder, training_set.examples
    assert base is not None, "a pupil is a model in a folder"
    if torch.cuda.device_count() > 1:
        raise ConfigError("there is more than one GPU, teaching uses one: choose it with CUDA_VISIBLE_DEVICES=0")
    if config.threads:
        torch.set_num_threads(config.threads)
    disable_progress_bar()
    model, processor, precision = _load(base)
    rows = Dataset.from_dict({"number": range(len(examples))})
    rows.set_transform(lambda batch: _chats(training_set, [examples[at] for at in batch["number"]]))
    steps = max(1, math.ceil(config.epochs * len(examples) / config.batch_size))
    with scratch_folder() as scratch, Progress("fine-tune", steps, "steps") as progress:
        trainer = SFTTrainer(
            model=model,
            args=_arguments(config, steps, scratch),
            train_dataset=rows,
            processing_class=processor,
            peft_config=_lora(config, model, base),
            callbacks=[_Advance(progress)],
        )
        trainer.remove_callback(PrinterCallback)  # stdout is for results
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    taught = trainer.model.merge_and_unload()
    taught.to(precision).save_pretrained(out)
    _take_over(base, out)
    del trainer, model, taught
    gc.collect()
    torch.cuda.empty_cache()  # the engine that judges wants the memory; does nothing without a GPU
    return {"steps": len(losses), "first_loss": losses[0], "last_loss": losses[-1]}


def _load(base: Path) -> tuple[Any, Any, torch.dtype]:
    """The model in the precision it is trained in, its processor, and the precision it is kept in."""
    with loading(base):
        processor = AutoProcessor.from_pretrained(str(base), trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(
            str(base), dtype="auto", use_safetensors=True, trust_remote_code=False
        )
    precision = model.dtype
    return model.to(torch.bfloat16 if torch.cuda.is_available() else torch.float32), processor, precision


def _lora(config: DistillConfig, model: Any, base: Path) -> LoraConfig:
    """On every linear layer of the language model, and nothing else."""
    names = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and ".language_model." in f".{name}"
    ]
    if not names:
        raise ConfigError(
            f"{base}: no language model is found in this {type(model).__name__}; it cannot be taught here"
        )
    return LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=names, lora_dropout=0.0, task_type="CAUSAL_LM"
    )


def _arguments(config: DistillConfig, steps: int, scratch: Path) -> SFTConfig:
    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(scratch),
        max_length=None,  # cutting would cut image tokens
        completion_only_loss=True,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=config.batch_size // config.micro_batch,
        remove_unused_columns=False,  # the columns are made when an example is looked at
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(WARMUP * steps),
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=config.gradient_checkpointing,
        dataloader_pin_memory=on_gpu,
        seed=config.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _chats(training_set: TrainingSet, examples: Sequence[Example]) -> dict[str, list[Any]]:
    """Columns as the trainer's collator takes them."""
    prompt, images = training_set.pupil.prompt, training_set.images
    answers = [completion(example.response.annotation) for example in examples if example.response.annotation]
    return {
        "images": [[Image.fromarray(images.pixels(example.image))] for example in examples],
        "prompt": [prompt.messages(images.alt_text(example.image)) for example in examples],
        "completion": [[{"role": "assistant", "content": [{"type": "text", "text": answer}]}] for answer in answers],
    }


def _take_over(base: Path, out: Path) -> None:
    """What belongs to the model beside its weights and config, byte by byte."""
    for path in sorted(base.iterdir()):
        known = path.suffix in BESIDE_WEIGHTS and not path.name.endswith(".index.json")
        if known and not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)


class _Advance(TrainerCallback):
    """Moves the progress at every step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by the trainer."""
        self._progress.advance()
