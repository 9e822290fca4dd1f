"""HTTP for `FakeKubeflow`: requests and uploaded files in, answers out."""

from __future__ import annotations

import email.parser
import email.policy
import json
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes import faulty
from tests.fakes.kubeflow_api import Request


class Handler(faulty.Handler):
    """As the API server and its gateways speak."""

    def do_GET(self) -> None:
        url, data = urlsplit(self.path), self.received()
        request = Request(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        content_type = request.headers.get("content-type", "")
        if content_type.startswith("multipart/"):
            request.upload = _file(content_type, data)
        elif data:
            request.body = json.loads(data)
        answer = self.server.answer(request)
        if answer is None:
            self.break_off()
        else:
            self.send(answer.body, answer.code, answer.headers)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET


def _file(content_type: str, data: bytes) -> bytes:
    """The part `uploadfile` of a form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
    for part in form.iter_parts():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            payload = part.get_payload(decode=True)
            return payload if isinstance(payload, bytes) else b""
    return b""
