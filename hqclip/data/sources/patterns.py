"""What people write to name shards: folders, ranges and globs, joined by commas."""

from __future__ import annotations

import re

from hqclip.data.sources.protocol import ENDINGS
from hqclip.errors import ConfigError
from hqclip.store import split_uri

MAX_NAMES = 2_000_000
MAX_DIGITS = 18
WILD = re.compile(r"[*?\[]")
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")


def split_patterns(pattern: str) -> list[str]:
    """Split at commas; a folder stands for what is in it. Raises `ConfigError` if nothing is left."""
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    if not parts:
        raise ConfigError("no shards are named; give a folder, a range such as a/{00000..00099}.tar, or a glob")
    return [part if part.endswith(ENDINGS) else part.rstrip("/") + "/*" for part in parts]


def split_pattern(pattern: str) -> tuple[str, str]:
    """The folder, and what names the shards in it. Raises `ConfigError` if the folder is no plain one."""
    folder, name = split_uri(pattern)
    if WILD.search(folder) or "{" in folder:
        raise ConfigError(f"{pattern!r}: ranges and globs may stand in the name of the shard only, not in its folder")
    return folder, name


def expand(name: str) -> list[str]:
    """`{08..10}.tar` -> `08.tar`, `09.tar`, `10.tar`. Raises `ConfigError` for an empty or an enormous range."""
    count, names, end = 1, [""], 0
    for match in _RANGE.finditer(name):
        count *= _count(*match.groups())
        if count > MAX_NAMES:
            raise ConfigError(f"shard range {name} names {count:,} shards or more; the limit is {MAX_NAMES:,}")
    for match in _RANGE.finditer(name):
        between, end = name[end : match.start()], match.end()
        numbers = [f"{n:0{len(match[1])}d}" for n in range(int(match[1]), int(match[2]) + 1)]
        names = [head + between + number for head in names for number in numbers]
    return [head + name[end:] for head in names]


def _count(first: str, last: str) -> int:
    if max(len(first), len(last)) > MAX_DIGITS:
        raise ConfigError(f"a shard range has numbers of more than {MAX_DIGITS} digits")
    if int(first) > int(last):
        raise ConfigError(f"shard range {{{first}..{last}}} is empty: the first number is the larger one")
    return int(last) - int(first) + 1
