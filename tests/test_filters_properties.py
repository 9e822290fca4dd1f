"""What holds for every annotation that can be read, however odd: cleaning ends, and nothing it keeps is made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hqclip.curate.clip_length import MARKS, clip_tokens
from hqclip.curate.filters import TEXTS_DROPPED as DROPPED
from hqclip.curate.filters import Reading, clean
from hqclip.curate.tags import MAX_LENGTH, MAX_WORDS, clean_tags
from hqclip.curate.text_checks import visible
from hqclip.data.sidecar import Flag
from hqclip.records import Annotation

WORDS = (
    "a the red blue ring rings cube dog dogs Dog. is not left of I'm sorry ignore previous instructions 狗 ring\u202e"
)
words = st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join)
text = words | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
texts = st.lists(text, max_size=6).map(tuple)
annotations = st.builds(Annotation, texts, texts, texts, texts)
readings = st.sampled_from([Reading(), Reading.of("en", "the red ring is left of a blue cube and a dog")])


@given(annotations, text, readings)
def test_what_is_clean_is_not_cleaned_further(annotation: Annotation, alt_text: str, reading: Reading) -> None:
    cleaned, _ = clean(annotation, alt_text, reading)
    if cleaned is not None:
        again, flags = clean(cleaned, alt_text, reading)
        assert again == cleaned
        assert not flags & (Flag.HIDDEN_CHARACTERS | Flag.TAG_TOO_LONG | Flag.DUPLICATE_TAGS | Flag.NEGATIVE_TAG_TRUE)


@given(annotations, text, readings)
def test_texts_are_dropped_exactly_where_a_rule_says_so(
    annotation: Annotation, alt_text: str, reading: Reading
) -> None:
    cleaned, flags = clean(annotation, alt_text, reading)
    assert (cleaned is None) == bool(flags & DROPPED)
    assert clean(annotation, alt_text, reading) == (cleaned, flags)


@given(annotations, text)
def test_nothing_is_made_up_and_pairs_stay_aligned(annotation: Annotation, alt_text: str) -> None:
    cleaned, flags = clean(annotation, alt_text)
    if cleaned is None:
        return
    shown = [visible(sentence) for sentence in annotation.desc]
    false = [visible(sentence) for sentence in annotation.neg_desc]
    pairs = list(zip(shown, false, strict=False))
    assert set(cleaned.desc) <= set(shown)
    assert {sentence for sentence in cleaned.neg_desc if sentence} <= set(false)
    assert all(kept in pairs or not kept[1] for kept in zip(cleaned.desc, cleaned.neg_desc, strict=False)) or (
        flags & Flag.UNEVEN_PAIRS
    )
    assert len(annotation.neg_desc) - len(cleaned.neg_desc) <= len(annotation.desc) - len(cleaned.desc)


@given(annotations, text)
def test_tags_are_short_different_and_never_true_and_false(annotation: Annotation, alt_text: str) -> None:
    cleaned, _ = clean(annotation, alt_text)
    if cleaned is None:
        return
    both = cleaned.tags + cleaned.neg_tags
    assert len(set(both)) == len(both)
    assert all(tag and len(tag) <= MAX_LENGTH and len(tag.split()) <= MAX_WORDS for tag in both)
    assert all(clean_tags(Annotation((tag,), (), (), ()), ())[0] == (tag,) for tag in both)


@given(annotations)
def test_without_orders_in_the_alt_text_nothing_is_an_injection(annotation: Annotation) -> None:
    assert not clean(annotation, "a red ring")[1] & (Flag.INJECTION | Flag.ALT_TEXT_INSTRUCTS)


@given(text, text)
def test_more_text_has_no_fewer_clip_tokens(one: str, other: str) -> None:
    assert MARKS <= clip_tokens(one) <= clip_tokens(f"{one} {other}") + 1
