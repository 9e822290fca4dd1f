"""The rules of `curate` at a glance: what each finds, what is done about it, and the share at which the stage fails.

Rules are the flags of a row; the statuses that `annotate` left have limits as well. A limit is a share of all rows,
and is only exceeded by `FEWEST` rows or more: a handful says nothing about the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hqclip.data.sidecar import Flag
from hqclip.errors import ConfigError
from hqclip.records import Status
from hqclip.settings import did_you_mean

FEWEST = 20
NO_LIMIT = 1.0


class Effect(StrEnum):
    """What is done about a row that breaks a rule."""

    NOTED = "noted"
    MENDED = "the text in question is taken out or rewritten"
    NEGATIVE = "the negative sentence is emptied in place"
    NEGATIVES = "no negative of the row is trained on"
    ALT_TEXT = "the alt-text is not trained on"
    TEXTS = "the four texts are dropped; the image keeps its alt-text"
    SAMPLE = "the sample is not trained on"


@dataclass(frozen=True)
class Rule:
    """One line of the table; `limit` is the share of rows at which the stage fails."""

    flag: Flag
    meaning: str
    effect: Effect
    limit: float = NO_LIMIT

    @property
    def name(self) -> str:
        """`EASY_NEGATIVE` -> `easy_negative`."""
        return str(self.flag.name).lower()


RULES = (
    Rule(Flag.DUPLICATE_TAGS, "a tag is said twice, or is no word", Effect.MENDED),
    Rule(Flag.TAG_TOO_LONG, "a tag has over 4 words or 40 characters", Effect.MENDED, 0.2),
    Rule(Flag.NEGATIVE_TAG_TRUE, "a negative tag is a tag or is said in a description", Effect.MENDED, 0.3),
    Rule(Flag.DUPLICATE_SENTENCES, "a sentence is said twice", Effect.MENDED, 0.1),
    Rule(Flag.HIDDEN_CHARACTERS, "control, direction or private-use characters", Effect.MENDED, 0.05),
    Rule(Flag.NEGATIVE_REPEATS, "a negative repeats a positive", Effect.NEGATIVE, 0.2),
    Rule(Flag.NEGATIVE_NEARLY_EQUAL, "a negative says what a positive says, or less", Effect.NEGATIVE, 0.2),
    Rule(Flag.NEGATIVE_IN_ALT_TEXT, "a negative is said in the alt-text", Effect.NEGATIVE, 0.1),
    Rule(Flag.NEGATIVE_LOOKS_TRUE, "the champion finds the negatives as true as the positives", Effect.NEGATIVES),
    Rule(Flag.EASY_NEGATIVE, "a negative shares hardly a word with its positive", Effect.NOTED, 0.5),
    Rule(Flag.UNEVEN_PAIRS, "not as many negatives as positives", Effect.NOTED, 0.2),
    Rule(Flag.REFUSAL_TEXT, "a description speaks of the model, or of not seeing the image", Effect.TEXTS, 0.02),
    Rule(Flag.REPEATS_ITSELF, "a description says the same words over and over", Effect.TEXTS, 0.02),
    Rule(Flag.PROMPT_ECHO, "a text repeats eight words of the instruction", Effect.TEXTS, 0.02),
    Rule(Flag.OTHER_SCRIPT, "most letters of a description are not Latin", Effect.TEXTS, 0.05),
    Rule(Flag.OTHER_LANGUAGE, "a description has hardly a common English word", Effect.NOTED, 0.1),
    Rule(Flag.LONG_TEXT, "a sentence is longer than CLIP reads, 77 tokens", Effect.NOTED, 0.2),
    Rule(Flag.CUT_OFF_TEXT, "a sentence ends in the middle", Effect.NOTED, 0.05),
    Rule(Flag.PERSONAL_DATA, "a web or e-mail address, or a phone number", Effect.NOTED, 0.1),
    Rule(Flag.ALT_TEXT_INSTRUCTS, "the alt-text gives orders to a model", Effect.NOTED, 0.05),
    Rule(Flag.INJECTION, "the texts obey the orders of the alt-text", Effect.SAMPLE, 0.01),
    Rule(Flag.LOW_SIMILARITY, "among the descriptions least similar to their image", Effect.SAMPLE),
    Rule(Flag.WEAK_ALT_TEXT, "among the alt-texts least similar to their image", Effect.ALT_TEXT),
    Rule(Flag.DUPLICATE_UID, "the sample is in an earlier shard or row", Effect.SAMPLE, 0.2),
    Rule(Flag.UNREADABLE_IMAGE, "the image cannot be decoded", Effect.SAMPLE, 0.05),
    Rule(Flag.NO_TEXT, "neither alt-text nor description", Effect.SAMPLE, 0.05),
)

STATUS_LIMITS = dict.fromkeys(Status, 0.05) | {
    Status.OK: NO_LIMIT,
    Status.NOT_JSON: 0.02,
    Status.TRUNCATED: 0.02,
    Status.REFUSED: 0.02,
}


def limits(own: Iterable[str] = ()) -> dict[str, float]:
    """The limit of every rule and status by name; `own` are `name=share` and replace defaults. Raises `ConfigError`."""
    known = {str(status): share for status, share in STATUS_LIMITS.items()} | {rule.name: rule.limit for rule in RULES}
    given = [item.partition("=") for item in own]
    if unknown := [name for name, _, _ in given if name not in known]:
        raise ConfigError(
            "\n".join(f"limits: there is no rule or status {name!r}{did_you_mean(name, known)}" for name in unknown)
        )
    return known | {name: float(share) for name, _, share in given}


def exceeded(counts: Mapping[str, int], rows: int, allowed: Mapping[str, float]) -> dict[str, float]:
    """The share of each rule or status that is over its limit, by name."""
    over = {name for name, count in counts.items() if count >= FEWEST and count > allowed[name] * rows}
    return {name: round(counts[name] / rows, 6) for name in sorted(over)}
