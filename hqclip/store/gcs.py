"""A bucket as a store, by the client of Google Cloud Storage.

Every request is safe to repeat: what creates or swaps carries a generation precondition, and a read that breaks off
goes on in the generation it began with.
"""

from __future__ import annotations

import base64
import io
import mimetypes
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
from google.api_core import exceptions as answers
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from hqclip.errors import AccessError, ConfigError, ConflictError, NotFoundError, StorageError, UnavailableError
from hqclip.plain_http import refuse_in_clear
from hqclip.store.buckets import reader, short, unpacked
from hqclip.store.local import check_prefix, check_range, checksum, faults_at, new_file, opened
from hqclip.store.protocol import Listed, ObjectInfo, check_key

RETRY = DEFAULT_RETRY.with_timeout(600).with_delay(initial=1, multiplier=2, maximum=60)
# Seconds to connect and to wait for an answer. The first is also the limit for sending one request, body and all
# (urllib3 changes the socket's timeout only afterwards), so that an upload needs CHUNK_BYTES / 60 s = 0.5 MiB/s.
TIMEOUT_S = (60, 120)
CHUNK_BYTES = 32 << 20
CONNECTIONS = 64  # kept open in a process: one for each thread
WRITER = "hqclip-write"  # metadata of swapped objects: which call wrote this generation
BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?")
PERMISSION = re.compile(r"storage\.(?:objects|buckets|folders|managedFolders|multipartUploads)\.\w+")


