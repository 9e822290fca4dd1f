"""What a kind of benchmark is: its data, the texts it asks for, how it scores, and what reports call it.

Its facts need no torch, so plans and reports may ask for them; `measure` imports torch itself. It is given embeddings
and no model, so these may come from anywhere, in parts or from a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from hqclip.data.rules import Rule

if TYPE_CHECKING:
    from torch import Tensor

    from hqclip.data.scoring import Array

Read = Callable[[Sequence[str]], Sequence[Hashable]]  # what a reader makes of texts: equal where they are one to it


class Measured(NamedTuple):
    """How one model did: `values[metric]` is 0 or 1 for most items, and every metric counts its own items.

    `groups[metric]` names the kind of each item, where a metric has kinds; `rules[metric]` says how its score is made,
    if not as the mean over kinds. `figures` are what else is to be told and not made of items; `confusion` is what was
    taken for what. Names as in CLIP_benchmark, where it has one.
    """

    values: Mapping[str, Array]
    groups: Mapping[str, Sequence[str]]
    figures: Mapping[str, float]
    confusion: dict[str, Any] | None = None
    rules: Mapping[str, Rule] = MappingProxyType({})


class Benchmark(Protocol):
    """A frozen dataclass, on disk as the JSON of its fields and `kind`, without fields that are at their default.

    Where benchmarks of a kind differ in what counts, a field `main` (by default "") names the metric that is the main
    one instead of those of `MAIN`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    KIND: ClassVar[str]
    TITLE: ClassVar[str]
    MEANING: ClassVar[str]
    """What is asked, in a sentence or two for the page."""
    METRICS: ClassVar[Mapping[str, str]]
    """Every metric of `Measured.values` with its title."""
    MAIN: ClassVar[Sequence[str]]
    """The metrics whose mean is the main one."""
    ASKED: ClassVar[str]
    """What `one_text` is about, in the plural."""
    ALIKE: ClassVar[float]
    """The share of them that a set may have, as published sets do, of texts that differ in capitals or blanks alone."""

    @property
    def name(self) -> str:
        """Unlike that of every other benchmark of the suite."""
        ...

    @property
    def uids(self) -> Sequence[str]:
        """The images that are asked for, in the order in which `measure` gets them; an image may come again."""
        ...

    def faults(self) -> Iterator[str]:
        """What is wrong with the content, a sentence each that names the field; nothing if it can be scored.

        The fields may hold anything: they come from a file. Only `name` is checked before. `checks` helps.
        """
        ...

    def texts(self) -> Mapping[str, Sequence[str]]:
        """Every text that is asked for, in columns of any lengths."""
        ...

    def one_text(self, read: Read, /) -> Sequence[str]:
        """Of each that is asked, a text of it that is one with a text from which it is to be told; "" if there is none.

        Whoever reads so cannot answer that, and what is counted then says nothing of what they see.
        """
        ...

    def first(self, number: int) -> Benchmark:
        """The same with at most so many items, for a smoke run; `spread` makes it."""
        ...

    def measure(self, image_ND: Tensor, texts: Mapping[str, Tensor]) -> Measured:
        """Score unit-length embeddings: (N, D) of `uids` and, for each column of `texts`, (texts, D)."""
        ...
