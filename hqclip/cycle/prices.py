"""A table of prices and a device in, dollars of a GPU-hour out, from low to high."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hqclip.config import AnnotateConfig
from hqclip.errors import ConfigError
from hqclip.launch.profiles import read_profiles

CHEAPER, DEARER = 0.7, 1.5  # a price to plan with stands for this range: long reservations to small clouds on demand
_PRICE = re.compile(r"(?P<word>\w+)=(?P<low>\d+(\.\d+)?)(-(?P<high>\d+(\.\d+)?))?", re.ASCII).fullmatch


@dataclass(frozen=True)
class Price:
    """USD of a GPU-hour, from `low` to `high`, of devices whose name has `word`."""

    word: str
    low: float
    high: float


def price_range(device: str, prices: Sequence[Price]) -> tuple[float | None, float | None]:
    """Low and high of the device's price; those of the whole table where the device is not known."""
    words = {word.lower() for word in re.findall(r"\w+", device.replace("_", " "))}
    fitting = [price for price in prices if price.word.lower() in words][:1]
    if not fitting and not words:
        fitting = list(prices)
    return min((p.low for p in fitting), default=None), max((p.high for p in fitting), default=None)


def read_prices(table: Sequence[str] = ()) -> list[Price]:
    """`H100=2.5-4.0`, `L4=0.7`; without any, the figures to plan with, widened. Raises `ConfigError`."""
    if not table:
        planned = (entry.partition("=") for entry in default_prices())
        return [Price(word, CHEAPER * float(usd), DEARER * float(usd)) for word, _, usd in planned]
    prices = []
    for entry in table:
        match = _PRICE(entry)
        if match is None or float(match["high"] or match["low"]) < float(match["low"]):
            raise ConfigError(f"--gpu-prices: {entry!r} is not like H100=2.5-4.0")
        prices.append(Price(match["word"], float(match["low"]), float(match["high"] or match["low"])))
    return prices


def device_of(machine: Mapping[str, Any]) -> str:
    """Words that tell the device of a launch spec; "" for none."""
    about = str(read_profiles()["profiles"].get(machine.get("profile", ""), {}).get("about", ""))
    return " ".join([about, *machine.get("node_selector", ())])


def default_prices() -> tuple[str, ...]:
    """The figures to plan with, which `annotate.gpu_prices` has where nobody says otherwise."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(AnnotateConfig)}
    return tuple(defaults["gpu_prices"])
