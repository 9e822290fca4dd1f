"""The page is one safe file that says what is known and no more."""

import dataclasses
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hqclip import report as parts
from hqclip.cycle.side_by_side import group_of
from hqclip.records import Annotation, Bar, Sample, Status
from hqclip.report.charts import axis, dash, line_chart
from hqclip.report.comparison import outcome
from hqclip.report.counts import REASONS
from hqclip.report.gallery import pixels
from hqclip.report.markup import Html, duration, number, points, share_of, tag, visible
from hqclip.report.page import POLICY, render
from hqclip.report.text_diff import Part, contradiction

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</style></title></textarea></svg><script src=//evil.example/x.js>",
    "\" onload=alert(1) style='x' \u2028",
    "a\u202egnp.exe\u2066\u200b\x00\x1b[31m\ud800",
    "{{$.inputs}} ${jndi:ldap://x} <!-- --> ]]> &lt;b&gt;",
    "Z" + "\u0301" * 500,
    "word " * 2000,
    "x" * 10_000,
    "صورة دائرة حمراء 👩\u200d🚀 日本語",
)
VOID = {"img", "meta", "br"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, visible text, and whether elements nest properly."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.open, self.headings = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]

    @property
    def words(self):
        return " ".join("".join(self.text).split())


def png(width=56, height=56):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xd7\x28\x28" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sample(text="buy red circle online", image=None):
    return Sample("00" * 16, png() if image is None else image, text)


def row(name, *scores, metric="acc1"):
    return parts.Row(name, metric, scores, 1000)


def difference(value, low, high):
    return parts.Score(0.5 + value, parts.Difference(value, low, high))


@pytest.fixture
def full():
    """A report with every section."""
    models = (parts.Model("raw", "alt-text"), parts.Model("mixed"), parts.Model("full"))
    better, worse, unclear = (
        difference(0.3, 0.28, 0.31),
        difference(-0.04, -0.06, -0.02),
        difference(0.004, -0.01, 0.02),
    )
    groups = (
        group_of("classification", (row("pairs trained on", parts.Score(0.5), better, worse),)),
        group_of("choice", (row("colours exchanged", parts.Score(0.5), unclear, None, metric="choice"),)),
    )
    annotation = Annotation(
        ("red circle",),
        ("red square",),
        ("a red circle is left of a blue ring",),
        ("a red circle is right of a blue ring",),
    )
    curves = (parts.Curve("raw", ((0, 5.5), (50, 4.4))), parts.Curve("full", ((0, 5.5), (50, 2.8))))
    return parts.Report(
        title="Does refined text help?",
        verdict="full averages 71.2 %",
        decision=parts.Decision.PROMOTED,
        cycle=3,
        comparison=parts.Comparison(models, row("Average", parts.Score(0.5), better, unclear), groups, "raw"),
        gate=(Bar("max_drop", "coco", 0.41, 0.01, False, 0.43, (-0.02, -0.035, -0.004)),),
        answers=answers_of("a red ring"),
        samples=(parts.ShownSample(sample(), annotation, ("alt_text_echoed",)),),
        data=parts.DataSummary("shapes", 1000, 940, {"ok": 940, "not_json": 60}, {"short": 5}, {"red circle": 90}, 1),
        faults=parts.Faults(1000, (parts.Fault("not_json", 60, (parts.FaultExample(sample(), "Sure! Here you go"),)),)),
        losses=(parts.LossChart("total", curves, "All parts."),),
        run=parts.Provenance(
            {"train": {"seed": 0}}, {"data": "3b1f"}, {"train": 8040.0}, {"images": 20000}, "0.1.0", "hqclip x"
        ),
    )


def answers_of(text):
    """Every kind of set, with `text` in every place that holds text."""
    sets = (
        parts.SetExamples(text, "classification", tuple(parts.ClassScore(text, 4, n, n - 1) for n in range(1, 5))),
        parts.SetExamples(
            text, "retrieval", queries=(parts.Query(text, (png(),) * 5, png(), 7), parts.Query(text, (png(),), b"", 2))
        ),
        parts.SetExamples(text, "choice", failures=(parts.Failure(text, (png(),), (text, text[::-1])),)),
        parts.SetExamples(text, "matching", failures=(parts.Failure(text, (png(), b""), (text, text)),) * 2),
    )
    return parts.Answers(text, sets, (parts.Moved(text, text, 9, 3, 2),), text)


def hostile_report(text):
    """`text` in every place that holds text."""
    annotation = Annotation((text,), (text, text), (text, "a"), (text[::-1],))
    scores = (parts.Score(0.1), difference(0.1, 0.05, 0.2))
    comparison = parts.Comparison(
        (parts.Model(text, text), parts.Model("b", text)),
        row(text, *scores, metric=text),
        (parts.Group(text, (row(text, *scores),)),),
        text,
    )
    return parts.Report(
        title=text,
        verdict=text,
        comparison=comparison,
        gate=(Bar("floor", text, 0.1, 0.2, passed=False), Bar("margin", text, 0.1, 0.0, True, 0.1, (0.0, 0.0, 0.0))),
        answers=answers_of(text),
        samples=(parts.ShownSample(Sample(text, png(), text), annotation, (text,)),),
        data=parts.DataSummary(text, 10, 5, {text: 3}, {text: 2}, {text: 1}),
        faults=parts.Faults(10, (parts.Fault(text, 2, (parts.FaultExample(Sample(text, b"", text), text),)),)),
        losses=(parts.LossChart(text, (parts.Curve(text, ((0, 1.0), (1, 0.5))),), text),),
        run=parts.Provenance({text: {text: [text]}}, {text: text}, {text: 3.0}, {text: 1}, text, text),
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_and_never_obeyed(text):
    check_harmless(render(hostile_report(text)))


def check_harmless(source):
    """Nothing of a page runs, loads or links; what cannot be seen is not in it."""
    page = Page(source)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "link", "base", "form"})
    assert all(re.fullmatch(r"#set-\d+", attrs["href"]) for attrs in page.all("a"))  # places of this page
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.all("img"))
    assert len(page.all("style")) == len(page.all("title")) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b\u202a-\u202e\u2066-\u2069]", source)
    assert POLICY in str(page.all("meta"))
    source.encode("utf-8")


