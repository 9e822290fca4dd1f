"""Captions as they come: encodings with and without a mark, and bytes that are no text at all."""

from __future__ import annotations

import codecs

import pytest

from hqclip.data.captions import MAX_TEXT, Garbled, is_text, read_caption

TEXTS = ("a red fox in the snow", "ein grünes Fahrrad", "猫が寝ている", "Привет, мир", "🙂 ok", "x")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
def test_a_mark_says_what_the_encoding_is(text: str, encoding: str, mark: bytes):
    assert read_caption(mark + text.encode(encoding)) == (text, False)


@pytest.mark.parametrize("text", TEXTS)
def test_utf8_needs_no_mark_and_may_have_one(text: str):
    assert read_caption(text.encode()) == read_caption(text.encode("utf-8-sig")) == (text, True)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE])
def test_a_mark_before_nothing_is_an_empty_text(mark: bytes):
    assert read_caption(mark)[0] == ""


def test_text_in_utf16_that_is_cut_keeps_what_is_whole():
    data = codecs.BOM_UTF16_LE + ("猫" * MAX_TEXT).encode("utf-16-le")
    assert read_caption(data[: MAX_TEXT + 1], whole=False)[0] == "猫" * 4096
    assert read_caption(codecs.BOM_UTF16_LE + "a ring".encode("utf-16-le") + b"x") == ("a ring\ufffd", False)


WESTERN = (
    "Été",
    "“Ø”",
    "« L’été » à Paris",
    "coração e ação: informações",
    "São João não é opção",
    "hyvää päivää, määrä",
    "þýðing á íslensku",
    "þú ert hér",
    "¿Dónde está? ¡Ándale!",
    "price £5 – 10€…",
    "© 2020 Müller®",
    "20°C — “Öl”",
    "····· créée",
    "size ½¼¾ cup, 20±²",
)


@pytest.mark.parametrize(
    "text", ["Café “größer”", "naïve – déjà vu", "Öl", "señor, ¿qué tal?", "Ærøskøbing på Ærø", *WESTERN]
)
def test_western_text_is_read_as_windows_1252(text: str):
    assert read_caption(text.encode("cp1252")) == (text, False)


def test_utf8_with_a_damaged_letter_is_utf8():
    """Cut to so many bytes by a database, in the middle of a letter."""
    assert read_caption("猫が寝ている".encode()[:-1]) == ("猫が寝てい\ufffd", False)
    assert read_caption("größer и быстрее".encode() + b"\xff")[0] == "größer и быстрее\ufffd"


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 40,
        b"\0" * 4096,
        "a red fox".encode("utf-16-le"),
        "a red fox".encode("utf-16-be"),
        "a red fox".encode("utf-32-le"),
        "猫が部屋の中で静かに寝ている".encode("cp932"),
        "一只猫在睡觉".encode("gbk"),
        "고양이가 자고 있다".encode("euc-kr"),
        "Кошка спит на диване".encode("cp1251"),
        "Кошка спит на диване".encode("koi8-r"),
        ("\ufffd" * 8 + " of " + "\ufffd" * 6).encode(),
        "Кошка спит".encode("cp1251").decode(errors="replace").encode(),
        b"\x81\x8d",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40\x08\x02\0\0\0",
        b"\x01\x02\x03\x04 x",
    ],
)
def test_what_is_no_text_is_garbled(data: bytes):
    with pytest.raises(Garbled):
        read_caption(data)


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        ("Nikon D850 камера", ["cp1251", "koi8-r", "cp866", "utf-16-le", "utf-16-be"]),
        ("фото кота in Moscow, Red Square hotel 2019", ["cp1251", "koi8-r", "utf-16-le"]),
        ("καφές in Athens with a view over the city", ["cp1253", "iso8859-7"]),
        ("Tel Aviv שלום beach", ["cp1255"]),
        ("Dubai دبي tower", ["cp1256"]),
        ("Thai food อาหาร, tasty", ["cp874"]),
        ("Nike红色跑鞋 Air Max 2019", ["gbk", "utf-16-le", "utf-16-be", "utf-32-le"]),
        ("Nike 紅色運動鞋 Air Max", ["big5"]),
        ("Nikon カメラ D850", ["cp932", "euc-jp", "iso2022_jp", "utf-16-le"]),
        ("赤い靴 red shoes", ["cp932", "euc-jp", "iso2022_jp"]),
        ("빨간 신발 red shoes, Nike 2019 fashion", ["euc-kr", "iso2022_kr"]),
    ],
)
def test_words_of_another_encoding_among_those_of_ascii_are_garbled(text: str, encodings: list[str]):
    for encoding in encodings:
        with pytest.raises(Garbled):
            read_caption(text.encode(encoding))
        assert read_caption(text.encode()) == (text, True)


def test_a_text_may_fill_its_field_with_nuls():
    assert read_caption(b"a red fox" + bytes(40)) == ("a red fox", True)


@pytest.mark.parametrize("data", [b"a few \0 or \x1b are no harm", "one � is none either".encode(), b"caf\x81 au lait"])
def test_a_few_letters_may_be_broken(data: bytes):
    assert read_caption(data)[0]


UNSEEN = ("\u3164", "\u2800 \u2800", "\ufe0f", "\u200b\ufe0f", "\u115f\u1160", "\uffa0", "\u034f", "\ue001", "\u20dd")


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\u200b", "\ufeff \u200d\u2060", "\u00a0\u3000", *UNSEEN])
def test_what_nobody_sees_is_empty(text: str):
    assert read_caption(text.encode())[0] == ""
    assert not is_text(text)


@pytest.mark.parametrize("text", ["x", "ㄱ", "⠁", "❤️", "é", "·", "1"])
def test_one_letter_that_is_seen_is_a_text(text: str):
    assert read_caption(f"\u3164{text}\ufe0f".encode())[0] == f"\u3164{text}\ufe0f"
