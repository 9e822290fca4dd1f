"""How many rows a second one core curates: `OMP_NUM_THREADS=1 python benchmarks/curate_speed.py [ROWS] [RUNS]`.

Texts like those of a web pool, made from a seed: two to four sentences with their negatives, eight tags a list, an
alt-text; one row in fifty has a defect. Times the policy alone, the statistics alone, and the whole stage on a folder
with its Parquet files (the page left out), all in
one process on one core. Writes the medians and the spread to curate_speed.md.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from hqclip.config import CurateConfig
from hqclip.curate import stage as curate
from hqclip.curate.counting import Count
from hqclip.curate.filters import VERSION, Reading, clean
from hqclip.curate.stage import run
from hqclip.data.index import SCHEMA
from hqclip.data.parquet import to_parquet
from hqclip.data.sidecar import CuratedRow, Flag, write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, ShardEntry, Status
from hqclip.store import open_store

SHARD = 10_000
curate.write_dataset_report = lambda *_: "no page"  # it wants pictures, and does not grow with the rows
ADJECTIVES = re.findall(
    r"\w+", "red small wooden bright old striped round tall yellow narrow crowded quiet modern rusty green"
)
NOUNS = re.findall(
    r"\w+", "dog kitchen bicycle woman harbour poster table market guitar street lamp mountain jacket bridge child"
)
VERBS = re.findall(r"\w+", "stands lies leans waits rests hangs sits")
PLACES = ["next to", "in front of", "behind", "under", "on top of", "to the left of", "across from"]
INSTRUCTION = " ".join([*ADJECTIVES, *NOUNS, *VERBS, *PLACES] * 4)


def annotated(rng: np.random.Generator) -> tuple[Annotation, str]:
    """The four texts of one image and its alt-text."""

    def thing() -> str:
        return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"

    desc, false = [], []
    for _ in range(int(rng.integers(2, 5))):
        one, other = thing(), thing()
        rest = f"{rng.choice(VERBS)} {rng.choice(PLACES)} a {other}, while the light of a late {thing()} falls on it"
        desc.append(f"A {one} with a {thing()} {rest}.")
        false.append(desc[-1].replace(one, thing(), 1))
    if rng.random() < 0.02:
        odd = (desc[0], "I cannot see the image.", "Visit https://example.org", "x " * 100)
        false[0], desc[-1] = desc[0], str(rng.choice(odd))
    tags, neg_tags = (tuple(thing() for _ in range(8)) for _ in range(2))
    return Annotation(tags, neg_tags, tuple(desc), tuple(false)), f"{thing()} for sale, {thing()} | free shipping 2024"


def rate(rows: int, work: Callable[[int], object], runs: int) -> list[float]:
    """Rows a second of each run, the first left out: it warms up."""
    rates = []
    for number in range(runs + 1):
        start = time.perf_counter()
        work(number)
        rates.append(rows / (time.perf_counter() - start))
    return rates[1:]


def stage(folder: Path, rows: list[tuple[Annotation, str]]) -> CurateConfig:
    """A store with shards of these rows, indexed and annotated; curation opens no image, so there are none."""
    store, entries = open_store(str(folder)), []
    for first in range(0, len(rows), SHARD):
        part = rows[first : first + SHARD]
        name = f"{first // SHARD:05d}"
        entry = ShardEntry(f"shards/{name}.tar", f"shards/{name}.index.parquet", 1, first, len(part))
        uids = [(first + n).to_bytes(16, "big") for n in range(len(part))]
        columns = {
            "uid": uids, "text": [text for _, text in part], "sha256": [bytes(32)] * len(part),
            **{field: [1] * len(part) for field in ("row", "image_offset", "image_size", "width", "height")},
        }  # fmt: skip
        table = pa.table({field: columns[field] for field in SCHEMA.names}, SCHEMA)
        store.write(entry.index, to_parquet(table, {"crc32c": entry.crc32c, "rows": len(part)}))
        said = [AnnotatedRow(uid.hex(), Status.OK, one, 300, 200) for uid, (one, _) in zip(uids, part, strict=True)]
        write_annotations(store, f"annotations/bench/{name}.parquet", said, entry, "bench")
        entries.append(entry)
    pool = Pool(digest="bench", source="bench", shards=tuple(entries))
    store.write("pools/bench.json", pool.to_json())
    return CurateConfig(store=str(folder), pool="pools/bench.json", annotations="annotations/bench", gate="warn")


def main(count: str = "20000", runs: str = "7") -> None:
    """Measure, and write the table."""
    rng = np.random.default_rng(0)
    rows = [annotated(rng) for _ in range(int(count))]
    reading = Reading.of("en", INSTRUCTION)
    curated = [CuratedRow(f"{n:032x}", Status.OK, one, 300, 200, flags=Flag(0)) for n, (one, _) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        config = stage(Path(folder), rows)
        measured = {
            "filters alone": rate(len(rows), lambda _: [clean(one, alt, reading) for one, alt in rows], int(runs)),
            "statistics alone": rate(len(rows), lambda _: Count().add(curated), int(runs)),
            # another margin is another policy, so every run curates again
            "whole stage with Parquet": rate(
                len(rows), lambda n: run(replace(config, negative_margin=n / 100)), int(runs)
            ),
        }
    lines = [
        "# How fast curation is",
        "",
        f"`python benchmarks/curate_speed.py {count} {runs}`: {count} rows of texts like those of a web pool, filters "
        f"{VERSION}, Python {platform.python_version()}, {platform.machine()}, one process on one of {os.cpu_count()} "
        f"shared CPU cores, {runs} runs after one to warm up.",
        "",
        "| rows/s on one core | median | slowest | fastest |",
        "|---|---|---|---|",
    ]
    for name, rates in measured.items():
        lines.append(f"| {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} | {max(rates):,.0f} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
