"""Servers that messages are sent to: one of HTTP, one of SMTP with STARTTLS and a login. Both do worse when told to.

with FakeWeb() as web, FakeMail(folder) as mail:
    web.manner = "hang"
"""

from __future__ import annotations

import base64
import datetime
import email
import email.policy
import ipaddress
import json
import socketserver
import ssl
import threading
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Manner = Literal["well", "500", "hang", "drip", "redirect", "drop"]


class _Served:
    """Answers in threads of its own until the block ends; `over` says so to those that hang."""

    _server: socketserver.TCPServer

    def __init__(self) -> None:
        self.manner: Manner = "well"
        self.over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class FakeWeb(_Served):
    """Takes POSTs of JSON. `taken` has path, headers and body of each that was answered by 200."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.asked = 0
        super().__init__()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Request, self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"


class _Request(BaseHTTPRequestHandler):
    """One POST."""

    def __init__(self, web: FakeWeb, *given: Any) -> None:
        self.web = web
        super().__init__(*given)

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.web.asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.web.manner == "hang":
            self.web.over.wait(60)
        elif self.web.manner == "drip":
            self._drip()
        elif self.web.manner == "well":
            self.web.taken.append((self.path, dict(self.headers), body))
            self._say(200)
        elif self.web.manner == "redirect":
            self._say(307, Location=f"{self.web.url}/elsewhere")
        elif self.web.manner == "500":
            self._say(500)

    do_GET = do_POST

    def _say(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": "2"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def _drip(self) -> None:
        """A byte now and then: no read of the client's ever times out."""
        self.send_response(200)
        while not self.web.over.wait(0.05):
            self.wfile.write(b"X")
            self.wfile.flush()


class FakeMail(_Served):
    """Takes mails of a user who logs in under TLS; `ca` is the file of the certificate that it shows."""

    USER, PASSWORD = "nightly", "correct horse battery"

    def __init__(self, folder: Path) -> None:
        self.taken: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        super().__init__()
        self.offers_tls = True
        self.ca = folder / "ca.pem"
        key = _certificate(self.ca, folder / "key.pem")
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.ca, key)
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if outer.manner == "hang":
                    outer.over.wait(60)
                elif outer.manner != "drop":
                    _Conversation(outer, self.request).hold()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])


class _Conversation:
    """One client, from its greeting to its farewell (RFC 5321, 3207, 4954)."""

    def __init__(self, server: FakeMail, connection: Any) -> None:
        self.server, self.connection, self.lines = server, connection, connection.makefile("rb")
        self.is_secret = self.is_known = False
        self.sender, self.receivers = "", list[str]()

    def hold(self) -> None:
        self.say("220 fake")
        while line := self.lines.readline():
            words = line.decode().strip().split(" ")
            verb = words[0].upper()
            if verb == "QUIT":
                self.say("221 bye")
                return
            getattr(self, f"on_{verb.lower()}", lambda _: self.say("502 what?"))(words[1:])

    def say(self, text: str) -> None:
        self.connection.sendall(text.encode() + b"\r\n")

    def on_ehlo(self, _: list[str]) -> None:
        offered = "AUTH PLAIN" if self.is_secret else "STARTTLS" if self.server.offers_tls else "SIZE"
        self.say(f"250-fake\r\n250 {offered}")

    def on_starttls(self, _: list[str]) -> None:
        self.say("220 go on")
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.lines, self.is_secret = self.connection.makefile("rb"), True

    def on_auth(self, words: list[str]) -> None:
        given = base64.b64decode(words[1]).decode().split("\0")[1:]
        self.is_known = self.is_secret and given == [self.server.USER, self.server.PASSWORD]
        self.say("235 welcome" if self.is_known else f"535 not you, {given[1]}")

    def on_mail(self, words: list[str]) -> None:
        self.sender = words[0].partition(":")[2].strip("<>")
        self.say("250 ok" if self.is_known else "530 who are you?")

    def on_rcpt(self, words: list[str]) -> None:
        self.receivers.append(words[0].partition(":")[2].strip("<>"))
        self.say("250 ok")

    def on_data(self, _: list[str]) -> None:
        if self.server.manner == "500":
            self.say("554 not today")
            return
        self.say("354 go on")
        content = b""
        while (line := self.lines.readline()) not in (b".\r\n", b""):
            content += line[1:] if line.startswith(b".") else line
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.server.taken.append(mail)
        self.server.envelopes.append((self.sender, self.receivers))
        self.say("250 taken")

    def on_rset(self, _: list[str]) -> None:
        self.say("250 ok")


def _certificate(cert: Path, key: Path) -> Path:
    """Of 127.0.0.1, signed by itself."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake mail")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(secret.private_bytes(*form))
    return key
