"""A model of the Hugging Face hub in, its commit, the list of its files, and the files out; by its own client.

Token, address and proxies are those of the client: HF_TOKEN, HF_ENDPOINT, HTTPS_PROXY. HF_HUB_OFFLINE=1 keeps it off
the network; what lies in its own cache (HF_HOME) is used where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hqclip.errors import NotFoundError, StorageError, UnavailableError
from hqclip.foreign import translated
from hqclip.models.contents import COVERED, chosen, is_whole, sha256_of
from hqclip.models.names import HubName, is_commit
from hqclip.plain_http import refuse_in_clear
from hqclip.store.local import BLOCK_BYTES


class HubFile(NamedTuple):
    """One file of a commit: its SHA-256 where the hub keeps it as a large file, else empty and its git blob id."""

    size: int
    sha256: str
    blob_id: str


def commit_of(name: HubName) -> str:
    """The commit that a model's revision stands for now; without a network, when the client last asked.

    Raises `NotFoundError`, `AccessError`, `UnavailableError`, and `ConfigError` for what cannot be a name.
    """
    if is_commit(name.revision):
        return name.revision
    try:
        with _asking(name):
            check_address()
            from huggingface_hub import HfApi

            return HfApi().resolve_revision(name.repository, revision=name.revision or None).resolved
    except (NotFoundError, UnavailableError) as error:
        raise type(error)(f"{error}; a name with a commit is not asked about: {name.repository}@COMMIT") from error


def list_files(name: HubName, commit: str) -> dict[str, HubFile]:
    """The files of a commit that belong to the model, as `contents` says. Raises as `commit_of`."""
    with _asking(name):
        check_address()
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        tree = HfApi().list_repo_tree(name.repository, revision=commit)
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    return {
        path: HubFile(files[path].size, lfs.sha256 if (lfs := files[path].lfs) else "", files[path].blob_id)
        for path in chosen(files)
    }


def download(name: HubName, commit: str, files: Mapping[str, HubFile], folder: Path) -> None:
    """Bring the files into `folder`, going on where an earlier try broke off, and see that they are the hub's.

    Raises as `commit_of`, and `StorageError` for a file that came with another content, which is removed.
    """
    for path, file in files.items():
        with _asking(name):
            check_address()
            from huggingface_hub import hf_hub_download
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
            nowhere = folder / ".cache"  # what the client itself has of this commit is not whole, or damaged
            hf_hub_download(name.repository, path, revision=commit, local_dir=folder, cache_dir=nowhere)
        if not _is(folder / path, file):
            (folder / path).unlink(missing_ok=True)
            raise StorageError(f"{_about(name)}: {path} arrived with another content than the hub says; try again")


def in_own_cache(name: HubName, commit: str) -> Path | None:
    """The folder of a commit in the client's own cache, if the model is there.

    The client knows whether a copy is whole if it has seen the list of files; else weights and config must be there.
    """
    with _asking(name):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        patterns = [f"*{suffix}" for suffix in COVERED]
        try:
            found = snapshot_download(
                name.repository, revision=commit, allow_patterns=patterns, ignore_patterns="*/*", local_files_only=True
            )
        except LocalEntryNotFoundError:
            return None
    return Path(found) if is_whole(Path(found)) else None


def check_address() -> None:
    """Raises `ConfigError` if the client would send its token in clear, to a mirror that HF_ENDPOINT names."""
    from huggingface_hub import constants, get_token

    if get_token() and not (constants.HF_HUB_OFFLINE or constants.HF_HUB_DISABLE_IMPLICIT_TOKEN):
        refuse_in_clear("HF_TOKEN (or the token of a login)", constants.ENDPOINT)


@contextmanager
def _asking(name: HubName) -> Iterator[None]:
    """What the client raises is told as one of our faults; where it says that it has no copy, why it did not ask."""
    with translated(_about(name)):
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RevisionResolutionError

        try:
            yield
        except (LocalEntryNotFoundError, RevisionResolutionError) as error:
            cause = error.__cause__
            silent = isinstance(cause, HfHubHTTPError | ConnectionError) or type(cause).__module__.startswith("httpx")
            if cause is None or not silent:
                raise
            raise cause from None


def _is(path: Path, file: HubFile) -> bool:
    if file.sha256:
        return path.stat().st_size == file.size and sha256_of(path) == file.sha256
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)  # as git names it
    with path.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == file.blob_id


def _about(name: HubName) -> str:
    return f"model {name.repository}{'@' * bool(name.revision)}{name.revision} of the hub"
