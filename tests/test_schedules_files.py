"""What a file of schedules may say, and how everything wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip.errors import ConfigError, NotFoundError
from pipelines.client.schedule_file import read_file


def test_everything_wrong_with_a_file_is_said_at_once(tmp_path: Path):
    file = tmp_path / "schedule.yaml"
    file.write_text(
        "schedules:\n"
        "- {name: a, pipeline: p, cron: 0 2 * * *}\n"
        "- {name: a, pipeline: p, cron: '@daily', every: 1h}\n"
        "- {name: B, pipeline: p, every: 1h}\n"
        "- {name: c, pipeline: p, every: 1h, start: 2027-01-01}\n"
        "- {name: d, pipeline: p, every: 1h, enabled: maybe}\n"
        "- {name: e, every: 1h, verion: x}\n"
        "- {name: f, pipeline: [p], every: 1h}\n"
        "- {name: g, pipeline: p, cron: '* 0 2 * * *'}\n"
        "- {name: h, pipeline: p, cron: '0,1 0 0 * * *'}\n"
        "- {name: i, pipeline: p, every: 45s}\n"
        "- {name: j, pipeline: p, every: 1h, on: [1]}\n"
        "- {name: k, pipeline: p, every: 1h, inputs: [1]}\n"
        "- {name: l, pipeline: p, every: 1h, inputs: {on: 1, yes: 2}}\n"
    )
    with pytest.raises(ConfigError) as refusal:
        read_file(file)
    for part in (
        "schedule a: cron '0 2 * * *' has five fields",
        "schedule a: give one of cron and every",
        "schedule B: name: give up to 63 of a-z",
        "schedule c: start is '2027-01-01'; give a time with its zone",
        "schedule d: enabled is 'maybe'",
        "schedule e: unknown 'verion'; did you mean 'version'?; pipeline is missing",
        "schedule f: pipeline is ['p']; give a single value",
        "schedule g: '* 0 2 * * *' fires every 1 s; seconds come first: give 0",
        "schedule h: '0,1 0 0 * * *' fires every 1 s",
        "schedule i: '@every 45s' fires every 45 s; give 60s or more",
        "; on is ['1']; give a single value",
        "schedule k: inputs: give a mapping of inputs to values",
        "schedule l: inputs: some of on, yes are one and the same in YAML",
    ):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("schedules: [{name: a, name: b}]", "'name' is given twice"),
        ("schedules: {a: b}", "`schedules` must be a list"),
        ("- a", "give `schedules:` with a list"),
        ("schedules: [", "schedule.yaml: while parsing"),
        ("schedules: [{name: a, inputs: &i {b: c}}, {name: d, inputs: {<<: *i}}]", "write out what `<<` stands for"),
        ("schedules: [{name: a, start: 2026-02-30T00:00:00Z}]", "day is out of range for month"),
        ("schedules: []\ngroup: A B", "group is 'A B'"),
    ],
)
def test_what_is_no_schedule_file_is_refused(tmp_path: Path, text: str, complaint: str):
    file = tmp_path / "schedule.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_file(file)
    with pytest.raises(NotFoundError, match="docs/examples/schedule.yaml is one"):
        read_file(tmp_path / "nowhere.yaml")
