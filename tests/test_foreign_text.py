"""What servers say is shown without what terminals obey, and without keys."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqclip import foreign_text, log
from hqclip.errors import AccessError, UnavailableError
from hqclip.foreign import translated
from hqclip.foreign_text import harmless, inert

ESCAPES = (
    "\x1b[31m",
    "\x1b[2J\x1b[1;1H",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil\x1b\\",
    "\x9b31m",
    "\x9d52;c;ZXZpbA==\x9c",
    "\x1bP+q\x1b\\",
    "\x1bc",
    "\r",
    "\x08",
    "\x07",
    "\u202e",
    "\x1b\x1b[0m",
)


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_that_a_terminal_obeys_is_left(escape: str):
    assert harmless(f"no {escape} such\nmodel") == "no such model"
    assert inert(f"no{escape}such\n\tmodel").replace("  ", " ") == "no such\n\tmodel"


@pytest.mark.parametrize(
    "key",
    [
        *("sk-abcdefgh12345678", "sk-proj-abc_DEF-123456", "hf_abcdefghijkl", "ghp_abcdefghijkl", "AIzaSyA-1234567"),
        *("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrOHMifQ.c2lnbmF0dXJl", "AKIAABCDEFGHIJKLMNOP", "ya29.a0AfH6SMBx-yz"),
    ],
)
def test_what_looks_like_a_key_is_hidden(key: str):
    assert harmless(f"Incorrect API key provided: {key}.").startswith("Incorrect API key provided: ***")
    assert key not in harmless(f"{{'Authorization': 'Bearer {key}'}}")


def test_keys_that_are_known_are_hidden_whatever_they_look_like(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_OWN_API_KEY", "correct horse battery")
    monkeypatch.setenv("SHORT_TOKEN", "of")
    assert harmless("a correct horse battery of mine", ["mine"]) == "a *** of ***"
    assert harmless("Authorization: bearer abc.def-123") == "Authorization: bearer ***"
    assert harmless("cannot reach https://me:secret@host/v1") == "cannot reach https://***@host/v1"


@pytest.mark.parametrize(
    "text",
    [
        'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource',
        "docker-pullable://nginx@sha256:0123456789",
        "The model `Qwen/Qwen2.5-VL-7B-Instruct` does not exist.",
        "größe 日本語",
        "Basic authentication is wanted",
    ],
)
def test_ordinary_words_stay_as_they_are(text: str):
    assert harmless(text) == inert(text) == text


@given(st.text(st.sampled_from("\x1b\x9b\x9d\x07[]0;m\\ ab\n"), max_size=60))
def test_no_arrangement_of_escapes_gets_through(text: str):
    assert not set("\x1b\x9b\x9d\x07") & set(harmless(text))
    assert harmless(harmless(text)) == harmless(text)


def test_no_line_of_the_log_moves_the_cursor(capsys: pytest.CaptureFixture[str]):
    log.warning("launch", "the server says \x1b[2Jhello\nand more")
    assert capsys.readouterr().err == "hqclip launch: the server says  hello\nand more\n"
    assert logging.getLogger("hqclip").handlers


def test_a_key_that_a_server_repeats_is_in_no_error(monkeypatch: pytest.MonkeyPatch):
    """Errors go to records and pages of the store, which are shared."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "n0t-like-a-key")
    for key in ("n0t-like-a-key", "hf_abcdefghijklmnop", "ya29.abcdefghijklmnop", "https://me:word@host"):
        error = AccessError(f"no\n  {key} is refused")
        assert key not in str(error)
        assert str(error).startswith("no\n  ")
        with pytest.raises(UnavailableError) as raised, translated("the hub"):
            raise ConnectionError(f"{key} is refused\x1b[31m")
        assert key not in str(raised.value)
        assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "/data/hf_datasets/laion and /mnt/sk-pictures-2024/a.tar are no folders",
        "basic settings are missing",
        "gs://me@bucket/x, git@github.com and s3://pool@2024/00000.tar do not exist",
        "image ghcr.io/x/y@sha256:0123456789",
        "/data/postgres/pipeline-runner does not exist",
    ],
)
def test_words_of_our_own_are_not_hidden(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "postgres")
    monkeypatch.setenv("KFP_TOKEN", "pipeline-runner")
    assert str(AccessError(text)) == text


def test_what_was_told_to_be_hidden_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign_text, "_hidden", set())
    foreign_text.hide("session=abcdefghijkl; path=/")
    assert str(AccessError("no: abcdefghijkl")) == "no: ***"
    assert str(AccessError("no: path=/")) == "no: path=/"
