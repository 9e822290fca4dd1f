"""What a stage says while it works, and how it hears that it should stop."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading

import pytest

from hqclip import progress
from hqclip.progress import Progress
from hqclip.termination import Termination


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until its one number is changed."""
    now = [1000.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("annotate", 300, "images") as done:
        for _ in range(30):
            clock[0] += 1
            done.advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "hqclip annotate: 110 of 300 images, 10/s, 19 s left",
        "hqclip annotate: 220 of 300 images, 10/s, 8 s left",
        "hqclip annotate: 300 of 300 images, 10/s",
    ]


def test_a_stage_that_fails_says_how_far_it_came(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with Progress("score", 300, "images") as done:
            done.advance(7)
            clock[0] += 7
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capsys.readouterr().err == "hqclip score: 7 of 300 images, 1/s\n"


def test_nothing_done_in_no_time_is_said_without_fuss(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("score", 0, "images"):
        pass
    assert capsys.readouterr().err == "hqclip score: 0 of 0 images, 0/s\n"


def test_a_terminal_gets_a_bar_and_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("annotate", 10, "images") as done:
        done.advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    bar, _, line = err.rpartition("\x1b[2K")  # what the bar wrote is wiped out at the end
    assert "100%" in bar
    assert re.fullmatch(r"hqclip annotate: 10 of 10 images, \d+/s\n", line)


def test_sigterm_is_a_question_that_can_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Termination() as termination:
        assert not termination.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.asked
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_does_what_it_did_before_when_the_work_failed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Termination():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_that_may_not_listen_works_all_the_same() -> None:
    before, asked = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Termination() as termination:
            asked.append(termination.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
    assert signal.getsignal(signal.SIGTERM) is before
