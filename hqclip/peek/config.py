"""What `hqclip peek` may be told: flags come from here."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class PeekConfig(Settings):
    """Show the first samples of shards, a pool or a data set version: alt-text, the four texts, what is wrong."""

    shards: str = setting("shards as `download` takes them: a file, a folder or a range, local, gs:// or s3://", "")
    store: str = setting("store of the pool or data set: gs://bucket/prefix, s3://bucket/prefix or a folder", "")
    pool: str = setting("pool manifest in the store, e.g. pools/0123456789abcdef.json", "")
    annotations: str = setting("annotations of the pool to show with it, e.g. annotations/0123456789abcdef", "")
    dataset: str = setting("data set version in the store, e.g. datasets/0123456789abcdef/dataset.json", "")
    num: int = setting("how many samples to show", 4, minimum=1, maximum=1000)
    pictures: bool = setting("draw each picture in the terminal, small, where it has colours", False)
    format: str = setting("text for people, or JSON", "text", choices=("text", "json"))

    def conflicts(self) -> list[str]:
        """One source, and the store where that is one of its documents."""
        given = [name for name in ("shards", "pool", "dataset") if getattr(self, name)]
        problems = (
            [] if len(given) == 1 else [f"give one of shards, pool and dataset, not {' and '.join(given) or 'none'}"]
        )
        if (self.pool or self.dataset) and not self.store:
            problems.append("store is missing: pool and dataset are in one")
        if self.annotations and not self.pool:
            problems.append("annotations belong to a pool: give --pool, too")
        return problems
