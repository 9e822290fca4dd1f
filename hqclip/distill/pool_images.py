"""Where an image lies in a pool in, what an engine is asked about it out: read alone, verified, prepared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hqclip.annotate.engines.protocol import Request
from hqclip.annotate.preparation import Preparation
from hqclip.data.images import ImageFault, Pixels
from hqclip.errors import DataError
from hqclip.store import Store


@dataclass(frozen=True)
class ImageRef:
    """One image of a pool: where its bytes are and what they must be, with the alt-text found beside it."""

    shard: str
    offset: int
    size: int
    uid: str
    text: str
    sha256: str


@dataclass(frozen=True)
class PoolImages:
    """Images and alt-text as the pupil will see them when it annotates; the teacher sees the same."""

    store: Store
    preparation: Preparation

    def request(self, ref: ImageRef, *, grammar: bool) -> Request | None:
        """What an engine is asked about this image; None if it cannot be decoded. Raises `DataError`."""
        try:
            image = self.pixels(ref)
        except ImageFault:
            return None
        return Request(ref.uid, image, self.alt_text(ref), grammar=grammar, sha256=ref.sha256)

    def pixels(self, ref: ImageRef) -> Pixels:
        """(height, width, 3) within the budget of the pupil. Raises `ImageFault` and `DataError`."""
        return self.preparation.pixels(self.read(ref))

    def alt_text(self, ref: ImageRef) -> str:
        """The alt-text, cleaned and cut."""
        return self.preparation.alt_text(ref.text)

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of the image, one read of the store. Raises `DataError` if they are not what the index says."""
        data = self.store.read(ref.shard, ref.offset, ref.size)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise DataError(
                f"{self.store.uri}/{ref.shard}: the image of {ref.uid} is not the one that was indexed; "
                "delete the shard and its index, and run `hqclip download` again"
            )
        return data
