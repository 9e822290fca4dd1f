"""Google Cloud Storage in memory: an HTTP server for the real client, with every precondition and scripted faults.

with FakeGcs("bucket") as fake:
    os.environ["STORAGE_EMULATOR_HOST"] = fake.url
    fault = fake.fault("lose", "POST uploadType=multipart")
    ...
    assert not fake.unfired()
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import google_crc32c

from tests.fakes.scripted import Fault, Script

OBJECTS = re.compile(r"(?:/upload|/download)?/storage/v1/b/([^/]+)/o")
OBJECT = re.compile(OBJECTS.pattern + r"/([^/]+)")
COMPOSE = re.compile(OBJECT.pattern + r"/compose")
REWRITE = re.compile(OBJECT.pattern + r"/rewriteTo/b/([^/]+)/o/([^/]+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
JSON = {"Content-Type": "application/json; charset=UTF-8"}


def now() -> str:
    """As the service writes times: of its own clock, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Stored:
    """One generation of an object; `about` has what the uploader said: contentType, metadata."""

    bucket: str
    name: str
    data: bytes
    generation: int
    about: dict[str, Any]
    metageneration: int = 1
    time: str = field(default_factory=now)
    updated: str = ""

    def __post_init__(self) -> None:
        self.updated = self.time

    def resource(self) -> dict[str, Any]:
        return {
            "contentType": "application/octet-stream",
            **self.about,
            "bucket": self.bucket,
            "name": self.name,
            "size": str(len(self.data)),
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "crc32c": crc32c(self.data),
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
            "etag": f"{self.generation}/{self.metageneration}",
            "timeCreated": self.time,
            "updated": self.updated,
        }


@dataclass
class Upload:
    """A resumable upload on its way."""

    bucket: str
    about: dict[str, Any]
    query: dict[str, str]
    data: bytes = b""
    done: Stored | None = None


