"""HTTP for `FakeCluster`: requests in, answers and streams of log lines out."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes import faulty
from tests.fakes.kubernetes_api import Answer, Request


class Handler(faulty.Handler):
    """As the API server speaks."""

    def do_GET(self) -> None:
        url, data = urlsplit(self.path), self.received()
        request = Request(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            body=json.loads(data) if data else {},
            content_type=(self.headers.get("Content-Type") or "").partition(";")[0],
            url=unquote(self.path),
            accept=self.headers.get("Accept") or "",
        )
        answer = self.server.answer(request)
        if answer is None:
            self.break_off()
        elif answer.lines is not None:
            self._stream(answer)
        else:
            self.send(answer.body, answer.code, answer.headers)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines, number = iter(answer.lines or ()), 0
        while number != answer.cut and (line := next(lines, None)) is not None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            number += 1
        if answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.break_off()
