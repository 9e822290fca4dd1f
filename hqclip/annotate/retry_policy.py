"""What is asked after a fault: warmer, or bound to the schema; the same image and attempt always ask the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hqclip.annotate.engines.protocol import Request
from hqclip.config import AnnotateConfig
from hqclip.data.images import Pixels
from hqclip.records import Status

TEMPERATURES = (0.0, 0.5, 0.8)  # by level; the last one stays
OF_FORM = (Status.NOT_JSON, Status.WRONG_SHAPE, Status.EMPTY)  # a grammar can mend these without more warmth
STUCK = (Status.REPEATED, Status.REFUSED)  # a little warmth seldom helps: two levels at once


@dataclass(frozen=True)
class RetryPolicy:
    """How often an image is asked about, and how. `grammar` is always, on_retry or off."""

    attempts: int
    temperature: float
    grammar: str

    @classmethod
    def of(cls, config: AnnotateConfig) -> RetryPolicy:
        """That of the settings."""
        return cls(config.attempts, config.temperature, config.grammar)

    def request(
        self, uid: str, image: Pixels, alt_text: str, sha256: str = "", faults: tuple[Status, ...] = ()
    ) -> Request:
        """The next request about an image whose earlier attempts ended in `faults`."""
        return Request(
            uid,
            image,
            alt_text,
            temperature=self._temperature(faults),
            seed=_seed(uid, len(faults) + 1),
            grammar=self.grammar == "always" or (self.grammar == "on_retry" and bool(faults)),
            sha256=sha256,
        )

    def _temperature(self, faults: tuple[Status, ...]) -> float:
        level = sum(2 if fault in STUCK else 1 for fault in faults if fault != Status.TIMED_OUT)
        if self.grammar == "on_retry" and faults and faults[0] in OF_FORM:
            level -= 1  # the grammar came in with the second attempt; that alone may do
        return max(self.temperature, TEMPERATURES[min(level, len(TEMPERATURES) - 1)])


def _seed(uid: str, attempt: int) -> int:
    """31 bits that depend on the image and the attempt alone."""
    return int.from_bytes(hashlib.sha256(f"{uid}-{attempt}".encode()).digest()[:4], "big") >> 1
