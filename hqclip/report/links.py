"""A key of the store in, a link from one of its pages out: relative, so that it holds wherever the store is copied to.

Google's pages cannot be reached by relative addresses, so a page in `gs://` has absolute ones. What comes from records
is quoted: a link leads to a key of this store, whatever the record says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from hqclip.report import Link
from hqclip.store import Store

GCS_PAGES = "https://storage.cloud.google.com/"
GCS_FOLDERS = "https://console.cloud.google.com/storage/browser/"
HISTORY = "cycles/history.html"  # the page about all cycles
OUTSIDE = ""  # the page is no object of the store


def links(uri: str, here: str, wanted: Iterable[tuple[str, str]]) -> tuple[Link, ...]:
    """Named keys as links of the page at the key `here`; a key that ends with `/` is a folder.

    From `OUTSIDE` those of a store on S3 cannot be reached, and are left out.
    """
    found = ((name, address(uri, here, key)) for name, key in wanted if key)
    return tuple(Link(name, href) for name, href in found if href)


def history_of(store: Store) -> list[tuple[str, str]]:
    """The page about all cycles, in a store that has any: it is written when the next one ends."""
    return [("history of all cycles", HISTORY)] if next(iter(store.list("cycles/")), None) else []


def sheet_of(digest: str) -> str:
    """The page about a data set version."""
    return f"datasets/{digest}/sheet.html"


def address(uri: str, here: str, key: str) -> str:
    """Where a browser finds the key from the page at `here`; empty where it cannot."""
    if uri.startswith("gs://"):
        start = GCS_FOLDERS if key.endswith("/") else GCS_PAGES
        return start + quote(f"{uri.removeprefix('gs://').rstrip('/')}/{key}")
    if here == OUTSIDE:
        folder = Path(uri.removeprefix("file://")).resolve()
        return "" if uri.startswith("s3://") else f"{folder.as_uri()}/{quote(key)}"
    way = posixpath.relpath(f"/{key}", f"/{posixpath.dirname(here)}")
    return quote(way) + ("/" if key.endswith("/") else "")
