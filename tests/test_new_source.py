"""What another kind of place needs so that shards can come from it: a class and a line, shown with a web server.

It knows no crc32c and has no list of its files: an ETag and a size are enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from hqclip.config import DownloadConfig, PlanConfig
from hqclip.cycle import plan
from hqclip.data.download import run
from hqclip.data.index import read_about
from hqclip.data.shards import write_shard
from hqclip.data.sources import SOURCES, list_shards
from hqclip.data.sources.patterns import WILD, expand, split_pattern
from hqclip.data.sources.protocol import RemoteShard
from hqclip.errors import ConfigError, ConflictError, NotFoundError
from hqclip.records import Sample
from hqclip.store import open_store


class Web:
    """Ranges of shards on a web server."""

    def list(self, pattern: str) -> Iterator[RemoteShard]:
        folder, name = split_pattern(pattern)
        if WILD.search(name):
            raise ConfigError(f"{pattern}: a web server has no list of its files; give a range")
        for one in expand(name):
            try:
                with urlopen(Request(f"{folder}/{one}", method="HEAD")) as answer:
                    yield RemoteShard(f"{folder}/{one}", int(answer.headers["Content-Length"]), answer.headers["ETag"])
            except HTTPError as error:
                raise NotFoundError(f"{folder}/{one} does not exist") from error

    def download(self, shard: RemoteShard, path: Path) -> None:
        with urlopen(shard.uri) as answer:
            path.write_bytes(answer.read())


class Tagged(SimpleHTTPRequestHandler):
    """Files of a folder, each with an ETag."""

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing is said."""


@pytest.fixture
def folder(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> Path:
    """Two shards of five samples."""
    (tmp_path / "web").mkdir()
    for number in range(2):
        write_shard(draw_samples(5, first=5 * number), tmp_path / f"web/{number}.tar")
    return tmp_path / "web"


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder on a web server that is a source."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(SOURCES, "http", Web)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Tagged, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def bring(shards: str | Path, store: Path) -> dict[str, Any]:
    return run(DownloadConfig(shards=str(shards), store=str(store)))


def test_shards_from_a_new_source_make_the_same_pool(site: str, folder: Path, tmp_path: Path):
    from_web = bring(f"{site}/{{0..1}}.tar", tmp_path / "a")
    from_folder = bring(folder, tmp_path / "b")
    assert from_web["pool"] == from_folder["pool"]
    assert (from_web["rows"], from_web["already_done"]) == (10, 0)
    assert (tmp_path / "a/shards/1.tar").read_bytes() == (folder / "1.tar").read_bytes()


def test_what_was_fetched_is_known_by_its_identity(site: str, folder: Path, tmp_path: Path):
    pattern = f"{site}/{{0..1}}.tar"
    bring(pattern, tmp_path / "store")
    (_, shard), _ = list_shards(pattern)
    assert read_about(open_store(str(tmp_path / "store")), "shards/0.index.parquet")["identity"] == shard.identity
    assert bring(pattern, tmp_path / "store")["already_done"] == 2
    assert bring(folder, tmp_path / "store")["already_done"] == 2, "by its crc32c, from a folder"
    (folder / "0.tar").write_bytes((folder / "1.tar").read_bytes())
    with pytest.raises(ConflictError, match=rf"shards/0.tar is not {site}/0.tar, but has its name"):
        bring(pattern, tmp_path / "store")


def test_other_content_of_a_new_source_is_another_cycle(site: str, folder: Path, tmp_path: Path):
    def planned() -> dict[str, Any]:
        given = {"store": str(tmp_path / "store"), "shards": f"{site}/{{0..1}}.tar", "trials": "", "data_only": True}
        return plan.run(PlanConfig.from_mapping({**given, "preset": "demo-quick"}))

    assert [planned()["cycle"], planned()["cycle"]] == [1, 1]
    (folder / "0.tar").write_bytes((folder / "1.tar").read_bytes())
    assert planned()["cycle"] == 2


def test_a_new_source_and_an_old_one_may_be_mixed(site: str, folder: Path, tmp_path: Path):
    mixed = f"{folder}/0.tar,{site}/1.tar"
    assert bring(mixed, tmp_path / "a")["pool"] == bring(folder, tmp_path / "b")["pool"]
    with pytest.raises(ConfigError, match=rf"{folder}/0.tar and {site}/0.tar have the same name"):
        list_shards(f"{folder}/0.tar,{site}/0.tar")


def test_a_new_source_refuses_what_it_cannot_do(site: str):
    with pytest.raises(ConfigError, match="no list of its files"):
        list_shards(site)
    with pytest.raises(NotFoundError, match="2.tar does not exist"):
        list_shards(f"{site}/{{0..2}}.tar")