def test_ten_kilobytes_of_alt_text_are_cut_and_the_page_says_so():
    shown = parts.ShownSample(sample("x" * 10_000), None)
    words = Page(render(parts.Report(title="t", samples=(shown,)))).words
    assert "x" * 100 in words
    assert "x" * 400 not in words
    assert "… 10 000 characters in all" in words.replace("\u202f", " ").replace("…  ", "… ")


def test_the_page_stands_alone(full):
    source = render(full)
    page = Page(source)
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY] == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "<script" not in source
    assert "@import" not in source
    assert "url(" not in source
    assert not [attrs for _, attrs in page.tags if "srcset" in attrs or not attrs.get("href", "#").startswith("#")]
    assert not re.search(r"https?://", source)


def test_the_page_can_be_read_without_eyes(full):
    page = Page(render(full))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert all("scope" in attrs for attrs in page.all("th"))
    charts = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    assert [chart["aria-label"] for chart in charts] == ["total by step: raw ends at 4.4; full ends at 2.8"]
    assert all("aria-hidden" in attrs or "role" in attrs for attrs in page.all("svg"))


def test_the_same_report_gives_the_same_bytes(full):
    shuffled = dataclasses.replace(full.data, statuses=dict(reversed(full.data.statuses.items())))
    assert render(full) == render(full) == render(dataclasses.replace(full, data=shuffled))


def test_the_verdict_and_every_section_are_there(full):
    page = Page(render(full))
    said = "Does refined text help?|✓ Promoted|cycle 3|full averages 71.2 %|Compositional choice|a tie counts as wrong"
    said += "|alt text echoed|the answer is no JSON document|Sure! Here you go|2 h 14 min|hqclip x|1 setting"
    assert not [words for words in said.split("|") if words not in page.words.replace("\u202f", " ")]
    assert "✕ Not promoted" in Page(render(dataclasses.replace(full, decision=parts.Decision.NOT_PROMOTED))).words
    assert "romoted" not in Page(render(dataclasses.replace(full, decision=None))).words


def test_the_bars_that_decided_are_told_one_by_one(full):
    words = Page(render(full)).words.replace("\u202f", " ")
    assert "coco43.0 %41.0 %−2.0−3.5 to −0.4drop up to 1 %✕ not reached" in words


def test_the_sets_are_linked_and_sorted_without_a_script(full):
    source = render(full)
    page = Page(source)
    places = {attrs["id"] for attrs in page.all("details") if "id" in attrs}
    assert {attrs["href"].removeprefix("#") for attrs in page.all("a")} == places and len(places) == 4
    assert "became wrong" in page.words and "▲ 3" in page.words and "▼ 2" in page.words
    assert "own, place 7" in page.words.replace("\u202f", " ")


