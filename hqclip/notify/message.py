"""What happened in, the text of a chat, the body of a webhook and a mail out; nothing in it is obeyed by a reader."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from hqclip.errors import DataError
from hqclip.foreign_text import harmless, inert

LONGEST = 3000  # characters of a reason or a table: a chat cuts longer ones where it likes


@dataclass(frozen=True, kw_only=True)
class Message:
    """One event. `title` is a line of ours, `why` may hold the words of others, `table` is the gate's, as Markdown.

    `links` are addresses or commands by what they show; `id` is the same for every try, so that a receiver can tell.
    """

    id: str
    event: str
    title: str
    why: str = ""
    table: str = ""
    links: dict[str, str] = field(default_factory=dict)
    run: str = ""
    cycle: int = 0
    store: str = ""

    def cleaned(self, secrets: list[str]) -> Message:
        """Without control characters and keys, and not too long."""
        return dataclasses.replace(
            self,
            title=_cut(harmless(self.title, secrets)),
            why=_cut(harmless(self.why, secrets)),
            table=_cut(inert(self.table)),
            links={harmless(name): harmless(link, secrets) for name, link in self.links.items()},
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as the webhook gets them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, said: Mapping[str, Any], where: str) -> Message:
        """Raises `DataError`."""
        known = {each.name: str(each.type) for each in dataclasses.fields(cls)}
        given = {name: value for name, value in said.items() if name in known}
        kinds = {"int": int, "str": str, "dict[str, str]": dict}
        if not {"id", "event", "title"} <= set(given) or any(
            not isinstance(value, kinds[known[name]]) for name, value in given.items()
        ):
            raise DataError(f"{where} is no message: delete it")
        return cls(**given)


def as_slack(message: Message) -> dict[str, Any]:
    """A text in Slack's own markup. Words of others stand in code, where no mention, link or emphasis is read."""
    parts = [f"*{_plain(message.title)}*"]
    parts += [f"```\n{_code(text)}\n```" for text in (message.why, message.table) if text]
    parts += [f"{_plain(name)}: {_link(link)}" for name, link in message.links.items()]
    return {"text": "\n".join(parts)}


def as_mail(message: Message, sender: str, receivers: tuple[str, ...]) -> EmailMessage:
    """Plain text."""
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.title, sender, ", ".join(receivers)
    mail["Message-ID"] = f"<{re.sub(r'[^a-zA-Z0-9.-]', '-', message.id)}@hqclip.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(as_text(message))
    return mail


def as_text(message: Message) -> str:
    """As a person reads it."""
    links = "\n".join(f"{name}: {link}" for name, link in message.links.items())
    return "\n\n".join(part for part in (message.title, message.why, message.table, links) if part) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> str:
    """Without what begins emphasis, code, a link or a mention, in Slack and in Markdown."""
    return _escaped(re.sub(r"[*_~`\[\]@]", lambda match: "\u200b" + match[0] + "\u200b", text))


def _code(text: str) -> str:
    return _escaped(text.replace("`", "'"))


def _link(link: str) -> str:
    return _escaped(link) if link.startswith(("http://", "https://")) else f"`{_code(link)}`"
