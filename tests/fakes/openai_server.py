"""A server that speaks OpenAI's protocol and has faults when told to.

with FakeOpenAI() as fake:
    engine = OpenAIEngine(AnnotateConfig(engine="openai", server=fake.url, ...), prompt, "teacher")
    fake.fault("a red circle", "status", 429, headers={"Retry-After": "1"})
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import numpy as np
from PIL import Image

FIELDS = ("tags", "neg_tags", "desc", "neg_desc")
MIN_SIDE = 16


@dataclass
class Fault:
    """What becomes of the next `times` requests whose alt-text or route contains `words`.

    status: an error of that number. hang: no answer until the client hangs up. cut: half of the body. junk: a body that
    is not JSON. drop: the connection is closed. choice: `reply` instead of the usual choice. error: `reply` alone, with
    the status.
    """

    words: str
    kind: Literal["status", "hang", "cut", "junk", "drop", "choice", "error"]
    status: int = 200
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "told to fail"
    reply: dict[str, Any] = field(default_factory=dict)


@dataclass
class Asked:
    """One POST: what was in it."""

    headers: dict[str, str]
    body: dict[str, Any]
    image: np.ndarray[Any, Any]
    media_type: str
    alt_text: str
    at: float


class FakeOpenAI:
    """In a thread, on a free port. Says of every picture its digest, as JSON; free of a grammar it chats around it."""

    def __init__(self, models: tuple[str, ...] = ("teacher",), key: str = "") -> None:
        self.models, self.key = models, key
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.connections = 0
        self.hung_up = threading.Semaphore(0)  # released for each client that did not wait for the end of a hang
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def fault(self, words: str, kind: Any, status: int = 200, **more: Any) -> None:
        self.faults.append(Fault(words, kind, status, **more))

    def __enter__(self) -> FakeOpenAI:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_of(self, words: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.words in words:
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeOpenAI

    def get_request(self) -> tuple[socket.socket, Any]:
        self.fake.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        fake = self.server.fake
        if not self._misbehaves(fake.fault_of(self.path)) and self._is_let_in():
            if self.path == "/v1/models":
                self._say(200, {"object": "list", "data": [{"id": name} for name in fake.models]})
            else:
                self._fail(404, f"no route {self.path}")

    def do_POST(self) -> None:
        fake = self.server.fake
        asked = self._asked(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        fake.asked.append(asked)
        fault = fake.fault_of(asked.alt_text)
        if self._misbehaves(fault) or not self._is_let_in():
            return
        if asked.body["model"] not in fake.models:
            self._fail(404, f"The model `{asked.body['model']}` does not exist.")
        elif min(asked.image.shape[:2]) < MIN_SIDE:
            self._fail(400, f"an image of {asked.image.shape[1]} x {asked.image.shape[0]} cannot be read")
        else:
            self._say(
                200, _completion(asked, fault.reply if fault else {}), cut=fault is not None and fault.kind == "cut"
            )

    def _asked(self, body: dict[str, Any]) -> Asked:
        image, text = body["messages"][1]["content"]
        media_type, _, data = image["image_url"]["url"].removeprefix("data:").partition(";base64,")
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        alt_text = text["text"].removeprefix("<alt_text>").removesuffix("</alt_text>")
        return Asked(dict(self.headers), body, pixels, media_type, alt_text, time.monotonic())

    def _is_let_in(self) -> bool:
        wanted = self.server.fake.key
        if not wanted or self.headers["Authorization"] == f"Bearer {wanted}":
            return True
        self._fail(401, f"Incorrect API key provided: {self.headers['Authorization']}")
        return False

    def _misbehaves(self, fault: Fault | None) -> bool:
        if fault is None or fault.kind in ("choice", "cut"):
            return False
        if fault.kind == "status":
            self._fail(fault.status, fault.message, fault.headers)
        elif fault.kind == "error":
            self._say(fault.status, fault.reply)
        elif fault.kind == "junk":
            self._send(200, b"<html>not what you think</html>")
        else:
            self.close_connection = True
            if fault.kind == "hang" and self.connection.recv(1) == b"":
                self.server.fake.hung_up.release()
        return True

    def _fail(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._say(status, {"error": {"message": message, "type": "fake"}}, headers)

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self._send(status, json.dumps(body).encode(), headers, cut=cut)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


def _completion(asked: Asked, reply: dict[str, Any]) -> dict[str, Any]:
    name = hashlib.sha256(asked.image.tobytes()).hexdigest()[:8]
    text = json.dumps({field: [f"{field} of {name}"] for field in FIELDS})
    if "response_format" not in asked.body:
        text = f"Here you are: {text}"
    words = text.split(" ")
    limit = asked.body["max_tokens"]
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": min(len(words), limit),
        "prompt_tokens_details": {"cached_tokens": 32},
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": " ".join(words[:limit])},
        "finish_reason": "length" if len(words) > limit else "stop",
    }
    return {"object": "chat.completion", "choices": [{**choice, **reply}], "usage": usage}
