"""Settings of `hqclip distill`."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.config import ENGINES, LOCAL_ENGINES, PLACES, STORE, THREADS
from hqclip.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Settings):
    """Teach an LVLM to annotate as a teacher does, with LoRA, and judge it on images of no lesson."""

    store: str = setting(STORE)
    pool: str = setting("pool manifest, as printed by `hqclip download`")
    teacher: str = setting(f"LVLM that teaches: what its server calls it, {PLACES}")
    teacher_engine: str = setting("what runs the teacher", "openai", choices=ENGINES)
    server: str = setting("for the openai engine: root of the teacher's server, e.g. https://host/v1", "")
    plain_http: bool = setting("send OPENAI_API_KEY also in clear (http://) to other machines", False)
    recording: str = setting("for the replay engine: file of the teacher's recorded answers", "")
    model: str = setting(f"LVLM that is taught: {PLACES}", "Qwen/Qwen2-VL-7B-Instruct")
    engine: str = setting("what runs the pupil when it is judged", "transformers", choices=LOCAL_ENGINES)
    out: str = setting("folder for the taught model; empty keeps it in the store, if that is a folder", "")
    prompt: str = setting("prompt of teacher and pupil: a built-in name or a text file", "web-1")
    max_tags: int = setting("most tags in each list of an answer", 10, minimum=1, maximum=32)
    max_sentences: int = setting("most sentences in each list of an answer", 4, minimum=1, maximum=32)
    max_new_tokens: int = setting("tokens an answer may have", 400, minimum=16, maximum=2**17)
    max_alt_tokens: int = setting("tokens of alt-text shown to both", 64, minimum=1)
    image_tokens: int = setting("tokens an image may cost the pupil; 0 leaves it to its family", 0, minimum=0)
    samples: int = setting("images to learn from", 10_000, minimum=1, maximum=1_000_000)
    held_out: int = setting("further images to judge on", 500, minimum=1, maximum=100_000)
    in_flight: int = setting("requests kept inside the teacher's engine; 0 leaves it to the engine", 16, minimum=0)
    timeout_s: float = setting("seconds an answer may take", 300.0, above=0)
    ready_s: float = setting("seconds an engine may take to be ready", 600.0, above=0)
    busy_s: float = setting("seconds to go on asking an engine that answers nobody", 600.0, minimum=0)
    budget_usd: float = setting("what the teacher's answers may cost in all; 0 sets no limit", 0.0, minimum=0)
    usd_per_million_input: float = setting("price of the teacher: USD per million tokens read", 0.0, minimum=0)
    usd_per_million_output: float = setting("price of the teacher: USD per million tokens written", 0.0, minimum=0)
    max_fault_rate: float = setting(
        "share of the teacher's answers that may be unusable before nothing is taught", 0.2, minimum=0, maximum=1
    )
    rank: int = setting("of the LoRA matrices", 16, minimum=1, maximum=1024)
    alpha: float = setting("of LoRA: the update is scaled by alpha / rank", 32.0, above=0)
    learning_rate: float = setting("peak of the cosine schedule", 1e-4, above=0)
    epochs: float = setting("times every answer is learned from", 2.0, above=0)
    batch_size: int = setting("answers a step", 16, minimum=1)
    micro_batch: int = setting("answers in memory at a time; divides batch_size", 4, minimum=1)
    gradient_checkpointing: bool = setting("spend time to save memory", True)
    seed: int = setting("decides the draw of images, the order of lessons and the initial LoRA weights", 0, minimum=0)
    min_valid: float = setting(
        "share of valid answers, without grammar, that the taught model must reach", 0.99, minimum=0, maximum=1
    )
    margin: float = setting(
        "how much less than the untaught model it may agree with the teacher", 0.0, minimum=-1, maximum=1
    )
    threads: int = setting(THREADS, 0, minimum=0, maximum=1024)

    def conflicts(self) -> list[str]:
        """A budget without prices, batches that do not add up."""
        problems = []
        if self.budget_usd and not self.usd_per_million_input + self.usd_per_million_output:
            problems.append("budget_usd needs prices: give usd_per_million_input and usd_per_million_output")
        if self.batch_size % self.micro_batch:
            problems.append(f"micro_batch is {self.micro_batch}, which does not divide batch_size {self.batch_size}")
        return problems