class GcsStore:
    """The objects of `gs://bucket/prefix`. The network is not touched before the first call of a method.

    Credentials are Google's application default; none with `STORAGE_EMULATOR_HOST`, which tests set. `retry` says how
    long to go on when the service is busy or the line is down.
    """

    def __init__(self, uri: str, retry: Retry = RETRY) -> None:
        self.uri = uri.rstrip("/")
        self._bucket_name, prefix = split_gs(self.uri)
        self._root = f"{check_key(prefix)}/" if prefix else ""
        self._patience: dict[str, Any] = {"retry": retry, "timeout": TIMEOUT_S}
        # Raw: gzipped objects come as they are stored. No checksum: the client skips it when a download was resumed,
        # and `_verified` does not.
        self._as_stored: dict[str, Any] = {"raw_download": True, "checksum": None, **self._patience}

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        """See `Store.write`. Above 8 MiB, an object that exists is noticed before anything is sent."""
        with opened(data) as file:
            try:
                return self._upload(key, file, generation=0 if create_only else None)
            except answers.PreconditionFailed as taken:
                file.seek(0)
                there = self.stat(key)
                if there is None or (there.size, there.crc32c) != checksum(file):
                    raise ConflictError(f"{self._object(key)} exists with other content; it was left alone") from taken
                return there

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        """See `Store.swap`."""
        call = secrets.token_hex(8)
        generation = int(expected.generation) if expected else 0
        try:
            return self._upload(key, io.BytesIO(data), generation, {WRITER: call})
        except answers.PreconditionFailed as refused:
            there = self._found(key)
            if there is None or (there.metadata or {}).get(WRITER) != call:
                raise ConflictError(f"{self._object(key)} was changed by someone else; read it again") from refused
            return _info(key, there)  # it was this very call: the first answer got lost on the way

    def download(self, key: str, path: Path) -> ObjectInfo:
        """See `Store.download`. Continues where the connection broke, in the same generation."""
        blob = self._blob(key)
        with faults_at(path), new_file(path) as file:
            with faults_of(self._object(key), "storage.objects.get"):
                blob.download_to_file(file, **self._as_stored)
            file.seek(0)
            return self._verified(key, blob, *checksum(file))

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`. If the object is replaced, reading on raises `NotFoundError`; data are never mixed."""
        info = self.stat(key)
        if info is None:
            raise NotFoundError(f"{self._object(key)}: no such object")
        return reader(self, info)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        check_range(start, length)
        if start or length is not None:
            return self.read_range(key, start, length)
        blob = self._blob(key)
        with faults_of(self._object(key), "storage.objects.get"):
            data = bytes(blob.download_as_bytes(**self._as_stored))
        self._verified(key, blob, len(data), google_crc32c.value(data))
        return unpacked(self._object(key), data) if blob.content_encoding == "gzip" else data

    def read_range(self, key: str, start: int, length: int | None, generation: str | None = None) -> bytes:
        """As `read`, of one generation if it is given. A part cannot be checked against the checksum of the whole."""
        if length == 0:
            return b""
        blob = self._blob(key, generation=int(generation) if generation else None)
        end = None if length is None else start + length - 1
        with faults_of(self._object(key), "storage.objects.get"):
            try:
                return bytes(blob.download_as_bytes(start=start, end=end, **self._as_stored))
            except answers.RequestRangeNotSatisfiable:
                return b""  # `start` is at or behind the end

    def stat(self, key: str) -> ObjectInfo | None:
        """See `Store.stat`."""
        blob = self._found(key)
        return None if blob is None else _info(key, blob)

    def changed_at(self, key: str) -> float | None:
        """See `Store.changed_at`."""
        blob = self._found(key)
        return None if blob is None else float(blob.updated.timestamp())

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        return self._found(key) is not None

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`. Objects that only mark folders (names that end in `/`) are left out."""
        check_prefix(prefix)
        return (blob.name.removeprefix(self._root) for blob in self._blobs(prefix, "name"))

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """See `Store.scan`."""
        check_prefix(prefix)
        return (
            Listed(blob.name.removeprefix(self._root), blob.size, blob.updated.timestamp())
            for blob in self._blobs(prefix, "name,size,updated")
        )

    def copy(self, source_uri: str, key: str) -> ObjectInfo:
        """See `Store.copy`. Between places or storage classes, large objects take several requests."""
        bucket, name = split_gs(source_uri)
        with faults_of(source_uri, "storage.objects.get"):
            source = self._bucket(bucket).get_blob(name, **self._patience)
        if source is None:
            raise NotFoundError(f"{source_uri}: no such object")
        target = self._blob(key)
        try:
            with faults_of(self._object(key), "storage.objects.create"):
                token = None
                while True:
                    token, _, _ = target.rewrite(source, token=token, if_generation_match=0, **self._patience)
                    if token is None:
                        return _info(key, target)
        except answers.PreconditionFailed as taken:
            there, wanted = self.stat(key), _info(key, source)
            if there is None or (there.size, there.crc32c) != (wanted.size, wanted.crc32c):
                raise ConflictError(f"{self._object(key)} exists with other content; it was left alone") from taken
            return there

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        blob = self._blob(key)
        with faults_of(self._object(key), "storage.objects.delete"), suppress(answers.NotFound):
            blob.delete(**self._patience)

    def _object(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _bucket(self, name: str) -> storage.Bucket:
        with faults_of(self.uri, "storage.objects.get"):
            return _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST")).bucket(name)

    def _blob(self, key: str, **options: Any) -> storage.Blob:
        return self._bucket(self._bucket_name).blob(self._root + check_key(key), **options)

    def _found(self, key: str) -> storage.Blob | None:
        bucket = self._bucket(self._bucket_name)
        with faults_of(self._object(key), "storage.objects.get"):
            return bucket.get_blob(self._root + check_key(key), **self._patience)

    def _upload(
        self, key: str, file: BinaryIO, generation: int | None, metadata: dict[str, str] | None = None
    ) -> ObjectInfo:
        """Send all of `file`; `PreconditionFailed` if `generation` (0: nothing) is not what is there."""
        size, crc32c = checksum(file)
        blob = self._blob(key, chunk_size=CHUNK_BYTES)
        if metadata:
            blob.metadata = metadata
        needed = "storage.objects.create" if generation == 0 else "storage.objects.create and storage.objects.delete"
        with faults_of(self._object(key), needed):
            try:
                blob.upload_from_file(
                    file,
                    rewind=True,
                    size=size,
                    content_type=mimetypes.guess_type(key)[0] or "application/octet-stream",
                    if_generation_match=generation,
                    checksum="crc32c",
                    crc32c_checksum_value=base64.b64encode(crc32c.to_bytes(4, "big")).decode(),
                    **self._patience,
                )
            except ValueError as error:  # the client gives up when less of a chunk was kept than it had sent
                raise UnavailableError(f"{self._object(key)}: the upload broke off ({error}); run again") from error
        return self._verified(key, blob, size, crc32c)

    def _verified(self, key: str, blob: storage.Blob, size: int, crc32c: int) -> ObjectInfo:
        """What the service says it has sent or stored, if those are the bytes that are here."""
        if blob.crc32c is None:  # the last part of a resumed download comes without
            with faults_of(self._object(key), "storage.objects.get"):
                blob.reload(**self._patience)
        info = _info(key, blob, size)
        if (info.size, info.crc32c) != (size, crc32c):
            raise StorageError(
                f"{self._object(key)}: {size} bytes with crc32c {crc32c:08x} came through, "
                f"but {info.size} bytes with {info.crc32c:08x} are stored; run again"
            )
        return info

    def _blobs(self, prefix: str, fields: str) -> Iterator[storage.Blob]:
        bucket = self._bucket(self._bucket_name)
        wanted: dict[str, Any] = {"prefix": self._root + prefix, "fields": f"items({fields}),nextPageToken"}
        with faults_of(f"{self.uri}/{prefix}", "storage.objects.list"):
            for blob in bucket.list_blobs(**wanted, **self._patience):
                if not blob.name.endswith("/"):
                    yield blob


@lru_cache(maxsize=1)
def _client(_process: int, _emulator: str | None) -> storage.Client:
    """One client for all stores of a process; a forked process must not use its parent's connections."""
    # Otherwise the client asks for the bucket itself, from a thread of its own, which takes storage.buckets.get.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    client = storage.Client(project=None)
    if not isinstance(client._credentials, AnonymousCredentials):  # those of an emulator
        refuse_in_clear("the token for Google Cloud Storage", client.api_endpoint)
    for adapter in client._http.adapters.values():  # keeps ten by default: the others connect for each request
        adapter.init_poolmanager(connections=4, maxsize=CONNECTIONS)
    return client


