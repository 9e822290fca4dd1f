"""Objects under a prefix, in a bucket or a local folder, with the same promises.

A finished object is complete and never changes; a pointer changes only by compare-and-swap.
"""

from __future__ import annotations

from pathlib import Path

from hqclip.errors import ConfigError, MissingSoftwareError, NotFoundError
from hqclip.store.protocol import Listed, ObjectInfo, Store, check_key

__all__ = [
    "Listed",
    "ObjectInfo",
    "Store",
    "check_key",
    "check_not_empty",
    "in_bucket",
    "open_store",
    "read_uri",
    "split_uri",
]


def open_store(uri: str) -> Store:
    """The store at `gs://bucket/prefix`, `s3://bucket/prefix`, `file:///folder` or a plain path.

    Raises `ConfigError` for other schemes and `MissingSoftwareError` without the packages for this one.
    """
    if uri.startswith("gs://"):
        try:
            from hqclip.store.gcs import GcsStore
        except ModuleNotFoundError as error:
            raise MissingSoftwareError(f"{uri}: {error}; install hqclip with its extra `gcs`") from error
        return GcsStore(uri)
    if uri.startswith("s3://"):
        try:
            from hqclip.store.s3 import S3Store
        except ModuleNotFoundError as error:
            raise MissingSoftwareError(f"{uri}: {error}; install hqclip with its extra `s3`") from error
        return S3Store(uri)
    scheme, colon, rest = uri.partition("://")
    if colon and scheme != "file":
        raise ConfigError(f"store {uri!r}: give gs://bucket/prefix, s3://bucket/prefix or a local folder")
    from hqclip.store.local import LocalStore

    return LocalStore(Path(rest if colon else uri))


def check_not_empty(store: Store) -> None:
    """Raises `NotFoundError` if nothing is in it: for commands that only look, a slip in its name is no empty store."""
    if next(iter(store.list()), None) is None:
        raise NotFoundError(f"{store.uri} is empty: no store of hqclip is there")


def in_bucket(uri: str) -> bool:
    """Whether it is a place that every machine can reach, and no folder."""
    return uri.startswith(("gs://", "s3://"))


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b.tar` -> (`gs://bucket/a`, `b.tar`); the same for local paths."""
    folder, slash, name = uri.rpartition("/")
    if not name:
        raise ConfigError(f"{uri!r} names a folder; give the object itself")
    return (folder or "/") if slash else ".", name


def read_uri(uri: str) -> bytes:
    """The whole object at an absolute URI, verified. Raises `NotFoundError`."""
    folder, name = split_uri(uri)
    return open_store(folder).read(name)
