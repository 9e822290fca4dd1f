"""What a person calls a model in, where it lies out: in a folder, in a bucket, or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hqclip.errors import NotFoundError
from hqclip.store import in_bucket

HUB = "hf-hub:"
is_commit = re.compile(r"[0-9a-f]{40}").fullmatch


class HubName(NamedTuple):
    """A model of the hub: `org/name`, and a branch, a tag or a commit; empty is its main branch."""

    repository: str
    revision: str

    def at(self, commit: str) -> str:
        """How the model of this commit is called."""
        return f"{self.repository}@{commit}"


def can_only_be_a_folder(name: str) -> bool:
    """Whether a name is that of a folder by its form, here or on another machine."""
    return name.startswith(("/", ".", "~", "file:")) or name.partition("@")[0].count("/") > 1


def hub_name(name: str) -> HubName | None:
    """The name if it is one of the hub; None for a folder, or what is in a bucket.

    Raises `NotFoundError` for what can only be a folder and is none here.
    """
    if not name.startswith(HUB) and (in_bucket(name) or Path(name).is_dir()):
        return None
    repository, _, revision = name.removeprefix(HUB).partition("@")
    if can_only_be_a_folder(repository):
        raise NotFoundError(
            f"model {name!r}: there is no such folder; give the folder of a model, gs://, s3://, or a name of the hub "
            "(org/name@revision)"
        )
    return HubName(repository, revision)
