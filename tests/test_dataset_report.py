"""The page about a data set version says what is in the store."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hqclip.config import CurateConfig, DownloadConfig
from hqclip.curate import examples
from hqclip.curate.dataset_report import write_dataset_report
from hqclip.curate.drift import drift
from hqclip.curate.examples import offending
from hqclip.curate.gate import Checked, check
from hqclip.curate.rules import limits
from hqclip.curate.sampling import MAX_ALIKE, SAMPLES, sample_rows
from hqclip.curate.stage import run as curate
from hqclip.curate.statistics import Statistics
from hqclip.curate.work_cost import work_cost
from hqclip.data.dataset import read_dataset
from hqclip.data.download import run as download
from hqclip.data.images import thumbnail
from hqclip.data.index import read_index
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import Flag, ScoredRow, write_annotations, write_scores
from hqclip.demo.scenes import Scene, draw_scene, render
from hqclip.demo.texts import alt_text, teacher_texts
from hqclip.records import FIELDS, AnnotatedRow, Annotation, Pool, Sample, Status
from hqclip.report.gallery import pixels
from hqclip.store import Store, open_store
from tests.test_refinement_pages import said
from tests.test_report import Page

LOG = {
    "images": 60,
    "prompt_tokens": 20_000,
    "cached_tokens": 9000,
    "output_tokens": 6000,
    "seconds": 20.0,
    "gpu_seconds": 40.0,
    "num_gpus": 2,
    "device": "NVIDIA H100",
    "window_full_share": 0.9,
    "gpu_busy_share": None,
}


def make_version(folder: Path, rows: int = 60, seed: int = 1, **settings: Any) -> tuple[Store, str]:
    """A version of drawn scenes whose LVLM errs in known ways; the store and the key of the version."""
    root = str(folder / "store")
    rng = np.random.default_rng([80, seed])
    scenes = {f"{int(rng.integers(2**62)):032x}": draw_scene(rng, (1, 2, 2, 3)) for _ in range(rows)}
    for number, chunk in enumerate(np.array_split(sorted(scenes), 3)):
        drawn = (Sample(uid, _jpeg(scenes[uid], rng), alt_text(scenes[uid], rng)) for uid in chunk.tolist())
        write_shard(drawn, folder / f"{seed}-{number:05d}.tar")
    taken = download(DownloadConfig(store=root, shards=f"{folder}/{seed}-{{00000..00002}}.tar"))
    store = open_store(root)
    annotations, scores = f"annotations/an{seed}", f"scores/m{seed}-an{seed}"
    for entry in Pool.from_json(store.read(taken["pool"]), taken["pool"]).shards:
        uids = read_index(store, entry).uids
        said = [_row(uid, n, scenes[uid], seed) for n, uid in enumerate(uids)]
        write_annotations(store, f"{annotations}/{entry.name}.parquet", said, entry, f"an{seed}")
        found = [
            ScoredRow(uid, 0.2, rng.normal(0.3, 0.05), rng.normal(0.22, 0.05))
            if row.annotation
            else ScoredRow(uid, 0.2, float("nan"), float("nan"))
            for uid, row in zip(uids, said, strict=True)
        ]
        write_scores(store, f"{scores}/{entry.name}.parquet", found, entry, "m")
    given = {"gate": "warn", "max_drop_rate": 0.9, "name": f"shapes {seed}", **settings}
    if given.pop("scored", False):
        given["scores"] = scores
    result = curate(CurateConfig(store=root, pool=taken["pool"], annotations=annotations, **given))
    return store, str(result["dataset"])


def _jpeg(scene: Scene, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    render(scene, rng).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _row(uid: str, number: int, scene: Scene, seed: int) -> AnnotatedRow:
    """What the LVLM makes of a scene: mostly the truth, each of ten errors now and then."""
    texts: dict[str, list[str]] = {name: list(lines) for name, lines in teacher_texts(scene).items()}
    tokens = {"prompt_tokens": 320 + number % 9, "output_tokens": 30 + 5 * len(texts["desc"]) + 20 * seed}
    match number % 20:
        case 3:
            said = f"Sure! Here is what I see: {texts['desc'][0]} <script>alert({number})</script>"
            return AnnotatedRow(uid, Status.NOT_JSON, None, attempts=3, answer=said, **tokens)
        case 7:
            said = "I'm sorry, but I cannot help with that."
            return AnnotatedRow(uid, Status.REFUSED, None, attempts=3, answer=said, **tokens)
        case 4:
            texts["neg_desc"][0] = texts["desc"][0]
        case 8:
            texts["neg_desc"][0] = "seven dogs play chess under water"
        case 11:
            texts["desc"][0] = "I cannot see the image, but as an AI language model I guess shapes."
        case 12:
            texts["tags"] *= 2
        case 13:
            texts["desc"][0] = f"{texts['desc'][0]} and call 555-123-4567 or write to shop@example.com"
        case 16:
            texts["desc"][0] = " ".join(
                [texts["desc"][0]] + [f"with detail {n} of the fine drawing" for n in range(20)]
            )
    annotation = Annotation(**{name: tuple(texts[name]) for name in FIELDS})
    return AnnotatedRow(uid, Status.OK, annotation, attempts=1 + (number % 6 == 5), **tokens)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    return make_version(tmp_path_factory.mktemp("version"), scored=True)


def page_of(store: Store, key: str, checked: Checked | None = None) -> tuple[str, Page]:
    """The page as it is written now, if need be with what `curate` would say of the usual limits."""
    version, _, tags = read_dataset(store, key)
    about = key.replace("dataset.json", "statistics.json")
    moved = {}
    if version.parent:
        moved = drift(store, version, Statistics.from_json(store.read(about), about), tags)
    source = store.read(write_dataset_report(store, key, checked or check(version, limits(), moved))).decode()
    return source, Page(source)


def test_the_page_lies_beside_the_version_and_is_the_same_each_time(made: tuple[Store, str]):
    store, key = made
    where = key.replace("dataset.json", "sheet.html")
    first = store.read(where)
    store.delete(where)
    assert page_of(store, key)[0].encode() == first
    assert store.read(where) == first
    assert len(first) < 3_000_000


def test_counts_of_the_page_are_counts_of_the_version(made: tuple[Store, str]):
    store, key = made
    version, _, _ = read_dataset(store, key)
    words = said(page_of(store, key)[1])
    assert f"{100 * version.usable_rows / version.rows:.1f} % of {version.rows} samples can be trained on" in words
    for name, count in {**version.flags, **version.counts}.items():
        if name != "ok":
            assert re.search(rf"{name.replace('_', ' ')}.{{0,120}}{100 * count / version.rows:.1f} %{count}", words), (
                name
            )
    assert "more found nothing" in words


def test_raw_answers_and_offending_texts_are_shown_and_never_obeyed(made: tuple[Store, str]):
    source, page = page_of(*made)
    words = said(page)
    assert "Sure! Here is what I see" in words
    assert "I'm sorry, but I cannot help with that." in words
    assert "I cannot see the image, but as an AI language model I guess shapes." in words  # dropped by curate
    assert "seven dogs play chess under water" in words
    assert "&lt;script&gt;" in source
    assert "<script" not in source


def test_what_is_over_its_limit_is_in_the_verdict(made: tuple[Store, str]):
    store, key = made
    page = page_of(store, key)[1]
    assert "✓ Within limits" in said(page)  # fewer rows than a limit needs
    allowed = {**limits(), "not_json": 0.01}
    checked = Checked(allowed, {"tags": 0.3}, {"not_json": 0.05, "drift tags": 0.3})
    words = said(page_of(store, key, checked)[1])
    assert "✕ Over its limits" in words
    assert "Not json: 5.0 %, more than its limit of 1 %." in words
    assert "Tags moved by 0.30 from the parent." in words
    assert "0.30: a large change" in words
    assert "✕ over its limit of 1 %" in words


def test_shown_samples_are_the_same_for_the_same_version_and_none_twice(made: tuple[Store, str]):
    store, key = made
    version, shards, _ = read_dataset(store, key)
    sampled = sample_rows(store, version, shards)
    assert sampled == sample_rows(store, version, shards)
    assert len(sampled.random) == SAMPLES
    keys = [pick.key for pick in (*sampled.random, *sampled.worst)]
    assert len(set(keys)) == len(keys)
    assert sampled.looked_at == version.rows
    kinds = [int(pick.row.flags) for pick in sampled.worst]
    assert all(kinds.count(kind) <= MAX_ALIKE for kind in kinds)
    assert set(sampled.examples) == {*version.flags, *version.counts} - {"ok"}


def test_the_worst_have_more_flags_than_the_others(made: tuple[Store, str]):
    store, key = made
    version, shards, _ = read_dataset(store, key)
    worst = [len(pick.row.flags) + pick.row.attempts - 1 for pick in sample_rows(store, version, shards).worst]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 1


def test_a_version_is_compared_with_its_parent(tmp_path: Path):
    store, parent = make_version(tmp_path, seed=1)
    old, _, _ = read_dataset(store, parent)
    _, key = make_version(tmp_path, seed=2, parent=old.digest)
    source, page = page_of(store, key)
    words = said(page)
    assert 'class="outline"' in source
    assert f"Drift from shapes 1 ({old.digest})" in words
    assert "output tokens" in words
    assert re.search(r"Drift [0-9.]+: a large change", words)  # answers of seed 2 have 20 tokens more
    assert ", parent " in words
    assert "New tags" in words


def test_without_a_parent_nothing_is_compared(made: tuple[Store, str]):
    source, page = page_of(*made)
    assert "New tags" not in page.words
    assert "Drift from" not in page.words
    assert source.count('class="outline"') == 1  # similarity: true against false sentences


def test_a_version_without_statistics_or_scores_has_a_page_too(tmp_path: Path):
    store, key = make_version(tmp_path)
    store.delete(key.replace("dataset.json", "statistics.json"))
    words = said(page_of(store, key)[1])
    assert "What was found" in words
    assert "Distributions" not in words


def test_a_picture_that_cannot_be_decoded_is_withheld(made: tuple[Store, str]):
    assert thumbnail(b"not a picture", 64) == b""
    buffer = io.BytesIO()
    Image.new("RGBA", (900, 300), (255, 0, 0, 0)).save(buffer, "PNG")
    assert pixels(thumbnail(buffer.getvalue(), 256)) == (256, 85)
    assert b"Exif" not in thumbnail(buffer.getvalue(), 256)


def test_pictures_are_withheld_when_the_page_would_grow_too_large(
    made: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
):
    _, before = page_of(*made)
    monkeypatch.setattr(examples, "MAX_PICTURES", 9000)
    _, page = page_of(*made)
    assert 0 < len(page.all("img")) < len(before.all("img"))
    assert "no picture" in page.words


def test_work_logs_are_added_up_but_for_damaged_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = open_store(str(tmp_path))
    for owner, log in (("a", LOG), ("b", {**LOG, "images": 40, "window_full_share": 0.6, "seconds": 10.0})):
        store.write(f"annotations/x/work/{owner}/progress.json", json.dumps(log).encode())
    cost = work_cost(store, "x")
    assert cost
    assert (cost.images, cost.output_tokens, cost.gpu_seconds, cost.gpus) == (100, 12_000, 80.0, 2)
    assert cost.window_full_share == pytest.approx(0.8)
    assert cost.gpu_busy_share is None
    assert work_cost(store, "nobody") is None
    store.write("annotations/x/work/c.json", b"[1")
    store.write("annotations/x/work/d.json", b'{"images": null, "seconds": "1", "gpu_seconds": NaN}')
    assert work_cost(store, "x") == cost
    assert "work/c.json is damaged: no JSON" in capsys.readouterr().err


def test_without_work_logs_tokens_are_those_of_the_sidecars(made: tuple[Store, str]):
    store, key = made
    version, shards, _ = read_dataset(store, key)
    cost = work_cost(store, version.annotator, shards)
    assert cost
    assert cost.images == version.rows
    assert cost.output_tokens > 30 * version.rows
    assert cost.gpu_seconds is None
    words = said(page_of(store, key)[1])
    assert "output tokens an image" in words
    assert "GPU time" not in words


@pytest.mark.parametrize(
    ("flag", "texts", "found"),
    [
        (Flag.NEGATIVE_REPEATS, (("a cat", "a dog"), ("a cow", "a dog")), ("a dog", "a dog")),
        (Flag.LONG_TEXT, (("short", "word " * 99), ("no", "no")), ("word " * 99, "")),
        (Flag.WEAK_ALT_TEXT, (("a cat",), ("a cow",)), ("", "")),
        (Flag.LOW_SIMILARITY, (("a cat", "b"), ("a cow",)), ("a cat b", "")),
    ],
)
def test_the_sentence_that_breaks_a_rule_is_found(flag: Flag, texts: Any, found: tuple[str, str]):
    assert offending(flag, Annotation(("t",), (), *texts), "alt") == found
    assert offending(flag, None, "alt") == ("", "")