def test_classes_are_told_from_both_ends_and_all_of_them_in_two_orders():
    classes = tuple(parts.ClassScore(f"class {n:02d}", 20, n, n + (n == 3) - (n == 7)) for n in range(21))
    one = parts.SetExamples("birds", "classification", classes[::-1])
    source = render(parts.Report(title="t", answers=parts.Answers("new", (one,), (), "old")))
    tables = dict(re.findall(r'<caption class="hidden">([^<]*)</caption>(.*?)</table>', source))
    shown = {name: [int(number) for number in re.findall(r"class (\d\d)", rows)] for name, rows in tables.items()}
    assert shown == {
        "Worst": [*range(8)],
        "Best": [*range(20, 12, -1)],
        "Fell most against old": [3],
        "Rose most against old": [7],
        "All classes, worst first": [*range(21)],
        "All classes, by name": [*range(21)],
    }


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.031, 0.012, 0.05, ("▲", "better")),
        (-0.031, -0.05, -0.012, ("▼", "worse")),
        (0.031, -0.001, 0.06, ("≈", "no clear difference")),
        (-0.031, -0.06, 0.0, ("≈", "no clear difference")),
        (-0.02, -0.04, -1e-9, ("≈", "no clear difference")),  # prints as 0.0
        (0.02, 1e-9, 0.04, ("≈", "no clear difference")),
        (0.0, 0.0, 0.0, ("≈", "no clear difference")),
    ],
)
def test_an_interval_that_contains_zero_is_no_clear_difference(value, low, high, said):
    assert outcome(parts.Difference(value, low, high)) == said


def test_differences_are_told_by_sign_and_word(full):
    words = Page(render(full)).words
    assert "▲ +30.0 better+28.0 to +31.0" in words
    assert "▼ −4.0 worse−6.0 to −2.0" in words
    assert "≈ +0.4 no clear difference−1.0 to +2.0" in words
    assert words.count("not measured") == 1


@pytest.mark.parametrize(
    ("true", "false", "marked", "left_out"),
    [
        ("a red circle is left of a ring", "a red circle is right of a ring", ["right"], []),
        ("A red ring above a blue cross.", "a blue ring above a red cross", ["blue", "red"], []),
        ("a blue square", "an orange square", ["orange"], []),
        ("A dog runs.", "Two black cats run, slowly.", ["Two black cats run, slowly"], []),
        ("The man is not smiling.", "The man is smiling.", [], [" not"]),
        ("Nobody but Ann sings", "Ann sings", [], ["Nobody but "]),
        ("a cat", "a cat on a mat", ["on a mat"], []),
        ("猫が赤い箱の上に座る", "犬が赤い箱の下に座る", ["犬", "下"], []),
        ("cat" + " a b" * 150, "dog" + " a b" * 150, ["dog"], []),
        ("same words", "Same words!", [], []),
        ("", "all of it", ["all of it"], []),
        ("gone", "", [], ["gone"]),
    ],
)
def test_the_words_that_contradict_are_marked(true, false, marked, left_out):
    pieces = contradiction(true, false)
    assert [piece.text for piece in pieces if piece.part is Part.CHANGED] == marked
    assert [piece.text for piece in pieces if piece.part is Part.LEFT_OUT] == left_out
    assert "".join(piece.text for piece in pieces if piece.part is not Part.LEFT_OUT) == false


def test_marks_reach_the_page(full):
    source = render(full)
    assert "a red circle is <mark>right</mark> of a blue ring" in source
    assert "red <mark>square</mark>" in source


def test_an_uneven_number_of_texts_loses_none():
    annotation = Annotation(("one", "two"), ("three",), ("four",), ("five", "six"))
    words = Page(render(parts.Report(title="t", samples=(parts.ShownSample(sample(), annotation),)))).words
    assert all(word in words for word in ("one", "two", "three", "four", "five", "six"))


def test_no_faults_is_good_news():
    assert "None: all 1\u202f000 samples could be used." in render(parts.Report(title="t", faults=parts.Faults(1000)))


def test_a_title_is_enough():
    page = Page(render(parts.Report(title="Nothing yet")))
    assert page.headings == [1]
    assert "Nothing yet" in page.words


def test_one_arm_without_a_baseline_has_no_differences():
    comparison = parts.Comparison(
        (parts.Model("raw"),),
        row("Average", parts.Score(0.4)),
        (parts.Group("my kind", (row("mine", parts.Score(float("nan"))),)),),
    )
    words = Page(render(parts.Report(title="t", comparison=comparison))).words
    assert "How the model scores" in words
    assert "my kind" in words
    assert "not measured" in words
    assert "baseline" not in words
    assert "ifference" not in words
    assert "nan" not in words


