"""The shapes world on disk: a pool of web-like shards to refine, and a suite to judge models with.

From outside the shards look like any DataComp download: pictures, noisy alt-text, JSON with a URL and a hash. The
scene graphs are thrown away; only the suite keeps what its benchmarks ask.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hqclip.config import DemoWorldConfig
from hqclip.data.shards import write_shard
from hqclip.demo.scenes import COLOURS, HELD_OUT, RELATIONS, SHAPES, Scene, Thing, draw_scene, relation, render
from hqclip.demo.texts import alt_text
from hqclip.demo.truth import is_true
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.suite import write_suite
from hqclip.records import Sample
from hqclip.store import Store, open_store
from hqclip.store.leftovers import scratch_folder

SHARD_ROWS = 500
POOL_SEED, SUITE_SEED = 20_250_722, 507_022  # never the lessons' seeds
TEMPLATES = ("a photo of a {}", "{} picture", "buy {} online")  # the pool's own ways of naming things


def make_world(settings: DemoWorldConfig) -> dict[str, Any]:
    """Draw what is missing of the pool and of the suite; where they are, as pipeline inputs take them."""
    root = settings.store.rstrip("/")
    pattern = write_pool(open_store(root), settings.images)
    suite = write_shapes_suite(open_store(f"{root}/suite-{settings.scenes}"), settings.scenes)
    return {
        "shards": f"{root}/{pattern}",
        "suite": f"{root}/suite-{settings.scenes}/{suite}",
        "images": settings.images,
    }


def write_pool(store: Store, num_images: int) -> str:
    """Shards of `SHARD_ROWS` samples; the pattern that names them. What exists is not drawn again."""
    for number, start in enumerate(range(0, num_images, SHARD_ROWS)):
        key = f"pool-{num_images}/{number:05d}.tar"
        if not store.exists(key):
            rows = min(SHARD_ROWS, num_images - start)
            _write(store, key, _pool_samples(np.random.default_rng([POOL_SEED, number]), rows))
    return f"pool-{num_images}/{{00000..{(num_images - 1) // SHARD_ROWS:05d}}}.tar"


def write_shapes_suite(store: Store, num_scenes: int) -> str:
    """A suite of `num_scenes` pictures a benchmark under `store`; the key of its manifest."""
    if store.exists("suite.json"):
        return "suite.json"
    rng = np.random.default_rng(SUITE_SEED)
    single = [draw_scene(rng, (1,), held_out=bool(i % 2)) for i in range(num_scenes)]
    pairs = [draw_scene(rng, (2,), held_out=i % 4 == 3) for i in range(num_scenes)]
    many = _distinct_scenes(rng, num_scenes)
    drawn = [_picture(scene, rng, "") for scene in (*single, *pairs, *many.values())]
    _write(store, "images.tar", iter(drawn))
    uids = [sample.uid for sample in drawn]
    write_suite(
        store,
        "shapes",
        "images.tar",
        [
            _classification(single, uids[:num_scenes]),
            Retrieval("retrieval", tuple(uids[2 * num_scenes :]), tuple(many)),
            _choices(pairs, uids[num_scenes : 2 * num_scenes], rng),
        ],
    )
    return "suite.json"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Two true sentences about a scene of two objects, either of which may be named first."""
    a, b = scene.things if rng.random() < 0.5 else scene.things[::-1]
    return f"{_sentence(a, b, relation(a, b))}. the background is {scene.background}"


def _pool_samples(rng: np.random.Generator, count: int) -> Iterator[Sample]:
    for _ in range(count):
        scene = draw_scene(rng, (1, 2, 2, 3))
        yield _picture(scene, rng, alt_text(scene, rng))


def _picture(scene: Scene, rng: np.random.Generator, text: str) -> Sample:
    buffer = io.BytesIO()
    render(scene, rng).save(buffer, "JPEG", quality=95, subsampling=0)
    image = buffer.getvalue()
    return Sample(hashlib.sha256(image).hexdigest()[:32], image, text)


def _write(store: Store, key: str, samples: Iterator[Sample]) -> None:
    with scratch_folder() as folder:
        path = folder / "shard.tar"
        write_shard(list(samples), path)
        store.write(key, path, create_only=False)  # nothing is there, or what was drawn by another version


def _distinct_scenes(rng: np.random.Generator, count: int) -> dict[str, Scene]:
    """Scenes of two objects by caption; each caption is true of its own scene only."""
    chosen: dict[str, Scene] = {}
    contents = set()
    while len(chosen) < count:
        scene = draw_scene(rng, (2,), held_out=len(chosen) % 4 == 3)
        content = (frozenset(thing.name for thing in scene.things), scene.background)
        if content not in contents:
            contents.add(content)
            chosen[caption(scene, rng)] = scene
    return chosen


def _classification(scenes: list[Scene], uids: list[str]) -> Classification:
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    found = [(scene.things[0].colour, scene.things[0].shape) for scene in scenes]
    return Classification(
        name="classification",
        classes=tuple(f"{colour} {shape}" for colour, shape in kinds),
        templates=TEMPLATES,
        uids=tuple(uids),
        labels=tuple(kinds.index(kind) for kind in found),
        groups=tuple("new pairs" if kind in HELD_OUT else "known pairs" for kind in found),
    )


def _choices(scenes: list[Scene], uids: list[str], rng: np.random.Generator) -> Choice:
    """For every scene one true sentence and a false one of each kind: attributes or objects exchanged or replaced."""
    rows = []
    for scene, uid in zip(scenes, uids, strict=True):
        a, b = scene.things if rng.random() < 0.5 else scene.things[::-1]
        true = _sentence(a, b, relation(a, b))
        rows += [(uid, true, false, group) for group, false in _false_sentences(a, b, rng).items()]
    truth = dict(zip(uids, scenes, strict=True))
    assert all(is_true(truth[uid], a) and not is_true(truth[uid], b) for uid, a, b, _ in rows)
    images, positives, negatives, groups = (tuple(column) for column in zip(*rows, strict=True))
    return Choice("composition", images, positives, negatives, groups)


def _false_sentences(a: Thing, b: Thing, rng: np.random.Generator) -> dict[str, str]:
    stated = relation(a, b)
    colour = str(rng.choice([c for c in COLOURS if c not in (a.colour, b.colour)]))
    shape = str(rng.choice([s for s in SHAPES if s not in (a.shape, b.shape)]))
    return {
        "swap attribute": _sentence(replace(a, colour=b.colour), replace(b, colour=a.colour), stated),
        "swap object": _sentence(b, a, stated),
        "replace attribute": _sentence(replace(a, colour=colour), b, stated),
        "replace object": _sentence(a, replace(b, shape=shape), stated),
        "replace relation": _sentence(a, b, RELATIONS[stated]),
    }


def _sentence(a: Thing, b: Thing, stated: str) -> str:
    return f"a {a.name} is {stated} a {b.name}"
