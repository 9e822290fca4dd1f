"""GPU-seconds in, dollars out: what annotation cost, and what it will cost for more images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def price_of(device: str, prices: Sequence[str]) -> float | None:
    """USD per GPU-hour by a table of `word=price`: the first whose word the device's name has; None without one."""
    words = device.replace("-", " ").split()
    table = (entry.partition("=") for entry in prices)
    return next((float(price) for word, _, price in table if word in words), None)


def priced(work: Mapping[str, Any], prices: Sequence[str]) -> dict[str, float]:
    """`usd` and `usd_per_million_images` of work whose GPUs have a price; nothing where no GPU worked."""
    price = price_of(" ".join(work["devices"]), prices)
    if price is None or not work["gpu_seconds"] or not work["images"]:
        return {}
    usd = work["gpu_seconds"] / 3600 * price
    return {"usd_per_gpu_hour": price, "usd": usd, "usd_per_million_images": usd / work["images"] * 1e6}


def estimate(work: Mapping[str, Any], images: int, prices: Sequence[str]) -> dict[str, float]:
    """GPU-hours, and dollars if there is a price, for so many images at the pace of `work`."""
    if not work["gpu_seconds"] or not work["images"]:
        return {}
    hours = work["gpu_seconds"] / work["images"] * images / 3600
    price = price_of(" ".join(work["devices"]), prices)
    return {"images": images, "gpu_hours": hours, **({"usd": hours * price} if price is not None else {})}
