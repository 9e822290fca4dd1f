"""Which client of S3: `pip install obstore; python benchmarks/s3_clients.py`, about a minute.

A store by botocore and the same requests by obstore, against SeaweedFS on this machine: small objects one after
another, a large one, and what else a client must do here. Writes s3_clients.md.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import obstore
from obstore.store import S3Store as Obstore

from hqclip.store.s3 import S3Store
from hqclip.store.s3_client import client
from tests.fakes.s3 import KEYS, SeaweedFS

SMALL, SMALL_BYTES, LARGE_BYTES = 200, 1024, 256 << 20
Row = list[str]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, SeaweedFS(Path(folder)) as server:
        os.environ.update(KEYS, AWS_ENDPOINT_URL=server.url, AWS_REGION="us-east-1")
        client().create_bucket(Bucket="bucket")
        ours = S3Store("s3://bucket/ours")
        theirs = Obstore(
            "bucket",
            prefix="theirs",
            endpoint=server.url,
            access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            client_options={"allow_http": True},
        )
        rows = measured(
            "hqclip by botocore", lambda key, data: ours.write(key, data), lambda key: ours.read(key), "AWS_CA_BUNDLE"
        )
        rows += measured(
            "obstore",
            lambda key, data: obstore.put(theirs, key, data, mode="create"),
            lambda key: bytes(obstore.get(theirs, key).bytes()),
            known_to_obstore("aws_ca_bundle"),
        )
    head = [
        "client",
        "create 1 KiB, ms",
        "read 1 KiB, ms",
        "create 256 MiB, MB/s",
        "read 256 MiB, MB/s",
        "forked",
        "CA",
    ]
    table = [head, ["---"] * len(head), *rows]
    said = (
        "# Which client of S3\n\nSeaweedFS on the same machine, so that the client is what is measured; medians of "
        f"{SMALL} small objects one after another, the better of two large ones. botocore's rows are of the store, "
        "with crc32c, MD5 and the conditions.\n\n"
        + "\n".join(f"| {' | '.join(row)} |" for row in table)
        + f"\n\nPython {platform.python_version()}, {os.cpu_count()} cores, which other work was using too.\n"
    )
    Path(__file__).with_suffix(".md").write_text(said)
    print(said)


def measured(name: str, write: Callable[[str, bytes], object], read: Callable[[str], bytes], ca: str) -> list[Row]:
    """One row: how long it takes, whether a forked process can read, how a CA is named."""
    small, large = os.urandom(SMALL_BYTES), os.urandom(LARGE_BYTES)
    write("first", small)
    creates = [seconds(lambda key=f"small-{n}": write(key, small)) for n in range(SMALL)]  # type: ignore[misc]
    reads = [seconds(lambda key=f"small-{n}": read(key)) for n in range(SMALL)]  # type: ignore[misc]
    sent = min(seconds(lambda key=f"large-{n}": write(key, large)) for n in range(2))  # type: ignore[misc]
    got = min(seconds(lambda key=f"large-{n}": read(key)) for n in range(2))  # type: ignore[misc]
    times = [f"{1000 * statistics.median(some):.1f}" for some in (creates, reads)]
    rates = [f"{LARGE_BYTES / 1e6 / some:.0f}" for some in (sent, got)]
    return [[name, *times, *rates, "reads" if reads_when_forked(lambda: read("first")) else "hangs", ca]]


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def reads_when_forked(read: Callable[[], bytes]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        with suppress(BaseException):
            read()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def known_to_obstore(key: str) -> str:
    try:
        Obstore("bucket", config={key: "/ca.pem"})
    except Exception as error:  # what it raises has no common name
        return f"`{key}`: {type(error).__name__}"
    return key


if __name__ == "__main__":
    main()
