"""What fakes of HTTP APIs share: a server in threads, and requests that go wrong as a test wants them to."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


class Server(ThreadingHTTPServer):
    """On a free port; `answer` is asked by `handler`, and gives None where the connection is to break."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, answer: Callable[[Any], Any], handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.answer = answer
        self.errors: list[Any] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a mistake of the test or of the fake."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.errors.append(error)


class Handler(BaseHTTPRequestHandler):
    """One connection; subclasses read requests in `do_GET`, which does for all methods."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def received(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, body: Any, code: int, headers: Mapping[str, str]) -> None:
        """Text as it is, anything else as JSON."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        self.send_response(code)
        for name, value in {"Content-Type": kind, **headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def break_off(self) -> None:
        """Hang up."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Fault:
    """What becomes of the next `times` requests of `method` whose path and query match `pattern`, after `skip` others.

    fail: `answer` instead of doing it (`upload_answer` for an upload). drop: not done, no answer. commit_then_drop:
    done, no answer. cut: the stream breaks after `lines` lines. slow: done, the answer is `seconds` late. then: `do`
    runs when it is done, before the answer leaves.
    """

    kind: Literal["fail", "drop", "commit_then_drop", "cut", "slow", "then", "none"]
    method: str
    pattern: str
    times: int = 1
    skip: int = 0
    answer: Any = None
    upload_answer: Any = None
    lines: int | None = None
    seconds: float = 0.0
    do: Callable[[], object] | None = None
    fired: int = 0

    def fires(self, request: Any) -> bool:
        """Whether this request is one of them; it counts."""
        if self.fired >= self.times or self.method not in ("*", request.method):
            return False
        if not re.search(self.pattern, request.url):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.fired += 1
        return True


class Faulty:
    """Faults to come, and how many came; `changed` is notified at each request, and is the lock of the fake."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: list[Any] = []
        self.changed = threading.Condition(threading.RLock())

    def drop(self, method: str, pattern: str, times: int = 1, skip: int = 0) -> Fault:
        """Close the connection; nothing is done."""
        return self.expect(Fault("drop", method, pattern, times, skip))

    def commit_then_drop(self, method: str, pattern: str, times: int = 1, skip: int = 0) -> Fault:
        """Do it, and close the connection before the answer."""
        return self.expect(Fault("commit_then_drop", method, pattern, times, skip))

    def then(self, method: str, pattern: str, do: Callable[[], object], times: int = 1, skip: int = 0) -> Fault:
        """Run `do` when such a request is done, before its answer leaves; it may change what the fake holds."""
        return self.expect(Fault("then", method, pattern, times, skip, do=do))

    def assert_all_faults_fired(self) -> None:
        left = [fault for fault in self.faults if fault.fired < fault.times]
        assert not left, f"these never came to pass: {left}"

    def until(self, holds: Callable[[], Any], timeout_s: float = 60) -> None:
        """Wait for what a client does in another thread; `holds` is asked at each change and request."""
        with self.changed:
            assert self.changed.wait_for(holds, timeout_s), "it never came to that"

    def expect(self, fault: Fault) -> Fault:
        """A fault that is to come."""
        with self.changed:
            self.faults.append(fault)
        return fault

    def noticed(self, request: Any) -> Fault:
        """The fault that this request meets; one of kind none if it meets none."""
        self.requests.append(request)
        self.changed.notify_all()
        return next((fault for fault in self.faults if fault.fires(request)), Fault("none", "", ""))
