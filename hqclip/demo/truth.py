"""What is true of a scene: sentences and tags of the shapes world, checked against the scene graph.

Only the teacher, the evaluation's ground truth and the benchmarks look here; no stage does.
"""

from __future__ import annotations

import re

from hqclip.demo.scenes import BACKGROUNDS, COLOURS, GRID, RELATIONS, SHAPES, SIZES, Scene, Thing

_NAME = rf"(?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_TAG = re.compile(_NAME)
_ONE = re.compile(rf"an? {_NAME}")
_TWO = re.compile(rf"an? {_NAME} is ({'|'.join(RELATIONS)}) an? {_NAME}")
_BACKGROUND = re.compile(rf"the background is ({'|'.join(BACKGROUNDS)})")


def is_true(scene: Scene, statement: str) -> bool | None:
    """Whether a sentence or tag of the shapes world is true of the scene; None if it is no such sentence."""
    text = statement.strip().rstrip(".").lower()
    if match := _BACKGROUND.fullmatch(text):
        return scene.background == match[1]
    if match := _TWO.fullmatch(text):
        size_a, colour_a, shape_a, stated, size_b, colour_b, shape_b = match.groups()
        return any(
            stated in _relations(a, b)
            for a in _find(scene, size_a, colour_a, shape_a)
            for b in _find(scene, size_b, colour_b, shape_b)
        )
    if match := _ONE.fullmatch(text) or _TAG.fullmatch(text):
        return bool(_find(scene, *match.groups()))
    return None


def true_attributes(scene: Scene, statement: str) -> tuple[int, int]:
    """How many of the attributes that a sentence states are true, and how many it states.

    Attributes are size, colour and shape of each thing, the relation, the background. A named thing is compared
    with the thing of the scene that it fits best; a sentence of another form states one attribute, falsely.
    """
    text = statement.strip().rstrip(".").lower()
    if _BACKGROUND.fullmatch(text):
        return int(bool(is_true(scene, text))), 1
    if match := _TWO.fullmatch(text):
        *first, stated, size_b, colour_b, shape_b = match.groups()
        a, hits_a = _closest(scene, first)
        b, hits_b = _closest(scene, [size_b, colour_b, shape_b])
        return hits_a + hits_b + (stated in _relations(a, b)), 7
    if match := _ONE.fullmatch(text):
        return _closest(scene, list(match.groups()))[1], 3
    return 0, 1


def _closest(scene: Scene, named: list[str | None]) -> tuple[Thing, int]:
    def hits(thing: Thing) -> int:
        return sum(a == b for a, b in zip(named, (thing.size, thing.colour, thing.shape), strict=True))

    best = max(scene.things, key=hits)
    return best, hits(best)


def _find(scene: Scene, size: str | None, colour: str, shape: str) -> list[Thing]:
    return [t for t in scene.things if (t.colour, t.shape) == (colour, shape) and size in (None, t.size)]


def _relations(a: Thing, b: Thing) -> set[str]:
    (ax, ay), (bx, by) = (a.cell % GRID, a.cell // GRID), (b.cell % GRID, b.cell // GRID)
    sideways = {"left of"} if ax < bx else {"right of"} if ax > bx else set()
    return sideways | ({"above"} if ay < by else {"below"} if ay > by else set())
