"""Messages reach people by chat, webhook and mail, once, with no secret shown; a bad receiver holds nobody up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hqclip.cli import main
from hqclip.errors import ConfigError, StorageError
from hqclip.notify import channels, outbox
from hqclip.notify.config import EVENTS, FIELDS, PREFIX, VARIABLES, read_environment
from hqclip.notify.message import Message, as_slack, as_text
from hqclip.store import Store, open_store
from hqclip.store.local import LocalStore
from tests.fakes.receivers import FakeMail, FakeWeb

TOKEN = "a-token-that-nobody-sees"
HOOK = "/services/T000/B000/hidden-part-of-the-address"
MESSAGE = Message(
    id="run-7",
    event="failed",
    title="hqclip: a run failed at train",
    why="the loss is nan",
    table="| a | b |\n| - | - |",
    links={"page": "https://pages.example/7?a=1&b=2", "next": "python -m pipelines explain 7"},
    run="7",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def web() -> Iterator[FakeWeb]:
    with FakeWeb() as fake:
        yield fake


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[FakeMail]:
    with FakeMail(tmp_path) as fake:
        yield fake


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LIMIT_S", 5.0)


@pytest.fixture
def by_webhook(web: FakeWeb, monkeypatch: pytest.MonkeyPatch) -> FakeWeb:
    monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", web.url + HOOK)
    monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_TOKEN", TOKEN)
    return web


@pytest.fixture
def by_mail(mail: FakeMail, monkeypatch: pytest.MonkeyPatch) -> FakeMail:
    monkeypatch.setenv("SSL_CERT_FILE", str(mail.ca))
    given = {
        "HOST": "127.0.0.1",
        "PORT": str(mail.port),
        "USER": mail.USER,
        "PASSWORD": mail.PASSWORD,
        "FROM": "hqclip@example.com",
        "TO": "owner@example.com, second@example.com",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"HQCLIP_NOTIFY_SMTP_{name}", value)
    return mail


def test_a_webhook_gets_what_happened_as_json_with_its_token(store: Store, by_webhook: FakeWeb) -> None:
    assert outbox.tell(store, MESSAGE)
    ((path, headers, body),) = by_webhook.taken
    assert (path, headers["Authorization"], headers["Content-Type"]) == (HOOK, f"Bearer {TOKEN}", "application/json")
    assert body == MESSAGE.to_mapping()


def test_a_chat_gets_one_text_of_its_own_markup(
    store: Store, web: FakeWeb, monkeypatch: pytest.MonkeyPatch, golden: Callable[[str, str], None]
) -> None:
    monkeypatch.setenv("HQCLIP_NOTIFY_SLACK_URL", web.url + HOOK)
    assert outbox.tell(store, MESSAGE)
    ((_, _, body),) = web.taken
    assert set(body) == {"text"}
    golden("notify/slack.txt", body["text"])


def test_a_mail_is_sent_under_tls_after_a_login(store: Store, by_mail: FakeMail) -> None:
    assert outbox.tell(store, MESSAGE)
    (mail,) = by_mail.taken
    assert by_mail.envelopes == [("hqclip@example.com", ["owner@example.com", "second@example.com"])]
    assert mail["Subject"] == MESSAGE.title and mail["Message-ID"] == "<run-7@hqclip.invalid>"
    assert mail.get_content().replace("\r\n", "\n") == as_text(MESSAGE)


def test_a_password_goes_to_no_server_without_tls_or_with_a_certificate_of_nobody(
    store: Store, by_mail: FakeMail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert not outbox.tell(store, MESSAGE)
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err
    by_mail.offers_tls = False
    assert outbox.resend(store) == ["run-7"]
    assert "STARTTLS" in capsys.readouterr().err
    assert by_mail.taken == []


def test_a_refused_login_is_said_without_the_password_that_the_server_repeats(
    store: Store, by_mail: FakeMail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HQCLIP_NOTIFY_SMTP_PASSWORD", "wrong-password-of-mine")
    assert not outbox.tell(store, MESSAGE)
    said = capsys.readouterr().err
    assert "mail does not know of run-7: the mail server answered 535 not you, ***; tried 1 of 12 times" in said
    assert "wrong-password" not in said + store.read("notices/run-7.json").decode()


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("500", "the receiver answered 500"),
        ("redirect", "the receiver answered 307, a redirect, which is not followed"),
        ("drop", "RemoteDisconnected"),
        ("hang", "no answer within 1 s|TimeoutError"),
        ("drip", "no answer within 1 s"),
    ],
)
def test_a_bad_receiver_costs_a_bounded_time_and_is_said(
    store: Store,
    by_webhook: FakeWeb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    manner: str,
    why: str,
) -> None:
    monkeypatch.setattr(outbox, "LIMIT_S", 1.0 if manner in ("hang", "drip") else 30.0)
    by_webhook.manner = manner  # type: ignore[assignment]
    began = time.monotonic()
    assert not outbox.tell(store, MESSAGE)
    assert time.monotonic() - began < 20
    said = capsys.readouterr().err
    assert any(f"webhook does not know of run-7: {each}" in said for each in why.split("|")), said
    assert by_webhook.asked == 1 and by_webhook.taken == []
    assert TOKEN not in said and "hidden-part" not in said
    kept = store.read("notices/run-7.json").decode()
    assert TOKEN not in kept and "hidden-part" not in kept


def test_the_limit_is_ten_seconds_for_all_receivers_together() -> None:
    assert channels.LIMIT_S == 10.0 < outbox.CLAIM_S


def test_nobody_there_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HQCLIP_NOTIFY_SLACK_URL", "http://127.0.0.1:9/hidden-part")
    assert not outbox.tell(store, MESSAGE)
    said = capsys.readouterr().err
    assert "slack does not know of run-7: not reached" in said and "hidden-part" not in said


def test_a_good_receiver_is_told_though_another_is_dead_and_not_again_when_that_is_tried_again(
    store: Store, by_webhook: FakeWeb, by_mail: FakeMail
) -> None:
    by_mail.manner = "500"
    assert not outbox.tell(store, MESSAGE)
    assert len(by_webhook.taken) == 1 and by_mail.taken == []
    by_mail.manner = "well"
    assert outbox.resend(store) == []
    assert len(by_webhook.taken) == 1 and len(by_mail.taken) == 1


def test_an_event_is_told_once_whoever_tells_of_it_and_how_often(store: Store, by_webhook: FakeWeb) -> None:
    tellers = [threading.Thread(target=outbox.tell, args=(store, MESSAGE)) for _ in range(8)]
    for teller in tellers:
        teller.start()
    for teller in tellers:
        teller.join()
    outbox.tell(store, MESSAGE)
    assert outbox.resend(store) == [] and len(by_webhook.taken) == 1


def test_what_one_sends_no_other_sends_until_it_counts_as_dead(
    store: Store, by_webhook: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = {"made": time.time(), "claimed": time.time(), "tries": 1, "message": MESSAGE.to_mapping()}
    store.write("notices/run-7.json", json.dumps(claimed).encode())
    assert not outbox.tell(store, MESSAGE) and outbox.resend(store) == ["run-7"] and by_webhook.asked == 0
    later = time.time() + outbox.CLAIM_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert outbox.resend(store) == [] and len(by_webhook.taken) == 1


def test_tries_are_bounded(store: Store, by_webhook: FakeWeb, capsys: pytest.CaptureFixture[str]) -> None:
    by_webhook.manner = "500"
    outbox.tell(store, MESSAGE)
    for _ in range(outbox.TRIES + 3):
        outbox.resend(store)
    assert by_webhook.asked == outbox.TRIES and outbox.open_notices(store) == []
    assert f"run-7 is given up after {outbox.TRIES} tries: not all of webhook know of it" in capsys.readouterr().err


def test_old_news_are_given_up(store: Store, by_webhook: FakeWeb) -> None:
    old = {"made": time.time() - outbox.OLD_S - 1, "message": MESSAGE.to_mapping()}
    store.write("notices/run-7.json", json.dumps(old).encode())
    outbox.resend(store)
    assert by_webhook.asked == 0 and outbox.open_notices(store) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"made": 1, "message": 3}', b'{"made": 1, "message": {"id": 3}}'])
def test_a_damaged_message_is_left_out_and_the_others_are_sent(
    store: Store, by_webhook: FakeWeb, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    store.write("notices/run-6.json", content)
    outbox.tell(store, MESSAGE)
    outbox.resend(store)
    assert [body["id"] for _, _, body in by_webhook.taken] == ["run-7"]
    assert "notices/run-6.json is damaged and is left out" in capsys.readouterr().err


def test_without_receivers_nothing_is_written(store: Store) -> None:
    assert not outbox.tell(store, MESSAGE)
    assert list(store.list("")) == []


def test_a_silent_event_is_marked_and_told_to_nobody_unless_it_is_asked_for(
    store: Store, by_webhook: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outbox.tell(store, Message(id="run-8", event="nothing_to_do", title="t")) and by_webhook.asked == 0
    monkeypatch.setenv("HQCLIP_NOTIFY_SILENT", "none")
    assert outbox.tell(store, Message(id="run-9", event="nothing_to_do", title="t")) and by_webhook.asked == 1


def test_a_store_that_breaks_is_a_warning(
    store: Store, by_webhook: FakeWeb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(LocalStore, "write", full)
    assert not outbox.tell(store, MESSAGE)
    assert "nobody was told of it: the disk is full" in capsys.readouterr().err and by_webhook.asked == 0


def test_the_words_of_others_are_not_obeyed_by_a_chat() -> None:
    evil = "<!channel> @all [x](http://evil) `code` ``` *bold* \x1b[31m\u202e & https://a:b@evil"
    said = as_slack(Message(id="1", event="failed", title=evil, why=evil, table=evil).cleaned([]))["text"]
    assert "<" not in said and said.count("```") == 4 and "\x1b" not in said and "\u202e" not in said
    title = said.splitlines()[0]
    assert "[x]" not in title and "@all" not in title and "&lt;!channel&gt;" in title


def test_what_looks_like_a_key_is_not_sent() -> None:
    message = Message(id="1", event="failed", title="t", why=f"403 for hf_abcdefghijkl at {HOOK}").cleaned([HOOK])
    assert message.why == "403 for *** at ***"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SMTP_PORT": "many"}, "HQCLIP_NOTIFY_SMTP_PORT must be a number"),
        ({"SLACK": "x"}, "unknown setting HQCLIP_NOTIFY_SLACK; did you mean"),
        ({"SMTP_HOST": "mail"}, "give HQCLIP_NOTIFY_SMTP_FROM and HQCLIP_NOTIFY_SMTP_TO as well"),
        ({"SMTP_TO": "a@b.c"}, "HQCLIP_NOTIFY_SMTP_TO is given without HQCLIP_NOTIFY_SMTP_HOST"),
        ({"WEBHOOK_TOKEN": "x"}, "HQCLIP_NOTIFY_WEBHOOK_TOKEN is given without HQCLIP_NOTIFY_WEBHOOK_URL"),
        ({"SMTP_USER": "x"}, "give HQCLIP_NOTIFY_SMTP_USER and HQCLIP_NOTIFY_SMTP_PASSWORD together"),
        ({"SMTP_USER": "x", "SMTP_PASSWORD": "y", "SMTP_SECURITY": "none"}, "in the clear"),
        ({"SLACK_URL": "ftp://hidden-part"}, "HQCLIP_NOTIFY_SLACK_URL is no address of http:// or https://"),
        ({"SLACK_URL": "https://x/{{hidden-part"}, "HQCLIP_NOTIFY_SLACK_URL is '***'"),
        ({"SILENT": "promotd"}, "give one of"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret_is_shown(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_environment({f"{PREFIX}{name}": value for name, value in given.items()})
    assert said in str(caught.value) and "hidden-part" not in str(caught.value)


def test_a_wrong_variable_does_not_fail_a_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HQCLIP_NOTIFY_SLACK_URL", "nowhere")
    assert not outbox.tell(store, MESSAGE)
    assert "nobody was told of it: HQCLIP_NOTIFY_SLACK_URL is no address" in capsys.readouterr().err


def test_a_test_message_says_who_took_it(by_webhook: FakeWeb, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "test"]) == 0
    assert json.loads(capsys.readouterr().out) == {"told": ["webhook"]}
    assert by_webhook.taken[0][2]["title"] == "hqclip: a test"
    by_webhook.manner = "500"
    assert main(["notify", "test"]) == 69
    assert "webhook: the receiver answered 500" in capsys.readouterr().err


def test_a_test_message_to_nobody_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "test"]) == 64
    assert "set HQCLIP_NOTIFY_SLACK_URL" in capsys.readouterr().err


def test_every_variable_and_event_is_in_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs/notifications.md").read_text(encoding="utf-8")
    assert [name for name in (*VARIABLES, *(f"`{event}`" for event in EVENTS)) if f"{name}" not in page] == []
    assert len(VARIABLES) == len(FIELDS)