def split_gs(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> (`bucket`, `a/b`). Raises `ConfigError`."""
    match = BUCKET.fullmatch(uri)
    if match is None:
        raise ConfigError(f"{uri!r} is not in Google Cloud Storage: give gs://bucket/name")
    return match[1], match[2] or ""


@contextmanager
def faults_of(uri: str, permission: str) -> Iterator[None]:
    """Say what the service refused and what helps. `PreconditionFailed` is left to those who set the condition."""
    try:
        yield
    except answers.PreconditionFailed:
        raise
    except answers.NotFound as error:
        raise NotFoundError(f"{uri}: no such object or bucket, or it was replaced while it was read") from error
    except answers.Forbidden as error:
        named = PERMISSION.search(str(error))
        raise AccessError(
            f"{uri}: permission {named[0] if named else permission} is missing; roles/storage.objectUser has it. "
            f"(Without storage.objects.list, what does not exist looks the same.) {short(error)}"
        ) from error
    except (answers.RetryError, auth.TransportError) as error:
        raise UnavailableError(f"{uri}: Google Cloud Storage gave no answer ({short(error)}); run again") from error
    except (answers.Unauthorized, auth.GoogleAuthError) as error:
        advice = "run `gcloud auth application-default login`, or give the pod a service account"
        raise AccessError(f"{uri}: no valid credentials; {advice} ({short(error)})") from error
    except (answers.GoogleAPICallError, DataCorruption) as error:
        raise StorageError(f"{uri}: {short(error)}") from error


def _info(key: str, blob: storage.Blob, received: int = 0) -> ObjectInfo:
    """`received` is the size of a download, whose headers do not tell it."""
    crc32c = int.from_bytes(base64.b64decode(blob.crc32c), "big")
    return ObjectInfo(key, received if blob.size is None else blob.size, crc32c, str(blob.generation))
