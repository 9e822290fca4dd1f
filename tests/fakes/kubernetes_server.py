"""HTTP for `FakeCluster`: bytes in, bytes out; what they mean is said in kubernetes.py."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.kubernetes_api import Answer, Request


class Server(ThreadingHTTPServer):
    """In threads, on a free port; `answer` gives None where the connection is to break without a word."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.errors: list[Any] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a mistake of the test or of the fake."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            body=json.loads(data) if data else {},
            content_type=(self.headers.get("Content-Type") or "").partition(";")[0],
            url=unquote(self.path),
        )
        answer = self.server.answer(request)
        if answer is None:
            self._break()
        elif answer.lines is not None:
            self._stream(answer)
        else:
            self._send(answer)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _send(self, answer: Answer) -> None:
        is_text = isinstance(answer.body, str)
        data = (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
        self.send_response(answer.code)
        self.send_header("Content-Type", "text/plain; charset=utf-8" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines, number = iter(answer.lines), 0
        while number != answer.cut and (line := next(lines, None)) is not None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            number += 1
        if answer.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
