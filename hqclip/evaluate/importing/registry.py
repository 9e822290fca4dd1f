"""The layouts by name. `hqclip/evaluate/config.py` lists the names for flags."""

from __future__ import annotations

from hqclip.evaluate.importing.aro import Aro
from hqclip.evaluate.importing.captions import Captions
from hqclip.evaluate.importing.clip_benchmark import ClipBenchmark
from hqclip.evaluate.importing.image_folder import ImageFolder
from hqclip.evaluate.importing.mmvp import Mmvp
from hqclip.evaluate.importing.protocol import Layout
from hqclip.evaluate.importing.sugarcrepe import SugarCrepe
from hqclip.evaluate.importing.urban1k import Urban1k
from hqclip.evaluate.importing.valse import Valse
from hqclip.evaluate.importing.winogavil import Winogavil
from hqclip.evaluate.importing.winoground import Winoground

LAYOUTS: dict[str, type[Layout]] = {
    "clip_benchmark": ClipBenchmark,
    "image_folder": ImageFolder,
    "captions": Captions,
    "sugarcrepe": SugarCrepe,
    "aro": Aro,
    "winoground": Winoground,
    "valse": Valse,
    "mmvp": Mmvp,
    "urban1k": Urban1k,
    "winogavil": Winogavil,
}
