"""A closed cycle in, what it was made with and is not there any more out, a sentence each.

What cannot be known from here, such as whether a registry still has an image of a digest, is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hqclip import __version__, provenance
from hqclip.config import LOCAL_ENGINES
from hqclip.cycle.links import Document, Link
from hqclip.data.sources import list_shards
from hqclip.errors import HQClipError
from hqclip.exported import WEIGHTS
from hqclip.models.contents import chosen, folder_digest
from hqclip.models.names import hub_name
from hqclip.provenance import UNKNOWN
from hqclip.records import Pool, digest_of
from hqclip.store import Store, in_bucket, open_store


def not_there(store: Store, link: Link, shards: str, suite: str) -> Iterator[str]:
    """Shards, suite, LVLM, model, images and code of a cycle, whose shards and suite come from these places."""
    yield from _shards(link.pool, shards, (link.plan and link.plan.provenance) or {})
    yield from _suite(link, suite)
    yield from _lvlm(link.annotator)
    if not store.exists(f"{link.record.candidate}/{WEIGHTS}"):
        yield f"model {link.record.candidate}: its weights are gone, so there is nothing to compare with"
    made = dict(_made(link))
    if len(made) < len(_WANTED):
        yield f"{', '.join(sorted(_WANTED - made.keys()))}: what made it was not recorded (code, image, packages)"
    yield from _code(made)
    yield from _images(made)


_WANTED = {"download", "annotate", "curate", "train", "evaluate", "promote", "plan"}


def _made(link: Link) -> Iterator[tuple[str, Document]]:
    """Who made each part, by stage; of training and judging those of the candidate."""
    name = link.candidate["name"]
    documents = {
        "plan": link.plan and link.plan.provenance,
        "download": link.pool and link.pool.provenance,
        "annotate": link.annotator.get("provenance"),
        "curate": link.version.provenance,
        "train": link.results.get(name, {}).get("provenance"),
        "evaluate": link.evaluations[name].provenance if name in link.evaluations else None,
        "promote": link.record.provenance,
    }
    yield from ((stage, provenance.completed(document)) for stage, document in documents.items() if document)


def _shards(pool: Pool | None, pattern: str, planned: Mapping[str, Any]) -> Iterator[str]:
    """Those that the source lists now, against those of the pool; packed ones have other sizes there."""
    try:
        now = {shard.name: shard for _, shard in list_shards(pattern)}
    except HQClipError as error:
        yield f"shards: {error}"
        return
    if pool is None:
        yield "shards: the manifest of the pool is gone, so nobody knows which they were"
        return
    listed = [[shard.name, shard.size, shard.identity] for shard in now.values()]
    if planned.get("source", {}).get("digest") == digest_of(listed):
        return
    then = {f"{shard.name}.tar": shard for shard in pool.shards}
    for name in then.keys() - now.keys():
        yield f"shard {name}: {pattern} has it no more"
    for name in sorted(now.keys() - then.keys()):
        yield f"shard {name}: {pattern} had it not, or nothing in it could be used"
    for name in sorted(now.keys() & then.keys()):
        has, had = (now[name].size, now[name].identity), (then[name].size, then[name].crc32c)
        comparable = now[name].uri.endswith(".tar") and isinstance(now[name].identity, int)
        if comparable and has != had:
            yield f"shard {name}: it has {has[0]} bytes and crc32c {has[1]}, not {had[0]} and {had[1]}"


def _suite(link: Link, suite: str) -> Iterator[str]:
    from hqclip.evaluate.suite import read_suite

    digests = {evaluation.suite_digest for evaluation in link.evaluations.values()}
    if not suite:
        yield f"suite {', '.join(digests)}: where it lay was not recorded; name it as evaluate_suite"
        return
    try:
        digest = read_suite(suite).digest
    except HQClipError as error:
        yield f"suite: {error}"
        return
    if digests and digest not in digests:
        yield f"suite: {suite} is now {digest}, not {', '.join(digests)}"


def _lvlm(annotator: Document) -> Iterator[str]:
    """A model of a folder must be there with the same content; one of the hub must have a revision."""
    from hqclip.annotate.annotator import DEMO_MODEL

    if not annotator:
        yield "LVLM: no annotator.json says which it was"
        return
    name, engine = str(annotator.get("model", "")), annotator.get("engine")
    if engine not in LOCAL_ENGINES:
        yield f"LVLM {name}: the {engine} engine answered; whether it would answer the same is not known"
        return
    known = (annotator.get("provenance") or {}).get("lvlm", {})
    try:
        folder = DEMO_MODEL if name == "demo" else Path(name)
        if folder.is_dir():
            if folder_digest(folder) != annotator.get("model_digest"):
                yield f"LVLM {name}: its files are not those that annotated"
        elif in_bucket(name):
            if not chosen(open_store(name).list()):
                yield f"LVLM {name}: there is no model any more"
        elif hub_name(name) and "@" not in name and not known.get("revision"):
            yield f"LVLM {name}: its revision was not recorded, and the hub may have another one now"
    except HQClipError as error:
        yield f"LVLM: {error}"


def _code(made: Mapping[str, Document]) -> Iterator[str]:
    """Other versions of hqclip than this one; a commit is compared where both are known."""
    now = (__version__, provenance.commit())
    for (version, commit), stages in _grouped(made, "code_version", "commit").items():
        differs = commit != now[1] and UNKNOWN not in (commit, now[1])
        if version != now[0] or differs:
            yield f"code of {stages}: hqclip {version}, commit {commit}; this is {now[0]}, commit {now[1]}"


def _images(made: Mapping[str, Document]) -> Iterator[str]:
    """A tag may name another image by now; what ran in none must find its packages here."""
    for (image,), stages in _grouped(made, "image").items():
        if image and "@sha256:" not in image:
            yield f"image of {stages}: {image} was named by its tag, and its digest was not recorded"
    now = provenance.packages()
    for stage, document in made.items():
        packages = {} if document["image"] else document["packages"]
        others = [name for name, version in packages.items() if now.get(name) != version]
        if others:
            told = (f"{name} {packages[name]} (here {now.get(name, 'none')})" for name in others)
            yield f"packages of {stage}: {', '.join(told)}"


def _grouped(made: Mapping[str, Document], *fields: str) -> dict[tuple[str, ...], str]:
    """What the documents say in these fields, with the stages that say the same."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for stage, document in made.items():
        groups.setdefault(tuple(document[field] for field in fields), []).append(stage)
    return {said: ", ".join(stages) for said, stages in groups.items()}
