"""What `hqclip gc` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.config import STORE
from hqclip.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class GcConfig(Settings):
    """Say what nothing in force refers to: old pools, texts, data sets, checkpoints, models; `--delete` deletes it."""

    store: str = setting(STORE)
    delete: bool = setting("delete it; otherwise it is only said what would go", False)
    days: float = setting("leave what was written within so many days, by the clock of the store", 14.0, minimum=0)
    champions: int = setting("leave the cycles of the last so many champions, with all that they name", 3, minimum=1)
    keep: tuple[str, ...] = setting(
        "leave these too, with all that they name, comma separated, e.g. runs/mine,datasets/0f1e2d3c4b5a6978", ()
    )
    most_minutes: float = setting("stop deleting after so long; the next call goes on", 30.0, minimum=1)