def test_models_are_told_apart_without_colour(full):
    patterns = re.findall(r'stroke-dasharray="([^"]+)" class="curve', render(full).split("<figure>")[1])
    assert patterns == [dash(0), dash(2)]
    looks = {(style % 6, dash(style)) for style in range(36)}
    assert len(looks) == 36


@pytest.mark.parametrize(
    "values",
    [
        [],
        [float("nan")] * 3,
        [1.0],
        [0.0, 0.0],
        [2.0, 2.0 + 1e-15],
        [1e9, 1.0],
        [1e-13, 2e-13],
        [1.0, float("inf"), 2.0],
        [3.0] * 5000,
    ],
)
def test_any_curve_can_be_drawn(values):
    chart = parts.LossChart("total", (parts.Curve("raw", tuple(enumerate(values))),))
    drawn = line_chart(chart, {"raw": 0})
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("finite", "")
    assert len(drawn) < 10_000


def test_a_value_that_is_not_finite_breaks_the_curve():
    points = tuple(enumerate([3.0, 2.0, float("nan"), 1.5, 1.0]))
    assert line_chart(parts.LossChart("total", (parts.Curve("raw", points),)), {"raw": 0}).count("M") == 2


def test_axes_have_round_ticks():
    assert axis([0.13, 0.97]).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert axis([-0.03, 0.31]).ticks == (-0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
    assert axis([2.0, 2.0 + 1e-15]).ticks == (1.0, 1.5, 2.0, 2.5, 3.0)
    assert axis([4, 4]).ticks == (2, 3, 4, 5, 6)


def test_pictures_are_enlarged_and_others_are_refused():
    def shown(image):
        return render(parts.Report(title="t", samples=(parts.ShownSample(sample(image=image), None),)))

    assert 'width="168" height="168"' in shown(png(56, 56))
    assert 'width="192" height="96" alt="Sample 000000…0000" class="picture"' in shown(png(400, 200))
    assert "no picture" in shown(b"")
    assert "neither JPEG nor PNG" in shown(b"<svg onload=alert(1)>")


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (b"\xff\xd8\xff\xe0\x00\x04AB\xff\xff\xc0\x00\x11\x08\x00\x20\x00\x40\x03", (64, 32)),
        (b"\xff\xd8\xff\xc4\x00\x02\xff\xc2\x00\x11\x08\x00\x01\x00\x02\x03", (2, 1)),
        (b"\xff\xd8", None),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff\xd8\xff\xe0\xff\xff" + b"\0" * 50, None),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x00\x03", None),
        (png()[:14], None),
        (png(3, 7), (3, 7)),
        (b"", None),
    ],
)
def test_sizes_are_read_from_headers(image, size):
    assert pixels(image) == size


def test_only_finished_markup_is_left_as_it_is():
    assert tag("b", "<i>", Html("<i></i>"), title='"&') == '<b title="&quot;&amp;">&lt;i&gt;<i></i></b>'
    assert tag("b", f"{Html('<i>')}") == "<b>&lt;i&gt;</b>"


def test_what_hides_is_made_visible():
    assert visible("plain, naïve 日本 👩\u200d🚀") == "plain, naïve 日本 👩\u200d🚀"
    assert visible("Z" + "\u0301" * 50) == "Z" + "\u0301" * 4
    assert visible("a\x00b\n\tc\u202e\x7f") == "a␀b  c⟨U+202E⟩⟨U+007F⟩"


def test_seconds_are_said_as_people_say_them():
    said = [duration(seconds).replace("\u202f", " ") for seconds in (0.4, 9.96, 59.7, 185, 8040, 273600)]
    assert said == ["0.4 s", "10 s", "1 min 00 s", "3 min 05 s", "2 h 14 min", "3 d 4 h"]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.031, "+3.1"), (-0.012, "−1.2"), (0.0004, "+0.04"), (-0.0001, "−0.01"), (0.0, "0.0"), (-1e-9, "0.0")],
)
def test_points_keep_their_sign(value, words):
    assert points(value) == words


def test_small_is_not_nothing():
    assert share_of(3, 20_000).replace("\u202f", " ") == "< 0.1 %"
    assert share_of(0, 0).replace("\u202f", " ") == "0.0 %"
    assert number(-0.01234) == "−0.0123"


def test_every_fault_is_explained():
    assert set(REASONS) == set(Status)


def test_the_style_sheet_cannot_end_early_and_loads_nothing():
    css = Path(parts.__file__).with_name("style.css").read_text(encoding="utf-8")
    assert "<" not in css
    assert "url(" not in css
