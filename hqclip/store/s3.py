"""A bucket of S3, or of a server that speaks its language, as a store.

What creates or swaps is conditional (If-None-Match, If-Match), carries Content-MD5, and says in the object's metadata
its crc32c and which call wrote it: so every request is safe to repeat, and what is read can be checked.

By botocore, because it reads every setting and source of keys that pods are given and works in forked processes;
obstore is quicker (benchmarks/s3_clients.md), but hangs in them and knows no AWS_CA_BUNDLE. The transfers of boto3 know
no conditions, so parts are sent from here.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mimetypes
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import google_crc32c
from botocore.exceptions import BotoCoreError, ClientError

from hqclip.errors import ConfigError, ConflictError, HQClipError, NotFoundError, StorageError
from hqclip.store.buckets import reader, unpacked
from hqclip.store.leftovers import scratch_folder
from hqclip.store.local import check_prefix, check_range, checksum, faults_at, new_file, opened
from hqclip.store.protocol import Listed, ObjectInfo, check_key
from hqclip.store.s3_client import Patience, client, faults_of, status_of
from hqclip.store.s3_promises import PROBE, broken_promises, check_once

T = TypeVar("T")
PART_BYTES = 32 << 20  # what is larger is sent in parts, and a part that breaks off is sent again alone;
# on a condition only what is larger than this: of two who end at the same moment some servers (SeaweedFS 4.48) let both
WHOLE_BYTES = 1 << 30
MAX_PARTS = 10_000
PARTS_AT_ONCE = 4
BLOCK_BYTES = 1 << 20
CRC32C, WRITER = "hqclip-crc32c", "hqclip-write"  # metadata: of the content, in hexadecimal; the call that wrote it
BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(.*))?")
CREATE = {"IfNoneMatch": "*"}
Json = dict[str, Any]


class S3Store:
    """The objects of `s3://bucket/prefix`. The network is not touched before the first call of a method.

    Where the service is and who asks says the environment (`hqclip.store.s3_client`). A generation is the ETag and the
    call that wrote it. ETags mostly are digests: a swap that expects bytes which were replaced and came back succeeds,
    so who swaps writes in them who and when.
    """

    def __init__(self, uri: str, patience: Patience | None = None) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, prefix = split_s3(self.uri)
        self._root = f"{check_key(prefix)}/" if prefix else ""
        self._patience = patience or Patience()

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        """See `Store.write`. Above 32 MiB, an object that exists is noticed before anything is sent."""
        with opened(data) as file:
            size, crc32c = checksum(file)
            if create_only and size > PART_BYTES and self.exists(key):
                return self._the_same(key, size, crc32c)
            try:
                return self._upload(key, file, (size, crc32c), CREATE if create_only else {})
            except ClientError as taken:
                try:
                    return self._the_same(key, size, crc32c)
                except ConflictError as conflict:
                    raise conflict from taken

    def _the_same(self, key: str, size: int, crc32c: int) -> ObjectInfo:
        """What is there, if it has this content: another one wrote the same, or the answer to this call got lost."""
        there = self.stat(key)
        if there is None or (there.size, there.crc32c) != (size, crc32c):
            raise ConflictError(f"{self._object(key)} exists with other content; it was left alone")
        return there

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        """See `Store.swap`, and the class for what a generation is."""
        condition = {"IfMatch": expected.generation.partition(" ")[0]} if expected else CREATE
        file = io.BytesIO(data)
        try:
            return self._upload(key, file, checksum(file), condition)
        except (ClientError, NotFoundError) as refused:
            if expected is None and isinstance(refused, NotFoundError):  # no bucket
                raise
            raise ConflictError(f"{self._object(key)} was changed by someone else; read it again") from refused

    def download(self, key: str, path: Path) -> ObjectInfo:
        """See `Store.download`. Continues where the connection broke, in the same generation."""
        with faults_at(path), new_file(path) as file:
            answer = self._fetch(key, file.write)
            file.seek(0)
            return self._verified(key, answer, *checksum(file))

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`. If the object is replaced, reading on raises `NotFoundError`; data are never mixed."""
        there = self._found(key)
        if there is None:
            raise NotFoundError(f"{self._object(key)}: no such object")
        return reader(self, ObjectInfo(key, int(there["ContentLength"]), 0, _generation(there)))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        check_range(start, length)
        if start or length is not None:
            return self.read_range(key, start, length)
        data = bytearray()
        answer = self._fetch(key, data.extend)
        whole = bytes(data)
        self._verified(key, answer, len(whole), google_crc32c.value(whole))
        return unpacked(self._object(key), whole) if answer.get("ContentEncoding") == "gzip" else whole

    def read_range(self, key: str, start: int, length: int | None, generation: str | None = None) -> bytes:
        """As `read`, of one generation if it is given. A part cannot be checked against the checksum of the whole."""
        if length == 0:
            return b""
        wanted = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
        if generation:
            wanted["IfMatch"] = generation.partition(" ")[0]
        try:
            return self._ask(
                key, "s3:GetObject", lambda place: bytes(client().get_object(**place, **wanted)["Body"].read())
            )
        except ClientError as error:
            raise NotFoundError(f"{self._object(key)} was replaced while it was read") from error
        except _BehindTheEnd:
            return b""

    def stat(self, key: str) -> ObjectInfo | None:
        """See `Store.stat`. What another program has uploaded without a crc32c is read for it."""
        there = self._found(key)
        if there is None:
            return None
        crc32c = _crc32c(there)
        if crc32c is not None:
            return ObjectInfo(key, int(there["ContentLength"]), crc32c, _generation(there))
        counted = [0, 0]

        def count(block: bytes) -> None:
            counted[:] = counted[0] + len(block), google_crc32c.extend(counted[1], block)

        try:
            answer = self._fetch(key, count)
        except NotFoundError:
            return None
        return ObjectInfo(key, counted[0], counted[1], _generation(answer))

    def identity(self, key: str) -> tuple[int, int | str] | None:
        """Size, and crc32c or else ETag, whichever is known without reading the object; None if there is none."""
        there = self._found(key)
        if there is None:
            return None
        crc32c = _crc32c(there)
        return int(there["ContentLength"]), _etag(there) if crc32c is None else crc32c

    def changed_at(self, key: str) -> float | None:
        """See `Store.changed_at`. In whole seconds: services tell no more."""
        there = self._found(key)
        return None if there is None else float(there["LastModified"].timestamp())

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        return self._found(key) is not None

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`. All keys are held in memory: some servers give them folder by folder, and not sorted.

        Objects that only mark folders (names that end in `/`) are left out.
        """
        check_prefix(prefix)
        return self._keys(prefix)

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """See `Store.scan`. A page at a time is held in memory; times are in whole seconds."""
        check_prefix(prefix)
        return (Listed(one["Key"], one["Size"], one["LastModified"].timestamp()) for one in self._listed(prefix))

    def copy(self, source_uri: str, key: str) -> ObjectInfo:
        """See `Store.copy`. Through this machine."""
        split_s3(source_uri)
        folder, _, name = source_uri.rpartition("/")
        check_key(key)
        with scratch_folder() as scratch:
            S3Store(folder, self._patience).download(name, scratch / "object")
            return self.write(key, scratch / "object")

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._ask(key, "s3:DeleteObject", lambda place: client().delete_object(**place))

    def broken_promises(self) -> tuple[str, ...]:
        """What a store relies on and this server does not keep, by name; tried on a small object that is gone again."""
        return tuple(broken_promises(self.uri, self._bucket, self._root, self._patience))

    def _object(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _place(self, key: str) -> Json:
        if "\\" in check_key(key):
            raise ConfigError(f"{key!r} is not a key of a bucket: some servers take its backslash for a slash")
        return {"Bucket": self._bucket, "Key": self._root + key}

    def _ask(self, key: str, permission: str, request: Callable[[Json], T]) -> T:
        """What `request` gives for the place of `key`; a `ClientError` is a failed precondition (412) and no other."""
        place = self._place(key)
        with faults_of(self._object(key), permission):
            try:
                return self._patience.run(lambda: request(place))
            except ClientError as error:
                if status_of(error) == 416:
                    raise _BehindTheEnd from error
                raise

    def _found(self, key: str) -> Json | None:
        """The headers of an object. An answer to HEAD has no body: what else is wrong says another question."""

        def head(place: Json) -> Json | None:
            try:
                return dict(client().head_object(**place, ChecksumMode="ENABLED"))
            except ClientError as error:
                if status_of(error) == 404:
                    return None
                if status_of(error) in (301, 400, 403):
                    client().get_object(**place)["Body"].close()
                raise

        return self._ask(key, "s3:GetObject", head)

    def _fetch(self, key: str, take: Callable[[bytes], object]) -> Json:
        """Give all blocks to `take`, over any breaks, of one generation; the headers of the first answer."""
        first: Json = {}
        position = 0

        def some(place: Json) -> bool:
            """Whether the end was reached; False if there was progress, which begins the patience anew."""
            nonlocal position, first
            begun = position
            resumed = {"Range": f"bytes={position}-", "IfMatch": first["ETag"]} if position else {}
            answer = client().get_object(**place, **resumed)
            first = first if position else answer
            try:
                for block in answer["Body"].iter_chunks(BLOCK_BYTES):
                    take(block)
                    position += len(block)
            except BotoCoreError:
                if position == begun:
                    raise
                return False
            return True

        try:
            while not self._ask(key, "s3:GetObject", some):
                pass
        except ClientError as error:
            raise NotFoundError(f"{self._object(key)} was replaced while it was read") from error
        except _BehindTheEnd:  # it broke off after the last byte
            pass
        return first

    def _upload(self, key: str, file: BinaryIO, content: tuple[int, int], condition: Json) -> ObjectInfo:
        """Send all of `file`, of this size and crc32c; a `ClientError` (412) if the condition does not hold."""
        size, crc32c = content
        call = secrets.token_hex(8)
        about: Json = {
            "Metadata": {CRC32C: f"{crc32c:08x}", WRITER: call},
            "ContentType": mimetypes.guess_type(key)[0] or "application/octet-stream",
        }
        in_parts = size > (WHOLE_BYTES if condition else PART_BYTES)
        self._place(key)
        if condition:
            check_once(self.uri, self._bucket, self._root, in_parts, self._patience)
        try:
            send = self._send_in_parts if in_parts else self._send_whole
            etag = send(key, _Counted(file, content, self._object(key)), about, condition)
        except (ClientError, NotFoundError):
            there = self._found(key)
            if there is None or there["Metadata"].get(WRITER) != call:
                raise
            etag = _etag(there)  # it was this very call: the first answer got lost on the way
        return ObjectInfo(key, size, crc32c, f"{etag} {call}")

    def _send_whole(self, key: str, file: _Counted, about: Json, condition: Json) -> str:
        """The ETag of what was sent in one request."""
        digest = hashlib.md5(usedforsecurity=False)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
        file.check()
        given = {**about, **condition, "ContentMD5": _base64(digest.digest())}
        answer = self._ask(key, "s3:PutObject", lambda place: client().put_object(**place, **given, Body=file.again()))
        return _etag(answer)

    def _send_in_parts(self, key: str, file: _Counted, about: Json, condition: Json) -> str:
        """The ETag of what was put together; nothing is left of it if that fails."""
        begun = self._ask(key, "s3:PutObject", lambda place: client().create_multipart_upload(**place, **about))
        upload = {"UploadId": begun["UploadId"]}
        try:
            parts = self._send_parts(key, file, upload)
            file.check()
            whole = {"MultipartUpload": {"Parts": parts}, **upload, **condition}
            answer = self._ask(key, "s3:PutObject", lambda place: client().complete_multipart_upload(**place, **whole))
            return _etag(answer)
        except BaseException:
            with suppress(HQClipError, ClientError):
                self._ask(
                    key, "s3:AbortMultipartUpload", lambda place: client().abort_multipart_upload(**place, **upload)
                )
            raise

    def _send_parts(self, key: str, file: _Counted, upload: Json) -> Sequence[Json]:
        """The number and ETag of every part, a few of them under way at the same time."""
        part_bytes = max(PART_BYTES, -(-file.content[0] // MAX_PARTS))
        sent: list[Json] = []
        under_way: deque[Future[Json]] = deque()
        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            try:
                while block := file.read(part_bytes):
                    number = len(sent) + len(under_way) + 1
                    under_way.append(pool.submit(self._send_part, key, number, block, upload))
                    if len(under_way) >= PARTS_AT_ONCE:
                        sent.append(under_way.popleft().result())
                return sent + [part.result() for part in under_way]
            finally:
                pool.shutdown(cancel_futures=True)

    def _send_part(self, key: str, number: int, block: bytes, upload: Json) -> Json:
        given = {"PartNumber": number, "Body": block, "ContentMD5": _base64(_md5(block)), **upload}
        answer = self._ask(key, "s3:PutObject", lambda place: client().upload_part(**place, **given))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _verified(self, key: str, answer: Json, size: int, crc32c: int) -> ObjectInfo:
        """What came through, if it is what is stored; what bears no crc32c has that of the bytes as they came."""
        stored = int(answer["ContentLength"]), _crc32c(answer)
        if stored not in ((size, crc32c), (size, None)):
            raise StorageError(
                f"{self._object(key)}: {size} bytes with crc32c {crc32c:08x} came through, "
                f"but {stored[0]} bytes with {stored[1] or 0:08x} are stored; run again"
            )
        return ObjectInfo(key, size, crc32c, _generation(answer))

    def _keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(one["Key"] for one in self._listed(prefix))

    def _listed(self, prefix: str) -> Iterator[Json]:
        """What the service says of each object, `Key` without the root of the store."""
        wanted: Json = {"Bucket": self._bucket, "Prefix": self._root + prefix}
        with faults_of(f"{self.uri}/{prefix}", "s3:ListBucket"):
            while True:
                page = self._patience.run(lambda: client().list_objects_v2(**wanted))
                for there in page.get("Contents", []):
                    key = there["Key"].removeprefix(self._root)
                    if not key.endswith("/") and not key.startswith(PROBE):
                        yield {**there, "Key": key}
                if not page.get("IsTruncated"):
                    return
                wanted["ContinuationToken"] = page["NextContinuationToken"]


class _BehindTheEnd(Exception):
    """The range begins at or behind the end of the object (416)."""


class _Counted:
    """A file of this `content`, size and crc32c, which is to be `uri`; read once, it is checked for that."""

    def __init__(self, file: BinaryIO, content: tuple[int, int], uri: str) -> None:
        self._file, self.content, self._uri = file, content, uri
        self._seen = (0, 0)
        file.seek(0)

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self._seen = self._seen[0] + len(block), google_crc32c.extend(self._seen[1], block)
        return block

    def check(self) -> None:
        if self._seen != self.content:
            raise StorageError(f"{self._uri}: the file changed while it was sent; run again")

    def again(self) -> BinaryIO:
        self._file.seek(0)
        return self._file


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _etag(answer: Json) -> str:
    return str(answer["ETag"])


def _generation(answer: Json) -> str:
    """ETag, and the call that wrote it; for what others have written, the time."""
    call = answer["Metadata"].get(WRITER) or f"{answer['LastModified'].timestamp():.0f}"
    return f"{_etag(answer)} {call}"


def _crc32c(answer: Json) -> int | None:
    """What we said of it when we wrote it, or else what the service knows; None if it is not of the whole object."""
    ours, theirs = answer["Metadata"].get(CRC32C, ""), answer.get("ChecksumCRC32C", "-")
    if re.fullmatch(r"[0-9a-f]{8}", ours):
        return int(ours, 16)
    if "-" in theirs or answer.get("ChecksumType") == "COMPOSITE":
        return None
    return int.from_bytes(base64.b64decode(theirs), "big")


def split_s3(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` -> (`bucket`, `a/b`). Raises `ConfigError`."""
    match = BUCKET.fullmatch(uri)
    if match is None:
        raise ConfigError(f"{uri!r} is not in S3: give s3://bucket/name")
    return match[1], match[2] or ""
