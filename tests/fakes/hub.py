"""The Hugging Face hub as its own client sees it: revisions, trees, files in git and large ones behind a redirect.

with FakeHub() as hub:
    commit = hub.push("org/name", {"config.json": b"{}", "model.safetensors": weights})
    hub.hold("model.safetensors")  # half of it comes, and the rest when `hub.go_on()` is called

What it answers is what huggingface_hub 2.4 asks for and the hub was seen to say: 401 with RepoNotFound for a model that
is not there or not to be seen, 403 with GatedRepo, sha256 as the etag of large files.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".model")
Files = dict[str, bytes]


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FakeHub:
    """In a thread, on a free port. `fetched` counts files that were sent, by name; `tokens` are those it was shown."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.fetched: Counter[str] = Counter()
        self.asked: list[str] = []
        self.tokens: set[str] = set()
        self.tokens_elsewhere: set[str] = set()  # on the host of large files, which is not the hub's
        self.lies: dict[str, bytes] = {}  # what is sent in place of a file
        self.down = False
        self.waiting = threading.Semaphore(0)  # released when half of a held file was sent
        self._held, self._go = "", threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.cdn = f"http://localhost:{self._server.server_port}/cdn"  # another host, as that of the hub is

    def push(self, repository: str, files: Files, *refs: str) -> str:
        """The commit, to which the main branch and `refs` point now."""
        commit = hashlib.sha1(json.dumps([repository, {n: sha256(c) for n, c in files.items()}]).encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.refs.setdefault(repository, {}).update(dict.fromkeys(("main", *refs), commit))
        return commit

    def hold(self, name: str) -> None:
        self._held = name
        self._go.clear()

    def go_on(self) -> None:
        self._held = ""
        self._go.set()

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._server.shutdown()
        self._server.server_close()


def _revision(repository: str, commit: str, files: Files) -> dict[str, Any]:
    siblings = [{"rfilename": name} for name in files]
    return {"_id": "1", "id": repository, "sha": commit, "private": False, "siblings": siblings, "tags": []}


def _tree(files: Files) -> list[dict[str, Any]]:
    """The files at the top, and the folders."""
    entries = []
    for name, content in files.items():
        if "/" in name:
            entries.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": name.partition("/")[0]})
            continue
        entry: dict[str, Any] = {"type": "file", "oid": git_id(content), "size": len(content), "path": name}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
        entries.append(entry)
    return entries


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeHub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        fake, path = self.server.fake, urlsplit(self.path).path
        fake.asked.append(f"{self.command} {path}")
        if self.headers["Authorization"]:
            shown = fake.tokens_elsewhere if path.startswith("/cdn/") else fake.tokens
            shown.add(self.headers["Authorization"].removeprefix("Bearer "))
        if fake.down:
            return self._fault(503, "", "the hub is down")
        if match := re.fullmatch(r"/cdn/(.+)/(\w+)/(.+)", path):
            return self._send_file(unquote(match[3]), fake.commits[match[1]][match[2]][unquote(match[3])])
        if match := re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/([^/]+))?", path):
            return self._api(match[1], match[2] or "revision", unquote(match[3] or "main"))
        if match := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], unquote(match[2]), unquote(match[3]))
        return self._fault(404, "", "no such route")

    def _commit(self, repository: str, revision: str) -> str:
        """The commit, or empty if a fault was answered."""
        fake = self.server.fake
        if repository not in fake.commits:
            self._fault(401, "RepoNotFound", "Repository not found")
            return ""
        if repository in fake.gated and not self.headers["Authorization"]:
            self._fault(403, "GatedRepo", f"Access to model {repository} is restricted")
            return ""
        commit = fake.refs[repository].get(revision, revision)
        if commit not in fake.commits[repository]:
            self._fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return ""
        return commit

    def _api(self, repository: str, what: str, revision: str) -> None:
        if commit := self._commit(repository, revision):
            files = self.server.fake.commits[repository][commit]
            about = _revision(repository, commit, files) if what == "revision" else _tree(files)
            self._send(200, json.dumps(about).encode())

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        commit = self._commit(repository, revision)
        content = self.server.fake.commits[repository][commit].get(name) if commit else None
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if commit and content is None:
            self._fault(404, "EntryNotFound", f"{name} does not exist")
        elif content is not None and name.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            headers["Location"] = f"{self.server.fake.cdn}/{repository}/{commit}/{name}"
            self._send(302, b"Found", headers)
        elif content is not None:
            self._send_file(name, content, {**headers, "ETag": f'"{git_id(content)}"'})

    def _send_file(self, name: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        fake = self.server.fake
        content = fake.lies.get(name, content)
        status, headers = 200, dict(headers or {})
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""):
            status, start = 206, int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        held = self.command == "GET" and fake._held == name
        if self.command == "GET":
            fake.fetched[name] += 1
        self._send(status, content, headers, half=held)

    def _fault(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body[: len(body) // 2] if half else body)
            if half:
                self.wfile.flush()
                self.server.fake.waiting.release()
                self.server.fake._go.wait(60)
                self.wfile.write(body[len(body) // 2 :])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
