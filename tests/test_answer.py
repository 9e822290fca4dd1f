"""What an LVLM says becomes four texts, or a fault with a name; never an exception."""

from __future__ import annotations

import json
import time

import pytest

from hqclip.annotate.answer import MAX_TEXTS, read, read_answer
from hqclip.annotate.engines.protocol import Answer, Finish
from hqclip.records import FIELDS, Annotation, Status

GOOD = {
    "tags": ["brown dog", "grass"],
    "neg_tags": ["black dog", "sand"],
    "desc": ["A brown dog runs across the grass."],
    "neg_desc": ["A black dog runs across the grass."],
}
TEXT = json.dumps(GOOD)
DRAFT = json.dumps({**GOOD, "tags": ["wolf"]})
LOOP = "the dog runs and " * 20


def status(text: str, finished: bool = True) -> Status:
    """What the answer is called; the texts are there if and only if it is ok."""
    annotation, found = read_answer(text, finished)
    assert (annotation is not None) == (found is Status.OK)
    return found


def other(**changed: object) -> str:
    """The good answer with some fields changed; None takes one out."""
    return json.dumps({name: value for name, value in {**GOOD, **changed}.items() if value is not None})


def test_a_good_answer_is_four_texts() -> None:
    annotation, found = read_answer(TEXT)
    assert found is Status.OK
    assert annotation == Annotation(**{name: tuple(texts) for name, texts in GOOD.items()})


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Sure, here it is:\n{TEXT}\nI hope this helps!",
        f"\ufeff{TEXT}",
        json.dumps(TEXT),
        json.dumps(f"```json\n{TEXT}\n```"),
        f"\n\n  {json.dumps(GOOD, indent=4)}  ",
        TEXT.replace("runs across", "runs\\nacross"),
        TEXT.replace("runs across", "runs\nacross"),
        TEXT.replace("runs across", "  runs\\t across "),
        other(confidence=0.9, notes=["x"]),
        TEXT[:-1] + ', "tags": ["brown dog", "grass"]}',
        f"<think>It is a dog.</think>\n{TEXT}",
        f'<think>They want {{"tags": [...], ...}}, as JSON {{}}.</think>{TEXT}',
        f"<think>Draft: {DRAFT} no, it is a dog.</think>\n\n{TEXT}",
        f"{DRAFT} or rather {TEXT}",
        f"Here is {{the answer}}:\n{TEXT}",
        f"{TEXT}\nNote: {{tags}} are sorted.",
        f'{TEXT}\n{{"confidence": 0.9}}',
        f"{TEXT}\n\n{TEXT}",
        f"```json\n{TEXT}\n```\nor\n```json\n{TEXT}\n```",
        f'{{"answer": {TEXT}}}',
        f"[{TEXT}]",
        f"I'm sorry, it is a little dark. {TEXT}",
        f"x = \\frac{{a}}{{b}} {TEXT} }}",
    ],
)
def test_what_stands_around_the_answer_does_not_matter(text: str) -> None:
    assert read_answer(text) == read_answer(TEXT)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", Status.NOT_JSON),
        ("A brown dog on grass.", Status.NOT_JSON),
        (TEXT[:-3], Status.NOT_JSON),
        (TEXT.replace('"', "'"), Status.NOT_JSON),
        ("}{", Status.NOT_JSON),
        ("{" * 100_000, Status.NOT_JSON),
        ("[" * 100_000 + "]" * 100_000, Status.NOT_JSON),
        ('{"tags":' * 100_000 + "1" + "}" * 100_000, Status.NOT_JSON),
        ('{"tags": ' + "9" * 10_000 + "}", Status.NOT_JSON),
        ("[]", Status.WRONG_SHAPE),
        ("42", Status.WRONG_SHAPE),
        ('"tags"', Status.WRONG_SHAPE),
        ("{}", Status.WRONG_SHAPE),
        ("NaN", Status.WRONG_SHAPE),
        (json.dumps([other(tags=3)]), Status.WRONG_SHAPE),
        *((other(**{name: None}), Status.WRONG_SHAPE) for name in FIELDS),
        (other(tags="brown dog"), Status.WRONG_SHAPE),
        (other(tags={"brown dog": 1}), Status.WRONG_SHAPE),
        (other(tags=["brown dog", 3]), Status.WRONG_SHAPE),
        (other(tags=["brown dog", None]), Status.WRONG_SHAPE),
        (other(tags=[["brown dog"]]), Status.WRONG_SHAPE),
        (other(tags=["dog"] * (MAX_TEXTS + 1)), Status.WRONG_SHAPE),
        (other(tags=[f"tag {number}" for number in range(10_000)]), Status.WRONG_SHAPE),
        (other(desc=["a dog \ud800"]), Status.WRONG_SHAPE),
        *((other(**{name: []}), Status.EMPTY) for name in FIELDS),
        *((other(**{name: ["", "x"]}), Status.EMPTY) for name in FIELDS),
        (other(desc=[" \n\t "]), Status.EMPTY),
        (other(desc=[LOOP]), Status.REPEATED),
        (other(neg_desc=["A black dog.", LOOP]), Status.REPEATED),
        (LOOP, Status.REPEATED),
        (other(neg_desc=GOOD["desc"]), Status.NEGATIVE_EQUALS_POSITIVE),
        (other(neg_desc=["a BROWN dog, runs across the grass"]), Status.NEGATIVE_EQUALS_POSITIVE),
        ("I'm sorry, but I can't help with that.", Status.REFUSED),
        ("I’m unable to see the image.", Status.REFUSED),
        ("  I am sorry", Status.REFUSED),
        ("I cannot describe people.", Status.REFUSED),
        ("As an AI, I have no eyes.", Status.REFUSED),
        (other(desc=["I can’t describe this image."]), Status.REFUSED),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_every_fault_has_its_name(text: str, fault: Status) -> None:
    assert status(text) is fault


