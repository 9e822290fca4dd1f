"""What is said on stderr, how much of it, and in which form."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hqclip import log
from hqclip.errors import DataError


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(log.LEVEL, "info")
    monkeypatch.setenv(log.FORMAT, "text")
    log.choose()
    yield
    monkeypatch.undo()
    log.choose()


def say_all() -> None:
    log.debug("train", "asked for a shard")
    log.info("train", "continues at step 5")
    log.warning("annotate pilot", "no heartbeat")
    assert log.fault("curate", DataError("shards/1.tar: 3 of 4 are bad")) == 65


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("debug", 4),
        ("info", 3),
        ("warning", 2),
        ("error", 1),
    ],
)
def test_a_level_shows_itself_and_what_is_worse(level: str, lines: int, capsys: pytest.CaptureFixture[str]):
    log.choose(level)
    say_all()
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", lines)
    assert err.endswith("hqclip curate: shards/1.tar: 3 of 4 are bad\n")


def test_who_speaks_stands_first(capsys: pytest.CaptureFixture[str]):
    say_all()
    assert capsys.readouterr().err.splitlines()[:2] == [
        "hqclip train: continues at step 5",
        "hqclip annotate pilot: no heartbeat",
    ]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]):
    log.choose("info", "json")
    log.info("download", 'key "ä"\nof two lines')
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {"level": "info", "who": "download", "message": 'key "ä"\nof two lines'}
    assert not log.is_shown()


@pytest.mark.parametrize("format", log.FORMATS)
def test_no_line_shows_a_key_or_moves_the_cursor(
    format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HQCLIP_KFP_COOKIE", "session=0f1e2d3c4b5a; path=/")
    log.choose(format=format)
    for text in ("0f1e2d3c4b5a", "hf_abcdefghijklmnop", "https://me:word@host/x", "\x9b31m", "\u202e"):
        log.warning("download", f"the server said: {text}")
        log.fault("download", DataError(f"the server said: {text}"))
        lines = capsys.readouterr().err
        assert text not in lines
        assert lines.count("the server said:") == 2


def test_what_is_chosen_holds_for_the_processes_that_are_started():
    log.choose("warning", "json")
    program = "from hqclip import log; log.info('a', 'quiet'); log.warning('a', 'loud')"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["loud"]


def test_a_program_around_hqclip_may_listen_itself(caplog: pytest.LogCaptureFixture):
    logger, heard = logging.getLogger(log.ROOT), []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(listener)
    try:
        log.warning("store", "tried again")
    finally:
        logger.removeHandler(listener)
    assert heard == ["tried again"]
