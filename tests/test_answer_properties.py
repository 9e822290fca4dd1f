"""What holds for everything an LVLM can say: reading it ends with four texts or the name of a fault."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from hqclip.annotate.answer import MAX_TEXTS, read_answer
from hqclip.records import FIELDS, Status

anything = st.text(max_size=200)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner),
    max_leaves=20,
)
lists = st.lists(st.text(max_size=30), max_size=MAX_TEXTS + 2)
documents = st.fixed_dictionaries(dict.fromkeys(FIELDS, lists))


def parts(text: str, at: float) -> tuple[str, str]:
    cut = int(len(text) * at)
    return text[:cut], text[cut:]


@given(anything | json_values.map(json.dumps) | documents.map(json.dumps), st.booleans())
def test_every_answer_is_four_texts_or_a_fault(answer: str, finished: bool) -> None:
    annotation, status = read_answer(answer, finished)
    assert (annotation is None) == (status is not Status.OK)
    if annotation is not None:
        for texts in vars(annotation).values():
            assert 0 < len(texts) <= MAX_TEXTS
            assert all(text and text == " ".join(text.split()) for text in texts)
            assert "".join(texts).encode()


@given(documents)
def test_what_was_read_is_read_again_the_same(document: dict[str, list[str]]) -> None:
    annotation, _ = read_answer(json.dumps(document))
    if annotation is not None:
        assert read_answer(json.dumps(vars(annotation))) == (annotation, Status.OK)


@example(document=dict.fromkeys(FIELDS, [""] * (MAX_TEXTS + 1)), around="{}{a} }")
@given(
    documents,
    st.sampled_from(["```json\n{}\n```", "Here it is:\n{}", "{} Anything else?", "<think>{ }</think>{}", "{}{a} }"]),
)
def test_words_around_the_answer_change_nothing(document: dict[str, list[str]], around: str) -> None:
    bare = json.dumps(document)
    found = read_answer(bare)
    has_other_braces = "{" in around.replace("{}", "")  # among which nothing of a wrong shape is found again
    if found[1] is not Status.WRONG_SHAPE or not has_other_braces:
        assert read_answer(around.replace("{}", bare)) == found


@given(documents, st.floats(0, 0.999))
def test_an_answer_cut_short_is_never_taken_for_a_whole_one(document: dict[str, list[str]], at: float) -> None:
    head, _ = parts(json.dumps(document), at)
    annotation, status = read_answer(head, finished=False)
    assert annotation is None
    assert status in (Status.TRUNCATED, Status.REPEATED, Status.WRONG_SHAPE)


@given(documents, st.permutations(FIELDS))
def test_the_order_of_the_four_lists_does_not_matter(document: dict[str, list[str]], order: list[str]) -> None:
    assert read_answer(json.dumps({name: document[name] for name in order})) == read_answer(json.dumps(document))
