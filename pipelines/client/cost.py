"""`python -m pipelines cost`: what a cycle will take, said before anything is launched.

The pace comes from what the store has seen: a pilot, or the records of an earlier cycle with the same models. A stage
that nothing is known of is `unknown`, never guessed. Prices are a table of yours, or figures to plan with. What no flag
says, variables and the project file do, as for `hqclip cost`.
"""

from __future__ import annotations

import argparse
import dataclasses

from hqclip.config import CostConfig
from hqclip.cycle.cost.estimate import check_budget, estimate, notes
from hqclip.cycle.cost.storage import storage
from hqclip.errors import ConfigError
from hqclip.presets import PRESETS
from hqclip.store import open_store
from pipelines.client import output
from pipelines.client.output import say, show
from pipelines.client.project_inputs import read_project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--store", help="root of the store: gs:// or s3://bucket/prefix, or a folder")
    parser.add_argument("--shards", help="shards to refine, as for the pipeline's download_shards")
    parser.add_argument("--preset", choices=PRESETS, help="named settings of all stages (small)")
    parser.add_argument("--trials", help="training runs, comma separated recipes (hqclip)")
    parser.add_argument("--overrides", metavar="JSON", help="further settings, as for plan_overrides")
    parser.add_argument("--images", type=int, metavar="N", help="images in the shards, if the store cannot know")
    parser.add_argument("--launch", metavar="FILE", help="machines, as for plan_launch")
    parser.add_argument("--gpu-prices", metavar="TABLE", help="USD per GPU-hour by device, e.g. H100=2.5-4.0,L4=0.7")
    parser.add_argument("--gpu-hours", action="append", metavar="STAGE=HOURS", help="what you know of a stage yourself")
    parser.add_argument("--max-cost", type=float, metavar="USD", help="exit 64 if it may cost more, or nobody can tell")
    parser.add_argument(
        "--storage-price", type=float, metavar="USD", help="per GB-month: also say what the store takes, by kind"
    )
    output.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Print the estimate. Raises `ConfigError` (64) if it may exceed `--max-cost`."""
    if given.images is not None and given.images < 0:
        raise ConfigError(f"--images is {given.images}; give 0 or more")
    known = {field.name for field in dataclasses.fields(CostConfig)}
    said = {name: value for name, value in vars(given).items() if name in known and value is not None}
    config = CostConfig.from_mapping(read_project().under("cost", CostConfig, said))
    rows = estimate(config)
    show(rows, given.output)
    for note in notes(config, rows):
        say(note)
    if config.storage_price >= 0:
        for row in storage(open_store(config.store), config.storage_price):
            say(
                f"stored {row['kind']}: {row['bytes'] / 1e9:,.3f} GB in {row['objects']:,} objects, "
                f"${row['usd_month']:,.2f} a month"
            )
    check_budget(rows, config.max_cost)
    return 0
