"""What is kept of an answer: tags in one form, negatives that contradict something, pairs that stay aligned."""

from __future__ import annotations

import pytest

from hqclip.cycle.policy import clean, normal_tag
from hqclip.data.sidecar import Flag
from hqclip.records import Annotation

SOUND = Annotation(
    ("red ring", "white ground"),
    ("blue ring", "black ground"),
    ("A red ring.", "The ground is white."),
    ("A blue ring.", "The ground is black."),
)


def changed(**fields: tuple[str, ...]) -> Annotation:
    return Annotation(**{**vars(SOUND), **fields})


def test_a_sound_annotation_stays_as_it_is() -> None:
    assert clean(SOUND) == (SOUND, Flag(0))


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("  Red   Ring. ", "red ring"),
        ("#sunset", "sunset"),
        ('"dog"!', "dog"),
        ("Cafe\u0301", "café"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("t-shirt", "t-shirt"),
        ("U.S. flag", "u.s. flag"),
        ("...", ""),
        ("man on a horse", "man on a horse"),
        ("man on a brown horse", ""),
    ],
)
def test_a_tag_is_written_one_way(tag: str, normal: str) -> None:
    assert normal_tag(tag) == normal
    assert normal_tag(normal) == normal


def test_a_tag_said_twice_is_kept_once_where_it_was_first() -> None:
    cleaned, flags = clean(changed(tags=("Ring", "white ground", "ring.", "cross")))
    assert cleaned.tags == ("ring", "white ground", "cross")
    assert flags == Flag.DUPLICATE_TAGS


def test_a_negative_tag_that_is_also_true_is_taken_out() -> None:
    cleaned, flags = clean(changed(neg_tags=("Red Ring!", "black ground")))
    assert (cleaned.tags, cleaned.neg_tags) == (SOUND.tags, ("black ground",))
    assert flags == Flag.NEGATIVE_TAG_TRUE


def test_a_negative_sentence_that_contradicts_nothing_is_emptied_and_its_neighbours_keep_their_place() -> None:
    cleaned, flags = clean(changed(neg_desc=("a RED ring", "The ground is black.")))
    assert cleaned.neg_desc == ("", "The ground is black.")
    assert cleaned.desc == SOUND.desc
    assert flags == Flag.NEGATIVE_REPEATS


def test_a_negative_may_not_repeat_any_of_the_positives() -> None:
    cleaned, flags = clean(changed(neg_desc=("The ground is white", "A blue ring")))
    assert (cleaned.neg_desc, flags) == (("", "A blue ring"), Flag.NEGATIVE_REPEATS)


def test_all_that_was_found_is_flagged() -> None:
    cleaned, flags = clean(changed(tags=("ring", "ring"), neg_tags=("ring",), neg_desc=SOUND.desc))
    assert flags == Flag.DUPLICATE_TAGS | Flag.NEGATIVE_TAG_TRUE | Flag.NEGATIVE_REPEATS
    assert cleaned == Annotation(("ring",), (), SOUND.desc, ("", ""))


@pytest.mark.parametrize(
    "annotation",
    [SOUND, changed(tags=("#Ring ", "ring"), neg_tags=("RING", "a b c d e f")), changed(neg_desc=("A red ring",))],
)
def test_what_is_clean_is_not_cleaned_further(annotation: Annotation) -> None:
    cleaned, _ = clean(annotation)
    again, _ = clean(cleaned)
    assert again == cleaned