@dataclass
class Request:
    """`query` has lower-case names: the client itself spells ifMetaGenerationNotMatch in two ways."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes
    fault: Fault | None

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))

    def damaged(self, data: bytes) -> bytes:
        if self.fault is None or self.fault.kind != "damage" or not data:
            return data
        return bytes([data[0] ^ 1]) + data[1:]


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The service says no, with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(json.dumps({"error": {"code": status, "message": message}}).encode(), status, JSON)


class FakeGcs(Script):
    """`objects` maps (bucket, name) to what is stored."""

    def __init__(self, *buckets: str) -> None:
        super().__init__()
        self.buckets = set(buckets)
        self.objects: dict[tuple[str, str], Stored] = {}
        self.page_size = 1000
        self.rewrite_bytes = 1 << 40  # in one request
        self._uploads: dict[str, Upload] = {}
        self._generations = itertools.count(1_700_000_000_000_000)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeGcs:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, bucket: str, name: str, data: bytes, about: dict[str, Any] | None = None) -> Stored:
        """Store without asking: what someone else did."""
        with self._lock:
            stored = Stored(bucket, name, data, next(self._generations), about or {})
            self.objects[bucket, name] = stored
            return stored

    def answer(self, request: Request) -> Answer:
        """What the service answers, unless something goes wrong on the way."""
        fault = request.fault
        if fault is not None and fault.kind == "refuse":
            return Refusal(fault.value, f"scripted: {fault.value}").answer
        try:
            with self._lock:
                answer = self._route(request)
        except Refusal as refusal:
            answer = refusal.answer
        if fault is not None and fault.kind == "lose":
            answer = Refusal(fault.value, "scripted: done, but the answer is lost").answer
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.value / 1000)
        if fault is not None and fault.then:
            fault.then()
        return answer

    def _route(self, request: Request) -> Answer:
        if "upload_id" in request.query:
            return self._continue_upload(self._uploads[request.query["upload_id"]], request)
        routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
            ("GET", OBJECTS, self._list),
            ("POST", OBJECTS, self._insert),
            ("GET", OBJECT, self._get),
            ("DELETE", OBJECT, self._delete),
            ("PATCH", OBJECT, self._patch),
            ("POST", COMPOSE, self._compose),
            ("POST", REWRITE, self._rewrite),
        ]
        for method, pattern, handle in routes:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                names = [unquote(part) for part in match.groups()]
                for bucket in names[::2]:
                    if bucket not in self.buckets:
                        raise Refusal(404, f"The specified bucket does not exist: {bucket}")
                return handle(request, *names)
        raise Refusal(501, f"the fake cannot do {request.method} {request.path}")

    def _find(self, bucket: str, name: str, generation: str | None = None) -> Stored:
        stored = self.objects.get((bucket, name))
        if stored is None or generation not in (None, str(stored.generation)):
            raise Refusal(404, f"No such object: {bucket}/{name}")
        return stored

    def _store(self, bucket: str, name: str, data: bytes, about: dict[str, Any], query: dict[str, str]) -> Stored:
        """The one door for new generations: preconditions and the promised checksum are looked at here."""
        check(query, self.objects.get((bucket, name)))
        promised = about.pop("crc32c", None)
        if promised not in (None, crc32c(data)):
            raise Refusal(400, f"Provided CRC32C {promised} doesn't match calculated CRC32C {crc32c(data)}.")
        about.pop("name", None)
        return self.put(bucket, name, data, about)

    def _list(self, request: Request, bucket: str) -> Answer:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        start = max(query.get("startoffset", ""), query.get("pagetoken", ""))
        items, prefixes = list[dict[str, Any]](), list[str]()
        page = min(self.page_size, int(query.get("maxresults", "1000")))
        token = {}
        for place, name in sorted(self.objects):
            if (
                place != bucket
                or not name.startswith(prefix)
                or name < start
                or name >= query.get("endoffset", "\U0010ffff")
            ):
                continue
            if len(items) + len(prefixes) == page:
                token = {"nextPageToken": name}
                break
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if not cut:
                items.append(self.objects[bucket, name].resource())
            elif prefix + head + cut not in prefixes:
                prefixes.append(prefix + head + cut)
        return as_json({"items": items, "prefixes": prefixes, **token})

    def _insert(self, request: Request, bucket: str) -> Answer:
        query = request.query
        if query["uploadtype"] == "resumable":
            about = request.json
            check(query, self.objects.get((bucket, about["name"])))
            session = str(len(self._uploads))
            self._uploads[session] = Upload(bucket, about, query)
            place = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            return Answer(headers={"Location": place})
        boundary = request.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        about_part, data_part = request.body.split(b"--" + boundary)[1:3]
        about = json.loads(about_part.partition(b"\r\n\r\n")[2])
        data = request.damaged(data_part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n"))
        return as_json(self._store(bucket, about["name"], data, about, query).resource())

    def _continue_upload(self, upload: Upload, request: Request) -> Answer:
        if upload.done:
            return as_json(upload.done.resource())
        match = CONTENT_RANGE.fullmatch(request.headers["Content-Range"])
        assert match, request.headers["Content-Range"]
        first, _, total = match.groups()
        if first is not None:
            if int(first) > len(upload.data):
                raise Refusal(400, f"Invalid request: expected bytes from {len(upload.data)}, got them from {first}")
            fault = request.fault
            kept = request.body[: fault.value] if fault and fault.kind == "keep" else request.damaged(request.body)
            upload.data = upload.data[: int(first)] + kept
        if total == "*" or len(upload.data) < int(total):
            return Answer(b"", 308, {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {})
        promised = re.search(r"crc32c=([^,]+)", request.headers.get("x-goog-hash") or "")
        about = {**upload.about, **({"crc32c": promised[1]} if promised else {})}
        upload.done = self._store(upload.bucket, about["name"], upload.data, about, upload.query)
        return as_json(upload.done.resource())

    def _get(self, request: Request, bucket: str, name: str) -> Answer:
        stored = self._find(bucket, name, request.query.get("generation"))
        check(request.query, stored, reading=True)
        if request.query.get("alt") != "media":
            return as_json(stored.resource())
        headers = {
            "Content-Type": stored.resource()["contentType"],
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Stored-Content-Length": str(len(stored.data)),
            "X-Goog-Stored-Content-Encoding": stored.about.get("contentEncoding", "identity"),
        }
        if "contentEncoding" in stored.about:
            if "gzip" not in (request.headers.get("Accept-Encoding") or ""):
                return transcoded(request, stored, headers)
            headers["Content-Encoding"] = stored.about["contentEncoding"]
        if match := RANGE.fullmatch(request.headers.get("Range") or ""):
            first, last = int(match[1]), min(int(match[2] or len(stored.data)), len(stored.data) - 1)
            if first > last:
                raise Refusal(416, f"Request range not satisfiable: {match[0]} of {len(stored.data)} bytes")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(stored.data)}"
            return Answer(request.damaged(stored.data[first : last + 1]), 206, headers)
        headers["X-Goog-Hash"] = f"crc32c={crc32c(stored.data)},md5={stored.resource()['md5Hash']}"
        return Answer(request.damaged(stored.data), 200, headers)

    def _delete(self, request: Request, bucket: str, name: str) -> Answer:
        check(request.query, self._find(bucket, name, request.query.get("generation")))
        del self.objects[bucket, name]
        return Answer(status=204)

    def _patch(self, request: Request, bucket: str, name: str) -> Answer:
        stored = self._find(bucket, name, request.query.get("generation"))
        check(request.query, stored)
        stored.about.update(request.json)
        stored.metageneration += 1
        stored.updated = now()
        return as_json(stored.resource())

    def _compose(self, request: Request, bucket: str, name: str) -> Answer:
        data = b""
        for part in request.json["sourceObjects"]:
            source = self._find(bucket, part["name"], part.get("generation"))
            conditions = {key.lower(): str(value) for key, value in part.get("objectPreconditions", {}).items()}
            check(conditions, source)
            data += source.data
        return as_json(self._store(bucket, name, data, request.json.get("destination", {}), request.query).resource())

    def _rewrite(self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str) -> Answer:
        source = self._find(bucket, name, request.query.get("sourcegeneration"))
        check(request.query, source, side="ifsource")
        check(request.query, self.objects.get((to_bucket, to_name)))
        done = int(request.query.get("rewritetoken", "0")) + self.rewrite_bytes
        size = len(source.data)
        progress = {"totalBytesRewritten": str(min(done, size)), "objectSize": str(size), "done": done >= size}
        if done < size:
            return as_json({**progress, "rewriteToken": str(done)})
        about = request.json or dict(source.about)  # what the request says is said in place of all that was there
        stored = self._store(to_bucket, to_name, source.data, about, request.query)
        return as_json({**progress, "resource": stored.resource()})


def transcoded(request: Request, stored: Stored, headers: dict[str, str]) -> Answer:
    """Decompressed for a client that does not take gzip: whole whatever range it wants, under the stored checksum."""
    headers |= {
        "X-Goog-Hash": f"crc32c={crc32c(stored.data)},md5={stored.resource()['md5Hash']}",
        "Warning": "214 UploadServer gunzipped",
    }
    return Answer(request.damaged(gzip.decompress(stored.data)), 200, headers)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a full queue costs a client one second

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a fault of the fake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeGcs
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = {key.lower(): value for key, value in parse_qsl(url.query, keep_blank_values=True)}
        self.fake.connections.add(self.client_address)
        fault = self.fake.next_fault(f"{self.command} {unquote(self.path)}")
        answer = self.fake.answer(Request(self.command, url.path, query, self.headers, body, fault))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if fault is not None and fault.kind == "cut":
            self.wfile.write(answer.body[: fault.value])
            self.close_connection = True
        else:
            self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: object) -> None: ...


def check(query: dict[str, str], stored: Stored | None, side: str = "if", reading: bool = False) -> None:
    """Refuse unless every precondition in `query` holds; what does not exist has generation 0."""
    for number in ("generation", "metageneration"):
        current = getattr(stored, number, 0)
        wanted, unwanted = query.get(f"{side}{number}match"), query.get(f"{side}{number}notmatch")
        if wanted is not None and int(wanted) != current:
            raise Refusal(412, "At least one of the pre-conditions you specified did not hold.")
        if unwanted is not None and int(unwanted) == current:
            raise Refusal(304 if reading else 412, "At least one of the pre-conditions you specified did not hold.")


def as_json(value: dict[str, Any]) -> Answer:
    return Answer(json.dumps(value).encode(), 200, dict(JSON))


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
