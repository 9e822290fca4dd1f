"""The shapes world: what its teacher says is true, what its web says is often not, what is held out stays out."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from hqclip.demo.scenes import (
    BACKGROUNDS,
    COLOURS,
    GRID,
    HELD_OUT,
    IMAGE_SIZE,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    draw_scene,
    relation,
    render,
)
from hqclip.demo.texts import ALT_TEXT_MIX, alt_text, other_thing, teacher_texts
from hqclip.demo.truth import is_true, true_attributes

RING = Thing("small", "red", "ring", 0)
CROSS = Thing("large", "blue", "cross", 3)
DIAGONAL = Scene((RING, CROSS), "white")
COLUMN = Scene((Thing("large", "green", "circle", 1), Thing("small", "cyan", "ring", 3)), "gray")


def scenes(count: int, **how: object) -> list[Scene]:
    rng = np.random.default_rng(7)
    return [draw_scene(rng, **how) for _ in range(count)]


def pairs(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in scene.things}


def picture(scene: Scene, seed: int = 0) -> np.ndarray:
    return np.asarray(render(scene, np.random.default_rng(seed))).astype(int)


@pytest.mark.parametrize("how", [{}, {"held_out": True}])
def test_the_teacher_tells_the_truth_and_its_negatives_are_false(how: dict) -> None:
    for scene in scenes(500, **how):
        texts = teacher_texts(scene)
        for name in ("tags", "desc"):
            true, false = texts[name], texts[f"neg_{name}"]
            assert len(true) == len(false) == len(set(true)) == len(set(false))
            assert [is_true(scene, text) for text in true] == [True] * len(true), (scene, true)
            assert [is_true(scene, text) for text in false] == [False] * len(false), (scene, false)


def test_the_teacher_mentions_everything_there_is() -> None:
    for scene in scenes(200):
        said = " ".join(teacher_texts(scene)["desc"])
        assert all(thing.name in said for thing in scene.things)
        assert f"background is {scene.background}" in said


def test_the_teacher_says_all_relations() -> None:
    said = " ".join(text for scene in scenes(500) for text in teacher_texts(scene)["desc"])
    assert all(f" is {word} a " in said for word in RELATIONS)


def test_every_negative_is_close_to_its_positive() -> None:
    for scene in scenes(500):
        texts = teacher_texts(scene)
        for true, false in zip(texts["desc"], texts["neg_desc"], strict=True):
            words = list(zip(true.split(), false.split(), strict=True))
            assert 1 <= sum(a != b for a, b in words) <= 2, (true, false)


def test_held_out_pairs_are_never_in_the_pool_and_always_where_they_are_wanted() -> None:
    assert not any(pairs(scene) & HELD_OUT for scene in scenes(3000))
    assert all(pairs(scene) & HELD_OUT for scene in scenes(1000, held_out=True))


def test_the_pool_shows_every_other_pair_and_so_every_colour_and_shape() -> None:
    seen = set().union(*(pairs(scene) for scene in scenes(3000)))
    assert seen == set(product(COLOURS, SHAPES)) - HELD_OUT
    assert {colour for colour, _ in seen} == {colour for colour, _ in HELD_OUT} == set(COLOURS)
    assert {shape for _, shape in seen} == {shape for _, shape in HELD_OUT} == set(SHAPES)


def test_the_web_and_the_tags_never_name_a_held_out_pair() -> None:
    rng = np.random.default_rng(0)
    names = {" ".join(pair) for pair in HELD_OUT}
    for scene in scenes(1000):
        texts = teacher_texts(scene)
        assert not names & {*texts["tags"], *texts["neg_tags"]}
        assert not any(name in alt_text(scene, rng) for name in names)


def test_no_two_things_of_a_scene_can_be_confused() -> None:
    for scene in scenes(500):
        count = len(scene.things)
        assert len({thing.colour for thing in scene.things}) == len({thing.shape for thing in scene.things}) == count
        cells = [thing.cell for thing in scene.things]
        assert cells == sorted(set(cells))
        assert set(cells) <= set(range(GRID * GRID))
    assert {len(scene.things) for scene in scenes(100)} == {1, 2, 3}
    assert {len(scene.things) for scene in scenes(100, num_things=(2,))} == {2}


def test_the_same_seed_draws_the_same_pixels_and_another_does_not() -> None:
    assert scenes(20) == scenes(20)
    assert (picture(DIAGONAL, 1) == picture(DIAGONAL, 1)).all()
    assert (picture(DIAGONAL, 1) != picture(DIAGONAL, 2)).any()


@pytest.mark.parametrize(("shape", "cell"), product(SHAPES, range(GRID * GRID)))
def test_a_thing_is_seen_in_its_cell_and_nowhere_else(shape: str, cell: int) -> None:
    half = IMAGE_SIZE // GRID
    for size, colour in product(SIZES, COLOURS):
        seen = picture(Scene((Thing(size, colour, shape, cell),), "black"))
        assert seen.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        brightest = seen.max(-1).reshape(GRID, half, GRID, half).max((1, 3)).ravel()
        assert brightest[cell] > 100, (size, colour)
        assert np.delete(brightest, cell).max() < 40, (size, colour)


def test_a_large_thing_covers_more_than_a_small_one() -> None:
    for shape in SHAPES:
        small, large = (
            (picture(Scene((Thing(size, "red", shape, 0),), "black")).max(-1) > 100).sum() for size in SIZES
        )
        assert large > 2 * small, shape


def test_light_comes_from_the_upper_left() -> None:
    seen = picture(Scene((), "white"))
    assert seen[:9, :9].mean() > seen[:9, -9:].mean() > seen[-9:, -9:].mean()
    assert seen[:9, :9].mean() > seen[-9:, :9].mean()


@pytest.mark.parametrize(
    ("scene", "statement", "truth"),
    [
        (DIAGONAL, "a small red ring is left of a large blue cross", True),
        (DIAGONAL, "a small red ring is above a large blue cross", True),
        (DIAGONAL, "a large blue cross is right of a small red ring", True),
        (DIAGONAL, "a large blue cross is below a small red ring", True),
        (DIAGONAL, "a small red ring is right of a large blue cross", False),
        (DIAGONAL, "a small red ring is below a large blue cross", False),
        (DIAGONAL, "a red ring is left of a blue cross", True),
        (DIAGONAL, "a large red ring is left of a large blue cross", False),
        (DIAGONAL, "a red ring is left of a red ring", False),
        (DIAGONAL, "a red cross is left of a blue ring", False),
        (COLUMN, "a large green circle is above a small cyan ring", True),
        (COLUMN, "a large green circle is left of a small cyan ring", False),
        (COLUMN, "a large green circle is right of a small cyan ring", False),
        (COLUMN, "a large green circle is below a small cyan ring", False),
        (DIAGONAL, "red ring", True),
        (DIAGONAL, "small red ring", True),
        (DIAGONAL, "large red ring", False),
        (DIAGONAL, "red cross", False),
        (DIAGONAL, " A Small Red Ring. ", True),
        (COLUMN, "an orange circle", False),
        (DIAGONAL, "the background is white.", True),
        (DIAGONAL, "the background is black", False),
        (DIAGONAL, "the background is green", None),
        (DIAGONAL, "red", None),
        (DIAGONAL, "", None),
        (DIAGONAL, "a red ring and a blue cross", None),
        (DIAGONAL, "a red ring is near a blue cross", None),
        (DIAGONAL, "a red ring\na blue cross", None),
        (DIAGONAL, "a dog", None),
    ],
)
def test_a_statement_is_true_or_false_or_of_another_world(scene: Scene, statement: str, truth: bool | None) -> None:
    assert is_true(scene, statement) is truth


@pytest.mark.parametrize(
    ("statement", "hits"),
    [
        ("a small red ring is left of a large blue cross", (7, 7)),
        ("a small red ring is above a large blue cross", (7, 7)),
        ("a small red ring is right of a large blue cross", (6, 7)),
        ("a small blue ring is left of a large red cross", (5, 7)),
        ("a large red ring", (2, 3)),
        ("the background is white", (1, 1)),
        ("the background is black", (0, 1)),
        ("a dog", (0, 1)),
    ],
)
def test_the_attributes_of_a_sentence_are_counted_one_by_one(statement: str, hits: tuple[int, int]) -> None:
    assert true_attributes(DIAGONAL, statement) == hits


def test_the_sideways_word_is_preferred_on_a_diagonal() -> None:
    assert (relation(RING, CROSS), relation(CROSS, RING)) == ("left of", "right of")
    assert (relation(*COLUMN.things), relation(*COLUMN.things[::-1])) == ("above", "below")


def test_another_thing_is_one_word_away_and_not_in_the_scene() -> None:
    for scene in scenes(300):
        for thing in scene.things:
            other = other_thing(thing, scene)
            assert (other.size, other.cell) == (thing.size, thing.cell)
            assert (other.colour == thing.colour) + (other.shape == thing.shape) == 1
            assert is_true(scene, other.kind) is False
            words = {word for there in scene.things for word in (there.colour, there.shape)}
            assert len({other.colour, other.shape} & words) == 1


def claims(text: str) -> list[str]:
    """What a full alt-text states, as sentences; nothing for a partial one or junk."""
    text = re.sub(r"\bthe\b", "a", text)
    if match := re.fullmatch(r"(.+), (\w+) background", text):
        return [*match[1].split(" and "), f"the background is {match[2]}"]
    if match := re.fullmatch(rf"(a \w+ \w+) ({'|'.join(RELATIONS)}) (a \w+ \w+)", text):
        return [f"{match[1]} is {match[2]} {match[3]}"]
    return []


def kind(scene: Scene, text: str) -> str:
    """Right, wrong, partial or junk, from the words alone."""
    if stated := claims(text):
        return "right" if all(is_true(scene, claim) for claim in stated) else "wrong"
    return "partial" if set(text.split()) & {*COLOURS, *SHAPES} else "junk"


def test_the_web_is_as_reliable_as_it_is_said_to_be() -> None:
    rng = np.random.default_rng(1)
    found = Counter(kind(scene, alt_text(scene, rng)) for scene in scenes(4000))
    assert {name: found[name] / 4000 for name in ALT_TEXT_MIX} == pytest.approx(ALT_TEXT_MIX, abs=0.03)


def test_partial_alt_text_names_only_what_is_there() -> None:
    rng = np.random.default_rng(2)
    for scene in scenes(500):
        text = alt_text(scene, rng, {"partial": 1.0})
        assert kind(scene, text) == "partial"
        there = {word for thing in scene.things for word in (thing.colour, thing.shape)} | {scene.background}
        assert set(text.split()) & {*COLOURS, *SHAPES, *BACKGROUNDS} <= there, text
