"""Sampled rows in, what a page shows of them out: small pictures, alt-texts, the text in question, raw answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from hqclip.curate.filters import clean
from hqclip.curate.sampling import Pick
from hqclip.data.dataset import DatasetShard
from hqclip.data.images import thumbnail
from hqclip.data.index import ShardImages, read_index
from hqclip.data.sidecar import Flag, read_annotations
from hqclip.records import AnnotatedRow, Annotation, DatasetVersion, Sample, Status
from hqclip.report import ShownSample
from hqclip.report.refinement import Finding
from hqclip.store import Store

LARGE, SMALL = 256, 144  # pixels a side, of a shown sample and of an example
MAX_PICTURES = 1_900_000  # bytes of all pictures together; base64 makes a third more of them
NOT_IN_TEXTS = Flag.WEAK_ALT_TEXT | Flag.ALT_TEXT_INSTRUCTS | Flag.DUPLICATE_UID | Flag.UNREADABLE_IMAGE | Flag.NO_TEXT
OF_PAIRS = (
    Flag.NEGATIVE_REPEATS
    | Flag.NEGATIVE_NEARLY_EQUAL
    | Flag.NEGATIVE_IN_ALT_TEXT
    | Flag.NEGATIVE_LOOKS_TRUE
    | Flag.EASY_NEGATIVE
    | Flag.UNEVEN_PAIRS
)


class Pictures:
    """Pictures, alt-texts and raw answers of the sampled rows, fetched shard by shard."""

    def __init__(self, store: Store, version: DatasetVersion) -> None:
        self._store, self._version = store, version
        self._samples: dict[tuple[str, int], Sample] = {}
        self._raw: dict[tuple[str, int], AnnotatedRow] = {}
        self._bytes = 0

    def fetch(self, picks: Sequence[Pick]) -> None:
        """Read what belongs to these rows; the first are given pictures until `MAX_PICTURES` is reached."""
        by_shard: dict[str, list[Pick]] = {}
        for pick in picks:
            by_shard.setdefault(pick.shard.key, []).append(pick)
        for found in by_shard.values():
            self._fetch_shard(found[0].shard, found)

    def _fetch_shard(self, shard: DatasetShard, picks: Sequence[Pick]) -> None:
        index = read_index(self._store, shard.entry)
        key = f"annotations/{self._version.annotator}/{shard.entry.name}.parquet"
        said = read_annotations(self._store, key, shard.entry) if self._store.exists(key) else []
        with ShardImages(self._store, shard.entry, index) as images:
            for pick in picks:
                image = b""
                if self._bytes < MAX_PICTURES and pick.key not in self._samples:
                    image = thumbnail(images.read(pick.number), LARGE if pick.is_large else SMALL)
                    self._bytes += len(image)
                self._samples.setdefault(pick.key, Sample(pick.row.uid, image, index.texts[pick.number]))
                if said:
                    self._raw[pick.key] = said[pick.number]

    def sample(self, pick: Pick) -> ShownSample:
        """The card of a sample, with the texts as they are kept."""
        found = tuple(str(flag.name).lower() for flag in pick.row.flags)
        status = () if pick.row.status == Status.OK else (str(pick.row.status),)
        attempts = (f"{pick.row.attempts} attempts",) if pick.row.attempts > 1 else ()
        return ShownSample(
            self._samples[pick.key], pick.row.annotation, (*status, *found, *attempts), self._answer(pick)
        )

    def finding(self, name: str, pick: Pick) -> Finding:
        """What breaks the rule `name` in a row, with the texts as the LVLM wrote them."""
        raw = self._raw.get(pick.key, pick.row)
        sample = self._samples[pick.key]
        if name.upper() not in Flag.__members__:
            return Finding(sample, answer=raw.answer)
        true, false = offending(Flag[name.upper()], raw.annotation, sample.text)
        return Finding(sample, true, false, raw.answer)

    def _answer(self, pick: Pick) -> str:
        raw = self._raw.get(pick.key)
        if raw is None or pick.row.annotation is not None:
            return ""
        return raw.answer or (" ".join(raw.annotation.desc) if raw.annotation else "")


def offending(flag: Flag, annotation: Annotation | None, alt_text: str) -> tuple[str, str]:
    """The text for which the rule is broken, and the false text if the rule is about that; "" where there is none."""
    if annotation is None or flag in NOT_IN_TEXTS:
        return "", ""
    if flag in (Flag.DUPLICATE_TAGS, Flag.TAG_TOO_LONG, Flag.NEGATIVE_TAG_TRUE):
        return ", ".join(annotation.tags), ", ".join(annotation.neg_tags) if flag is not Flag.DUPLICATE_TAGS else ""
    for true, false in zip_longest(annotation.desc, annotation.neg_desc):
        yes, no = (true,) if true else (), (false,) if false is not None else ()
        if flag not in OF_PAIRS and flag in clean(Annotation((), (), yes, ()), alt_text)[1]:
            return true, ""
        if flag in clean(Annotation((), (), yes, no), alt_text)[1]:
            return true or "", false or ""
    return " ".join(annotation.desc), " ".join(annotation.neg_desc) if flag in OF_PAIRS else ""
