"""A `Cost` in, what it comes to in figures out."""

from __future__ import annotations

from collections.abc import Iterable

from hqclip.report.markup import Html, duration, percent, tag, whole
from hqclip.report.refinement import Cost

Figure = tuple[str, str]  # what it is called, and its value as it reads


def figure_list(figures: Iterable[Figure]) -> Html:
    """Large numbers with their names below."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures), class_="figures")


def key_figures(cost: Cost) -> list[Figure]:
    """What one asks first: tokens an image, pace, price."""
    figures = []
    if cost.images and cost.output_tokens:
        figures.append(("output tokens an image", decimal(cost.output_tokens / cost.images)))
    if cost.gpu_seconds:
        figures.append(("GPU time", duration(cost.gpu_seconds)))
    if cost.images_per_second:
        figures.append(("images a second", decimal(cost.images_per_second)))
    if cost.usd_per_million_images is not None:
        figures.append(("a million images", dollars(cost.usd_per_million_images)))
    return figures


def all_figures(cost: Cost) -> list[Figure]:
    """Everything that is known, for a table."""
    figures = [("images annotated", whole(cost.images))]
    tokens = (("prompt", cost.prompt_tokens), ("cached prompt", cost.cached_tokens), ("output", cost.output_tokens))
    figures += [(f"{name} tokens", _tokens(number, cost.images)) for name, number in tokens if number]
    if cost.device or cost.gpus:
        figures.append(("device", " × ".join(filter(None, [str(cost.gpus or ""), cost.device or "GPU"]))))
    if cost.gpu_seconds:
        figures.append(("GPU time", f"{duration(cost.gpu_seconds)} ({decimal(cost.gpu_seconds)} GPU-seconds)"))
    if cost.gpu_seconds and cost.images:
        figures.append(("GPU-seconds for 1000 images", decimal(1000 * cost.gpu_seconds / cost.images)))
    if cost.images_per_second:
        figures.append(("images a second, one process", decimal(cost.images_per_second)))
    shares = (("window full", cost.window_full_share), ("GPU busy", cost.gpu_busy_share))
    figures += [(name, f"{percent(share)} of the time") for name, share in shares if share is not None]
    prices = (
        ("price of a GPU-hour", cost.usd_per_gpu_hour),
        ("cost", cost.usd),
        ("cost of a million images", cost.usd_per_million_images),
    )
    return figures + [(name, dollars(usd)) for name, usd in prices if usd is not None]


def estimate_in_words(cost: Cost) -> str:
    """`All 1 000 000 images: 36.1 GPU-hours, about $108.`; empty without an estimate."""
    estimate = cost.estimate
    if estimate is None:
        return ""
    price = f", about {dollars(estimate.usd)}" if estimate.usd is not None else ""
    return f"All {whole(estimate.images)} images at this pace: {decimal(estimate.gpu_hours)} GPU-hours{price}."


def dollars(usd: float) -> str:
    """`$0.042`, `$12.30`, `$1 234`."""
    return f"${usd:.3g}" if usd < 1 else f"${usd:.2f}" if usd < 100 else f"${whole(round(usd))}"


def decimal(value: float) -> str:
    """Three digits, or all of a larger number: 0.0345, 2.71, 118, `1 234`."""
    if value >= 1000:
        return whole(round(value))
    return f"{value:.3g}"


def _tokens(number: int, images: int) -> str:
    return f"{whole(number)} ({decimal(number / images)} an image)" if images else whole(number)
