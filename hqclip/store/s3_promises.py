"""What a server of S3 must keep to hold a store, tried on a small object of its own: the promises it breaks, by name.

Some servers take a condition and ignore it, so that two writers overwrite each other and nobody notices. Therefore a
process tries the conditions once before it relies on them, by seven small requests; `pipelines doctor` tries all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from hqclip.errors import ConfigError, HQClipError
from hqclip.store.s3_client import Patience, client, code_of, faults_of, status_of

PROBE = ".hqclip-probe-"  # how the names of such objects begin; listings leave them out
NOBODY = '"00000000000000000000000000000000"'  # the ETag of no object
OTHER_MD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="  # that of nothing
CREATES = "If-None-Match is ignored or refused for uploads: what is there would be overwritten"
RACES = "of several who create the same object at the same moment more than one succeeds"  # SeaweedFS until 4.16
SWAPS = "If-Match is ignored or refused for uploads: of two writers, one would be lost"
PARTS = "If-None-Match is ignored or refused for uploads in parts: what is there would be overwritten"
DIGESTS = "Content-MD5 is not checked: what is damaged on its way would be stored"
METADATA = "metadata is not kept: what is read could not be checked"
RACERS = 4
_kept: set[tuple[str, str, bool]] = set()  # by these servers and buckets, and whether for parts, in this process


def check_once(uri: str, bucket: str, root: str, in_parts: bool, patience: Patience) -> None:
    """Try the conditions that an upload relies on, the first time in this process. Raises `ConfigError` by name."""
    server = str(client().meta.endpoint_url), bucket, in_parts
    if server in _kept:
        return
    broken = broken_promises(uri, bucket, root, patience, (CREATES, RACES, PARTS if in_parts else SWAPS))
    if broken:
        raise ConfigError(f"{uri}: {server[0]} cannot hold a store; take another server. {'; '.join(broken)}")
    _kept.add(server)


def broken_promises(
    uri: str,
    bucket: str,
    root: str,
    patience: Patience,
    wanted: tuple[str, ...] = (METADATA, CREATES, RACES, SWAPS, PARTS, DIGESTS),
) -> list[str]:
    """Those of `wanted` that the server does not keep. Raises what a store raises if it cannot be asked."""
    place = {"Bucket": bucket, "Key": f"{root}{PROBE}{secrets.token_hex(8)}"}
    ask = partial(_is_done, f"{uri}/{place['Key'].removeprefix(root)}", patience)
    service = client()
    put: Callable[..., Any] = partial(service.put_object, **place, Body=b"x")
    refusing = {
        METADATA: lambda: _refuse_other_metadata(service, place),  # first: what is ignored below writes over it
        CREATES: lambda: put(IfNoneMatch="*"),
        SWAPS: lambda: put(IfMatch=NOBODY),
        PARTS: lambda: _put_in_parts(service, place),
        DIGESTS: lambda: put(ContentMD5=OTHER_MD5),
    }
    try:
        with ThreadPoolExecutor(RACERS) as pool:
            created = list(pool.map(ask, [lambda: put(Metadata={"a": "b"}, IfNoneMatch="*")] * RACERS))
        if not any(created) and ask(refusing[METADATA]):  # it is not there, either: no answer was lost
            return [CREATES]
        broken = [promise for promise, request in refusing.items() if promise in wanted and ask(request)]
        return broken + [RACES] * (sum(created) > 1 and CREATES not in broken)
    finally:
        with suppress(HQClipError):
            ask(lambda: service.delete_object(**place))


def _is_done(uri: str, patience: Patience, request: Callable[[], object]) -> bool:
    """Whether the server does it; False if it refuses what it was told with it."""
    with faults_of(uri, "s3:PutObject and s3:DeleteObject"):
        try:
            patience.run(request)
        except _Kept:
            return False
        except ClientError as error:
            if status_of(error) in (412, 501) or code_of(error) in ("BadDigest", "InvalidDigest", "NoSuchKey"):
                return False
            raise
    return True


class _Kept(Exception):
    """It is as it should be."""


def _refuse_other_metadata(service: Any, place: dict[str, str]) -> None:
    try:
        if service.head_object(**place)["Metadata"] == {"a": "b"}:
            raise _Kept
    except ClientError as error:
        if status_of(error) != 404:
            raise


def _put_in_parts(service: Any, place: dict[str, str]) -> None:
    upload = {**place, "UploadId": service.create_multipart_upload(**place)["UploadId"]}
    try:
        part = service.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        service.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    except ClientError:
        with suppress(ClientError):
            service.abort_multipart_upload(**upload)
        raise