@pytest.mark.parametrize("cut", range(1, len(TEXT), 7))
def test_an_answer_cut_at_its_token_limit_is_called_truncated(cut: int) -> None:
    assert status(TEXT[:cut], finished=False) is Status.TRUNCATED


@pytest.mark.parametrize("ending", [TEXT[:-20], TEXT[:20], '{ "tags'])
@pytest.mark.parametrize("finished", [False, True])
def test_a_draft_is_not_taken_for_the_answer_that_cannot_be_read(ending: str, finished: bool) -> None:
    wanted = Status.NOT_JSON if finished else Status.TRUNCATED
    assert status(f"<think>Draft: {DRAFT}</think>{ending}", finished) is wanted


def test_braces_inside_of_texts_are_no_objects() -> None:
    odd = other(tags=["{", '{"', "a {b}", "}"], desc=['A sign says {"hello": [1, 2'])
    assert status(odd) is status(f"<think>{{}}</think> {odd}") is Status.OK


def test_what_the_engine_says_of_the_end_counts_where_there_is_no_answer() -> None:
    def status_of(text: str, finish: Finish) -> Status:
        return read(Answer(text, finish, 1, 1))[1]

    assert status_of("", Finish.REFUSED) is Status.REFUSED
    assert status_of('{"tags": ["a', Finish.REFUSED) is Status.REFUSED
    assert status_of(TEXT, Finish.REFUSED) is Status.OK
    assert status_of(TEXT, Finish.REPETITION) is Status.REPEATED
    assert status_of(TEXT[:-9], Finish.LENGTH) is Status.TRUNCATED
    assert status_of("<think>A person.</think> I cannot help with that.", Finish.STOP) is Status.REFUSED


def test_a_complete_answer_counts_even_if_the_limit_cut_what_followed() -> None:
    assert status(TEXT + "\n\nAs you can", finished=False) is Status.OK


def test_a_model_that_runs_in_circles_to_the_limit_is_not_merely_truncated() -> None:
    assert status('{"tags": ["dog"], "desc": ["' + LOOP, finished=False) is Status.REPEATED


@pytest.mark.parametrize(
    "sentence",
    [
        "Go go go go go go go!",
        "The red ring is left of the blue cross and the blue cross is above the large green circle.",
        "Ein Hund läuft über die Wiese.",
        "一只棕色的狗在草地上奔跑。",
        "I can see the sorry state of a wall.",
    ],
)
def test_ordinary_sentences_are_no_fault(sentence: str) -> None:
    assert status(other(desc=[sentence])) is Status.OK


def test_one_true_sentence_among_the_negatives_does_not_spoil_the_rest() -> None:
    assert status(other(desc=["A dog.", "Grass."], neg_desc=["A cat.", "Grass."])) is Status.OK


def test_escaped_astral_letters_are_no_lone_surrogates() -> None:
    annotation, _ = read_answer(other(desc=["a rocket \N{ROCKET}"]))
    assert annotation is not None
    assert annotation.desc == ("a rocket \N{ROCKET}",)
    annotation.desc[0].encode()


def test_a_megabyte_of_anything_is_read_in_a_moment() -> None:
    start = time.perf_counter()
    for text in (
        "{" * 10**6,
        '{"a": ' * 200_000,
        "</a" * 300_000,
        "a " * 500_000,
        "x" * 10**6,
        '{"tags": ["' + "a" * 10**6 + '"]}',
        "\n" * 10**6,
    ):
        assert status(text) is not Status.OK
    assert time.perf_counter() - start < 3
