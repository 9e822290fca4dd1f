"""A cron expression in, the times at which Kubeflow fires out.

Kubeflow reads six fields, seconds first (robfig/cron 1.2): `0 0 2 * * *` is two in the morning. It takes five fields
too, and reads them seconds first: `0 2 * * *` then fires every hour. What it would misread is refused here; all that is
accepted means the same there. croniter finds the times, out of fields written as plain lists of numbers: its own
reading of a field is wider than Kubeflow's. Times are UTC, Kubeflow's zone unless its controller was told another.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from croniter import CroniterBadDateError, croniter

from hqclip.errors import ConfigError

YEARS = 5  # how far Kubeflow looks for the next time
EXAMPLE = "0 0 2 * * *"
_FIELDS = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_NICKNAMES = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_PART = re.compile(r"(?P<any>[*?])(/(?P<any_step>\d+))?|(?P<low>\w+)(-(?P<high>\w+))?(/(?P<step>\d+))?", re.ASCII)
_DURATION = re.compile(r"(?=\d)((?P<h>\d+)h)?((?P<m>\d+)m)?((?P<s>\d+)s)?", re.ASCII)


@dataclass(frozen=True)
class Cron:
    """Six fields as lists of numbers, and the seconds among them. `either_day` if a day or a weekday is enough."""

    fields: str
    seconds: tuple[int, ...]
    either_day: bool

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`, None if there is none for five years."""
        times = croniter(
            self.fields,
            moment.astimezone(UTC),
            ret_type=datetime,
            day_or=self.either_day,
            max_years_between_matches=YEARS,
            second_at_beginning=True,
        )
        try:
            found: datetime = times.get_next()
        except CroniterBadDateError:
            return None
        return found


@dataclass(frozen=True)
class Every:
    """An interval: so many seconds after the last time."""

    seconds: int

    def after(self, moment: datetime) -> datetime | None:
        """The next time."""
        return moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=self.seconds)


def parse_cron(text: str) -> Cron | Every:
    """`0 0 2 * * mon-fri`, `@daily` or `@every 12h`. Raises `ConfigError` for what Kubeflow would refuse or misread."""
    words = text.split()
    if words[:1] == ["@every"] and len(words) == 2:
        return Every(parse_interval(words[1]))
    if text.startswith("@") and text not in _NICKNAMES:
        known = ", ".join([*_NICKNAMES, "@every 12h"])
        raise ConfigError(f"cron {text!r} is not known; one of {known}, or six fields such as {EXAMPLE!r}")
    fields = _NICKNAMES.get(text, text).split()
    if len(fields) == 5:
        raise ConfigError(
            f"cron {text!r} has five fields; KFP wants six, seconds first: {'0 ' + text!r} "
            "(with five it would take the minutes for seconds)"
        )
    if len(fields) != 6:
        raise ConfigError(f"cron {text!r} has {len(fields)} fields; KFP wants six, seconds first, such as {EXAMPLE!r}")
    values = [sorted(_values(field, *bounds, text)) for field, bounds in zip(fields, _FIELDS, strict=True)]
    cron = Cron(
        fields=" ".join(",".join(map(str, numbers)) for numbers in values),
        seconds=tuple(values[0]),
        either_day=not any(mark in fields[3] + fields[5] for mark in "*?"),
    )
    if cron.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ConfigError(f"cron {text!r} never fires: there is no such day")
    return cron


def parse_interval(text: str) -> int:
    """`24h`, `90m`, `1h30m` or `45s` as seconds. Raises `ConfigError`."""
    match = _DURATION.fullmatch(text)
    seconds = sum(int(match[unit] or 0) * size for unit, size in (("h", 3600), ("m", 60), ("s", 1))) if match else 0
    if not seconds:
        raise ConfigError(f"interval {text!r}: give hours, minutes and seconds such as 24h, 90m or 1h30m")
    return seconds


def closest(when: Cron | Every) -> int:
    """Seconds between two times it may fire at, at least: a minute or more for a cron expression is a minute."""
    if isinstance(when, Every):
        return when.seconds
    return min((later - one for one, later in itertools.pairwise(when.seconds)), default=60)


def fire_times(when: Cron | Every, after: datetime, count: int, end: datetime | None = None) -> list[datetime]:
    """The next `count` times later than `after`, fewer if none are left until `end`."""
    found: list[datetime] = []
    moment: datetime | None = after
    while len(found) < count and moment is not None:
        moment = when.after(moment)
        if moment is None or (end is not None and moment > end):
            break
        found.append(moment)
    return found


def _values(field: str, name: str, first: int, last: int, text: str) -> set[int]:
    """What a field allows: a comma separated list of ranges."""
    values: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ConfigError(f"cron {text!r}: {name} is {part!r}; give a number, *, a range such as 1-5, or */2")
        if match["any"]:
            low, high, step = first, last, int(match["any_step"] or 1)
        else:
            low = _number(match["low"], name, first, last, text)
            high = _number(match["high"], name, first, last, text) if match["high"] else low
            high = last if match["step"] and not match["high"] else high  # 5/15 is 5-59/15
            step = int(match["step"] or 1)
        if low > high:
            raise ConfigError(f"cron {text!r}: {name} {part!r} ends before it begins")
        if step < 1:
            raise ConfigError(f"cron {text!r}: {name} {part!r} has a step of 0; give 1 or more")
        values |= set(range(low, high + 1, step))
    return values


def _number(word: str, name: str, first: int, last: int, text: str) -> int:
    names = _NAMES.get(name, ())
    if word.lower() in names:
        return first + names.index(word.lower())
    if not word.isdigit() or not first <= int(word) <= last:
        hint = "; Sunday is 0" if (name, word) == ("weekday", "7") else ""
        also = f", or {names[0]} to {names[-1]}" if names else ""
        raise ConfigError(f"cron {text!r}: {name} is {word!r}; give {first} to {last}{also}{hint}")
    return int(word)
