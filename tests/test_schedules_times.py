"""When schedules fire: cron and intervals as Kubeflow reads them, and what of it is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqclip.errors import ConfigError
from pipelines.client.cron import fire_times, parse_cron, parse_interval

NOON = datetime(2026, 11, 25, 12, 0, 0, 500_000, tzinfo=UTC)


def said(cron: str, count: int = 3, after: datetime = NOON) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in fire_times(parse_cron(cron), after, count)]


@pytest.mark.parametrize(
    ("cron", "first", "second"),
    [
        ("0 0 2 * * *", "2026-11-26 02:00:00", "2026-11-27 02:00:00"),
        ("*/20 * * * * *", "2026-11-25 12:00:20", "2026-11-25 12:00:40"),
        ("5/20 0 * * * ?", "2026-11-25 12:00:05", "2026-11-25 12:00:25"),
        ("0 0 9-17/4 * * MON-fri", "2026-11-25 13:00:00", "2026-11-25 17:00:00"),
        ("0 0 0 29 feb *", "2028-02-29 00:00:00", "2032-02-29 00:00:00"),
        ("0 0 0 1 jan,jul *", "2027-01-01 00:00:00", "2027-07-01 00:00:00"),
        ("0 0 0 1 * sun", "2026-11-29 00:00:00", "2026-12-01 00:00:00"),  # either day will do
        ("0 0 0 31 feb sun", "2027-02-07 00:00:00", "2027-02-14 00:00:00"),  # also where one of them never comes
        ("0 0 0 */10 * sun", "2027-01-31 00:00:00", "2027-02-21 00:00:00"),  # a star asks for both
        ("@daily", "2026-11-26 00:00:00", "2026-11-27 00:00:00"),
        ("@weekly", "2026-11-29 00:00:00", "2026-12-06 00:00:00"),
        ("@every 90m", "2026-11-25 13:30:00", "2026-11-25 15:00:00"),
    ],
)
def test_the_next_times_are_those_of_kubeflow(cron: str, first: str, second: str):
    assert said(cron, 2) == [first, second]


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("0 2 * * *", r"has five fields; KFP wants six, seconds first: '0 0 2 \* \* \*'"),
        ("0 0 2 * *  * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("0 0 24 * * *", "hour is '24'; give 0 to 23"),
        ("0 0 2 * * 7", "weekday is '7'; give 0 to 6, or sun to sat; Sunday is 0"),
        ("0 0 2 0 * *", "day is '0'; give 1 to 31"),
        ("0 0 2 * foo *", "month is 'foo'; give 1 to 12, or jan to dec"),
        ("0 0 5-2 * * *", "hour '5-2' ends before it begins"),
        ("0 */0 * * * *", r"minute '\*/0' has a step of 0"),
        ("0 0 2 L * *", "day is 'L'"),
        ("0 0 1, * * *", "hour is ''; give a number"),
        ("0 0 2 30 2 *", "never fires: there is no such day"),
        ("@nightly", "is not known; one of @yearly"),
        ("@every 1d", "interval '1d': give hours, minutes and seconds"),
        ("@every 0s", "interval '0s'"),
    ],
)
def test_what_kubeflow_would_refuse_or_misread_is_refused(cron: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        parse_cron(cron)


def test_intervals_are_seconds():
    assert [parse_interval(text) for text in ("24h", "1h30m", "45s")] == [86_400, 5_400, 45]


Field = tuple[str, set[int]]


def field(first: int, last: int) -> st.SearchStrategy[Field]:
    """A field as it is written, and what it means."""
    numbers = st.integers(first, last)
    single = st.lists(numbers, min_size=1, max_size=3).map(lambda n: (",".join(map(str, n)), set(n)))
    ranged = st.tuples(numbers, numbers, st.integers(1, 9)).map(
        lambda t: (f"{min(t[:2])}-{max(t[:2])}/{t[2]}", set(range(min(t[:2]), max(t[:2]) + 1, t[2])))
    )
    return st.one_of(st.just(("*", set(range(first, last + 1)))), single, ranged)


few = [st.lists(st.integers(0, n), min_size=1, max_size=3, unique=True) for n in (59, 59, 23)]
DECADE = [date(2024, 1, 1) + timedelta(days=n) for n in range(2190)]
DAYS = [date(2026, 2, 20) + timedelta(days=n) for n in range(800)]


@settings(max_examples=60, deadline=None)
@given(*few, field(1, 31), field(1, 12), field(0, 6), st.integers(0, 40 * 86_400))
def test_every_time_is_the_first_that_all_fields_allow(
    second: list[int], minute: list[int], hour: list[int], day: Field, month: Field, weekday: Field, offset: int
):
    clock = [time(h, m, s) for h, m, s in itertools.product(hour, minute, second)]
    after = datetime(2026, 2, 20, tzinfo=UTC) + timedelta(seconds=offset)

    def allowed(one: date) -> bool:
        both = one.day in day[1], one.isoweekday() % 7 in weekday[1]
        is_day = all(both) if "*" in (day[0], weekday[0]) else any(both)
        return one.month in month[1] and is_day

    every = sorted(datetime.combine(one, at, UTC) for one in DAYS if allowed(one) for at in clock)
    expected = [moment for moment in every if moment > after][:3]
    fields = [",".join(map(str, part)) for part in (second, minute, hour)] + [day[0], month[0], weekday[0]]
    text = " ".join(fields)
    if not every and not any(allowed(one) for one in DECADE):
        with pytest.raises(ConfigError, match="never fires"):
            parse_cron(text)
        return
    assert fire_times(parse_cron(text), after, 3)[: len(expected)] == expected
