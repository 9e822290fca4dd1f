"""What a person calls a model in, a folder of this machine with its files out, and what identifies them.

- `/folder`, also on a mounted volume: used where it is.
- `gs://bucket/folder`, `s3://bucket/folder`: fetched into the cache.
- `org/name@revision` on the Hugging Face hub: used where it is if the hub's own cache (`HF_HOME`) has it, else fetched
  into the cache. A revision that is no commit is asked about first.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hqclip import log
from hqclip.errors import DataError, HQClipError, NotFoundError
from hqclip.models import hub
from hqclip.models.cache import Kept, kept
from hqclip.models.contents import chosen, digest_of_files, sha256_of, sha256_of_all
from hqclip.models.names import HubName, hub_name
from hqclip.records import digest_of
from hqclip.store import Store, in_bucket, open_store, split_uri
from hqclip.typed_json import loads

AT_ONCE = 4  # files that are downloaded at a time


class Weights(NamedTuple):
    """A model in a folder: the commit of the hub that it is of (empty for others), and SHA-256 of its files by name."""

    folder: Path
    revision: str
    sha256: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What identifies the model, wherever it lies."""
        return digest_of_files(self.sha256)


def find(name: str) -> Weights:
    """The model of this name, fetched if it must be.

    Raises `NotFoundError`, `AccessError`, `UnavailableError`, `StorageError`, `ConfigError` for what can be no name,
    and `DataError` for files that are not those that were mirrored.
    """
    on_hub = hub_name(name)
    if on_hub:
        return _of_hub(on_hub)
    if in_bucket(name):
        return _of_bucket(name.rstrip("/"))
    folder = Path(name).absolute()
    sha256 = sha256_of_all(folder)
    check_mirrored(str(folder), sha256)
    return Weights(folder, "", sha256)


def _of_hub(name: HubName) -> Weights:
    commit = hub.commit_of(name)
    own = hub.in_own_cache(name, commit)
    if own and _has_all(name, commit, own):
        sha256 = sha256_of_all(own)
        if all(_is_named_after(own / file, digest) for file, digest in sha256.items()):
            return Weights(own, commit, sha256)
        log.warning("models", f"{own} is damaged: it is not used")

    def fill(folder: Path) -> None:
        hub.download(name, commit, hub.list_files(name, commit), folder)

    found = kept(name.at(commit), fill)
    return Weights(found.folder, commit, found.sha256)


def _has_all(name: HubName, commit: str, folder: Path) -> bool:
    """Whether every file of the model is there, by the hub's list; while the hub cannot be asked, what is there does.

    The client does not tell of a copy that it brought file by file.
    """
    try:
        listed = hub.list_files(name, commit)
    except HQClipError:
        return True
    return listed.keys() <= {path.name for path in folder.iterdir()}


def _is_named_after(path: Path, sha256: str) -> bool:
    """Whether a file of the hub's own cache has the content that it is named after; small ones are named by git."""
    blob = path.resolve().name
    return len(blob) != len(sha256) or blob == sha256


def _of_bucket(uri: str) -> Weights:
    store = open_store(uri)
    listed = {item.key: item for item in store.scan()}
    names = chosen(listed)
    if not names:
        raise NotFoundError(f"{uri} holds no model: give the folder that has its config.json")
    version = digest_of([[name, listed[name].size, listed[name].changed] for name in names])

    def fill(folder: Path) -> None:
        missing = [name for name in names if not (folder / name).is_file()]
        with ThreadPoolExecutor(AT_ONCE) as workers:
            list(workers.map(lambda name: store.download(name, folder / name), missing))
        _check_fetched(uri, folder)

    found: Kept = kept(f"{uri}@{version}", fill)
    return Weights(found.folder, "", found.sha256)


def _check_fetched(uri: str, folder: Path) -> None:
    """What differs from what was mirrored is removed: another try fetches it anew. Raises `DataError`."""
    mirrored = read_mirrored(uri)
    for name, digest in mirrored.items():
        if (folder / name).is_file() and sha256_of(folder / name) != digest:
            (folder / name).unlink()
    check_mirrored(uri, sha256_of_all(folder), mirrored)


def check_mirrored(uri: str, sha256: Mapping[str, str], mirrored: Mapping[str, str] | None = None) -> None:
    """See that a folder that `hqclip models fetch` filled still has what it brought. Raises `DataError`."""
    told = read_mirrored(uri) if mirrored is None else mirrored
    other = sorted(name for name, digest in told.items() if sha256.get(name) != digest)
    if other:
        raise DataError(
            f"{uri}: {', '.join(other)} is missing or not what was mirrored, by {uri}.json: delete the folder and that "
            "file, and mirror the model again (hqclip models fetch)"
        )


def read_mirrored(uri: str) -> dict[str, str]:
    """SHA-256 by name of the files that `hqclip models fetch` brought to a folder; empty for any other folder."""
    parent, name = split_uri(uri)
    return read_files(open_store(parent), name)


def read_files(store: Store, key: str) -> dict[str, str]:
    """As `read_mirrored`, for a folder of a store. Raises `DataError` for a document that is damaged."""
    if not store.exists(f"{key}.json"):
        return {}
    try:
        document = loads(store.read(f"{key}.json"))
        return {str(name): str(digest) for name, digest in document["model_files"].items()}
    except KeyError:
        return {}  # a document of somebody else
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{store.uri}/{key}.json is damaged ({error}): delete it and mirror the model again") from error
