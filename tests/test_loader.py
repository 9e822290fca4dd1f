"""What a training step sees: decided by its number, every usable sample once an epoch, and only texts to be trusted.

How many ranks there are decides only who of them sees what, and opens which shards.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqclip.config import DownloadConfig
from hqclip.data import sampler
from hqclip.data.dataset import DatasetShard
from hqclip.data.download import run
from hqclip.data.images import decode
from hqclip.data.loader import OpenShard, TrainingSample, TrainingSet
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import UNUSABLE, CuratedRow, Flag, write_curated
from hqclip.data.text_choice import TextPolicy, choose_texts
from hqclip.errors import DataError, NotFoundError
from hqclip.records import Annotation, Pool, Sample, Status
from hqclip.store import Store, open_store
from hqclip.store.local import LocalStore

SIZES = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4)  # samples of each shard
RAW, MIXED, GENERATED = (TextPolicy(share, 3, seed=11) for share in (0.0, 0.5, 1.0))
Shards = tuple[DatasetShard, ...]


def curated(number: int) -> CuratedRow:
    """Every fifth sample is flagged as unusable, every seventh has no annotation; shard 1 has nothing usable."""
    flags = list(UNUSABLE)[number // 5 % 3] if number % 5 == 0 or number == 3 else Flag.DUPLICATE_TAGS
    uid = f"{number:032x}"
    if number % 7 == 0:
        return CuratedRow(uid, Status.NOT_JSON, None, flags=flags)
    texts = Annotation((f"tag {number}",), ("no",), (f"true {number}", "the end"), (f"false {number}", "no end"))
    return CuratedRow(uid, Status.OK, texts, flags=flags)


@pytest.fixture(scope="module")
def dataset(
    draw_samples: Callable[..., list[Sample]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Shards]:
    """A store with a curated data set in shards of very different size."""
    folder = tmp_path_factory.mktemp("dataset")
    first = 0
    (folder / "web").mkdir()
    for number, size in enumerate(SIZES):
        write_shard(draw_samples(size, first), folder / "web" / f"{number:05d}.tar")
        first += size
    summary = run(DownloadConfig(store=str(folder), shards=str(folder / "web")))
    store = open_store(str(folder))
    first, shards = 0, []
    for entry in Pool.from_json(store.read(summary["pool"]), "").shards:
        rows = [curated(number) for number in range(first, first + entry.rows)]
        key = f"curated/{entry.name}.parquet"
        write_curated(store, key, rows, entry, "annotator")
        usable = sum(not row.flags & UNUSABLE for row in rows)
        shards.append(DatasetShard(*vars(entry).values(), key, 0, "", usable))
        first += entry.rows
    return store, tuple(shards)


USABLE = [number for number in range(sum(SIZES)) if not curated(number).flags & UNUSABLE]


def open_set(dataset: tuple[Store, Shards], policy: TextPolicy = RAW) -> TrainingSet:
    return TrainingSet(*dataset, policy)


def plain(samples: list[TrainingSample]) -> list[tuple[object, ...]]:
    """In an order of their own: that within a step carries no information."""
    return sorted((s.shard.index.uids[s.row], s.pixels().tobytes(), s.text, s.negative, s.tags) for s in samples)


def numbers(samples: list[TrainingSample]) -> list[int]:
    """Which samples these are: their uid says so."""
    return [int(sample.shard.index.uids[sample.row], 16) for sample in samples]


def drawn_order(data: TrainingSet, positions: int) -> list[int]:
    """The samples at the first so many positions, one by one."""
    return [numbers(data.share(position, 1))[0] for position in range(positions)]


def test_the_fixture_is_what_it_should_be(dataset: tuple[Store, Shards]):
    usable = [shard.usable_rows for shard in dataset[1]]
    assert sum(usable) == len(USABLE) == open_set(dataset).num_samples
    assert usable[1] == 0
    assert len(usable) > sampler.BLOCK


def test_every_usable_sample_comes_exactly_once_an_epoch(dataset: tuple[Store, Shards]):
    data = open_set(dataset)
    for epoch in range(4):
        assert sorted(numbers(data.share(epoch, len(USABLE)))) == USABLE


def test_epochs_follow_each_other_without_a_gap_whatever_the_batch(dataset: tuple[Store, Shards]):
    data = open_set(dataset)
    steps = 3 * len(USABLE)
    for size in (1, 7, 3 * len(USABLE)):
        found = [numbers(data.share(step, size)) for step in range(steps // size)]
        assert all(abs(count - 3) <= 1 for count in Counter(number for step in found for number in step).values())
        order = drawn_order(data, steps // size * size)
        assert [sorted(step) for step in found] == [sorted(order[at : at + size]) for at in range(0, len(order), size)]


@pytest.mark.parametrize("policy", [RAW, MIXED, GENERATED], ids=["raw", "mixed", "generated"])
def test_a_run_that_resumes_anywhere_sees_what_an_undisturbed_one_sees(
    dataset: tuple[Store, Shards], policy: TextPolicy
):
    steps = 2 * len(USABLE) // 8 + 2
    undisturbed = open_set(dataset, policy)
    seen = [plain(undisturbed.share(step, 8)) for step in range(steps)]
    for step in reversed(range(steps)):
        assert plain(open_set(dataset, policy).share(step, 8)) == seen[step]


def test_halves_of_a_batch_are_batches_of_half_the_size(dataset: tuple[Store, Shards]):
    data = open_set(dataset, MIXED)
    assert plain(data.share(3, 8)) == plain(data.share(6, 4) + data.share(7, 4))


def test_pictures_and_texts_stay_together(dataset: tuple[Store, Shards], scene_jpeg: Callable[[int], bytes]):
    for policy in (RAW, GENERATED):
        for sample in open_set(dataset, policy).share(0, len(USABLE)):
            number = int(sample.tags[0].split()[1]) if sample.tags else int(sample.text.removeprefix("alt-text "))
            assert np.array_equal(sample.pixels(), decode(scene_jpeg(number % 8)))
            if policy is RAW or number % 7 == 0:
                assert (sample.text, sample.negative) == (f"alt-text {number}", "")
            else:
                assert sample.text in (f"true {number}", f"true {number}. the end", "the end")


def test_epochs_and_seeds_have_orders_of_their_own(dataset: tuple[Store, Shards]):
    data, other = open_set(dataset), open_set(dataset, replace(RAW, seed=12))
    count = len(USABLE)
    drawn = [drawn_order(each, 3 * count) for each in (data, other)]
    orders = [order[epoch * count : (epoch + 1) * count] for order in drawn for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    assert all(order != sorted(order) for order in orders)


def test_a_picture_meets_other_texts_in_later_epochs(dataset: tuple[Store, Shards]):
    data = open_set(dataset, MIXED)
    texts: dict[str, set[str]] = {}
    for sample in data.share(0, 8 * len(USABLE)):
        if sample.tags:
            texts.setdefault(sample.tags[0], set()).add(sample.text)
    assert sum(len(met) for met in texts.values()) / len(texts) > 2


def test_samples_of_different_shards_are_mixed(dataset: tuple[Store, Shards]):
    data = open_set(dataset)
    shards = data.sampler.places(0, len(USABLE)).shards.tolist()
    neighbours = sum(one == two for one, two in zip(shards, shards[1:], strict=False))
    assert neighbours < len(USABLE) / 4


def test_few_shards_are_open_at_once(dataset: tuple[Store, Shards], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampler, "BLOCK", 4)
    data = open_set(dataset)
    order = data.sampler.places(0, len(USABLE)).shards.tolist()
    assert sorted(order) == sorted(open_set(dataset).sampler.places(0, len(USABLE)).shards.tolist())
    first_and_last = {shard: (order.index(shard), len(order) - order[::-1].index(shard)) for shard in set(order)}
    for position in range(len(USABLE)):
        assert sum(first <= position < last for first, last in first_and_last.values()) <= 4


def test_nothing_usable_is_refused(dataset: tuple[Store, Shards]):
    store, shards = dataset
    for none in ((), tuple(replace(shard, usable_rows=0) for shard in shards), (shards[1],)):
        with pytest.raises(DataError, match="no usable sample"):
            TrainingSet(store, none, RAW)


def test_a_sidecar_with_other_flags_than_were_counted_is_refused(dataset: tuple[Store, Shards]):
    store, shards = dataset
    miscounted = replace(shards[0], usable_rows=shards[0].usable_rows - 1)
    with pytest.raises(DataError, match=r"curated/00000.parquet: \d usable rows, not \d; run `curate` again"):
        TrainingSet(store, (miscounted,), RAW).share(0, 1)


def test_a_picture_that_cannot_be_read_though_it_is_called_usable_is_named(
    tmp_path: Path, draw_samples: Callable[..., list[Sample]]
):
    whole = draw_samples(1)[0]
    write_shard([replace(whole, image=whole.image[: len(whole.image) // 2])], tmp_path / "00000.tar")
    store = open_store(str(tmp_path / "store"))
    summary = run(DownloadConfig(store=store.uri, shards=str(tmp_path / "00000.tar")))
    entry = Pool.from_json(store.read(summary["pool"]), "").shards[0]
    write_curated(store, "curated.parquet", [curated(1)], entry, "annotator")
    shard = DatasetShard(*vars(entry).values(), "curated.parquet", 0, "", 1)
    with pytest.raises(DataError, match=r"shards/00000.tar, sample 0{32}: damaged_image"):
        TrainingSet(store, (shard,), RAW).share(0, 1)[0].pixels()


def test_a_shard_that_is_gone_is_named(dataset: tuple[Store, Shards], tmp_path: Path):
    with pytest.raises(NotFoundError, match="curated/000"):
        TrainingSet(open_store(str(tmp_path)), dataset[1], RAW).share(0, 1)


# Who of many ranks sees what


def sized(*sizes: int) -> Shards:
    """Shards of which only the number of usable rows is known."""
    names = (f"shards/{number:05d}" for number in range(len(sizes)))
    return tuple(
        DatasetShard(f"{name}.tar", f"{name}.parquet", 1, 0, size, "", 0, "", size)
        for name, size in zip(names, sizes, strict=True)
    )


def place(shards: Shards, seed: int, position: int) -> tuple[int, int]:
    """(shard, n-th usable row) at a position: shuffled blocks of shuffled shards, an epoch after the other."""
    epoch, rest = divmod(position, sum(shard.usable_rows for shard in shards))
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(shards))
    for block, first in enumerate(range(0, len(shards), sampler.BLOCK)):
        members = order[first : first + sampler.BLOCK].tolist()
        lying = [(number, row) for number in members for row in range(shards[number].usable_rows)]
        if rest < len(lying):
            return lying[np.random.default_rng([seed, epoch, block + 1]).permutation(len(lying))[rest]]
        rest -= len(lying)
    raise AssertionError("past the end of its epoch")


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any),
    st.integers(0, 2**31),
    st.integers(0, 500),
    st.integers(1, 300),
)
def test_places_reckoned_together_are_those_reckoned_one_by_one(sizes: list[int], seed: int, first: int, count: int):
    shards = tuple(shard for shard in sized(*sizes) if shard.usable_rows)
    found = TrainingSet(LocalStore(Path()), shards, replace(RAW, seed=seed)).sampler.places(first, first + count)
    together = list(zip(found.shards.tolist(), found.rows.tolist(), strict=True))
    assert together == [place(shards, seed, position) for position in range(first, first + count)]


@pytest.mark.parametrize("world", [2, 4, 8])
@pytest.mark.parametrize("policy", [RAW, MIXED], ids=["raw", "mixed"])
def test_ranks_share_out_what_one_rank_would_see(dataset: tuple[Store, Shards], policy: TextPolicy, world: int):
    """Over two epochs: steps that lie across the end of a block or of an epoch are among them."""
    alone, many = open_set(dataset, policy), [open_set(dataset, policy) for _ in range(world)]
    assert len(USABLE) % 8
    for step in range(2 * len(USABLE) // 8 + 1):
        shares = [data.share(step, 8, rank, world) for rank, data in enumerate(many)]
        assert {len(share) for share in shares} == {8 // world}
        positions = [int(p) for rank in range(world) for p in alone.sampler.part(step, 8, rank, world)[0]]
        assert sorted(positions) == list(range(step * 8, (step + 1) * 8))
        assert plain([sample for share in shares for sample in share]) == plain(alone.share(step, 8))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(lambda sizes: sum(sizes) >= 64),
    st.sampled_from([1, 2, 8]),
    st.integers(0, 40),
)
def test_every_position_of_a_step_falls_to_exactly_one_rank(sizes: list[int], world: int, step: int):
    data = TrainingSet(LocalStore(Path()), sized(*sizes), RAW).sampler
    found = [tuple(item) for rank in range(world) for item in np.stack(data.part(step, 64, rank, world)).T.tolist()]
    places = data.places(step * 64, (step + 1) * 64)
    assert sorted(found) == [
        (step * 64 + n, shard, row)
        for n, (shard, row) in enumerate(zip(places.shards.tolist(), places.rows.tolist(), strict=True))
    ]


def test_a_rank_of_many_reads_few_shards_of_a_large_data_set():
    data = TrainingSet(LocalStore(Path()), sized(*[1000] * 64), RAW).sampler
    for world, in_a_step, in_an_epoch in ((1, 32, 64), (8, 8, 20), (64, 6, 12)):
        for rank in (0, world // 3, world - 1):
            steps = [set(data.part(step, 1024, rank, world)[1].tolist()) for step in range(data.num_samples // 1024)]
            assert max(len(shards) for shards in steps) <= in_a_step
            assert len(set.union(*steps)) <= in_an_epoch


class Watched(LocalStore):
    """Knows what was opened, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        self.opened.append(key)
        return super().open(key)


@pytest.mark.parametrize(("world", "opened_in_all"), [(1, 19), (4, 40)])
def test_a_shard_is_opened_once_for_a_block_and_only_by_ranks_that_need_it(
    dataset: tuple[Store, Shards], world: int, opened_in_all: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampler, "BLOCK", 8)
    needed, opened = [], []
    for rank in range(world):
        store = Watched(Path(dataset[0].uri))
        data = TrainingSet(store, dataset[1], RAW)
        for step in range(len(USABLE) // 8):
            for sample in data.share(step, 8, rank, world):
                sample.pixels()
                needed.append((rank, sample.shard.where))
        opened += [(rank, f"{store.uri}/{key}") for key in store.opened if key.endswith(".tar")]
    assert sorted(opened) == sorted(set(needed))
    assert len(opened) <= opened_in_all


def test_shards_of_blocks_that_are_over_are_let_go(dataset: tuple[Store, Shards], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampler, "BLOCK", 2)
    data = open_set(dataset)
    shards: list[weakref.ref[OpenShard]] = []
    for step in range(len(USABLE)):
        (sample,) = data.share(step, 1)
        shards += [weakref.ref(sample.shard)] if all(known() is not sample.shard for known in shards) else []
        assert sum(known() is not None for known in shards) <= 3  # a block, and the sample in hand
    assert len(shards) == 19


# Which text, and which contradiction

DESC = ("one two three four", "five", "six seven eight nine ten")
NEG = ("1 2 3 4", "5", "6 7 8 9 10")
ROW = CuratedRow("0" * 32, Status.OK, Annotation((), (), DESC, NEG))
choose = partial(choose_texts, alt_text="alt")


def drawn(row: CuratedRow, policy: TextPolicy, count: int = 4000) -> Counter[tuple[str, str]]:
    rng = np.random.default_rng(4)
    return Counter(choose(row, policy=policy, draws=rng.random(3)) for _ in range(count))


@pytest.mark.parametrize(("share", "draw", "text"), [(0.3, 0.29, DESC[0]), (0.3, 0.31, "alt"), (1.0, 0.999, DESC[0])])
def test_the_draw_decides_between_description_and_alt_text(share: float, draw: float, text: str):
    assert choose(ROW, policy=TextPolicy(share, 1, 0), draws=[draw, 0.0, 0.0])[0] == text


def test_the_share_of_descriptions_is_as_set():
    for share in (0.0, 0.25, 0.75, 1.0):
        alt = sum(count for (text, _), count in drawn(ROW, TextPolicy(share, 3, 0)).items() if text == "alt")
        assert alt / 4000 == pytest.approx(1 - share, abs=0.03)


def test_alt_text_has_no_contradiction():
    assert choose(ROW, policy=RAW, draws=[0.0, 0.5, 0.5]) == ("alt", "")


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_a_description_is_a_run_of_whole_sentences_each_with_its_own_contradiction(limit: int):
    runs = {(a, b) for a in range(3) for b in range(a + 1, min(3, a + limit) + 1)}
    assert set(drawn(ROW, TextPolicy(1.0, limit, 0))) == {(". ".join(DESC[a:b]), ". ".join(NEG[a:b])) for a, b in runs}


def test_longer_sentences_begin_a_text_more_often():
    first = Counter[str]()
    for (text, _), count in drawn(ROW, TextPolicy(1.0, 1, 0)).items():
        first[text] += count
    assert [first[sentence] / 4000 for sentence in DESC] == pytest.approx([0.4, 0.1, 0.5], abs=0.03)


def test_weak_alt_text_is_replaced_unless_only_alt_text_is_wanted():
    weak = replace(ROW, flags=Flag.WEAK_ALT_TEXT)
    assert not any(text == "alt" for text, _ in drawn(weak, TextPolicy(0.1, 3, 0)))
    assert set(drawn(weak, RAW)) == {("alt", "")}


def test_alt_text_stands_in_where_there_is_no_description():
    bare = CuratedRow("0" * 32, Status.NOT_JSON, None, flags=Flag.WEAK_ALT_TEXT)
    assert set(drawn(bare, GENERATED)) == {("alt", "")}


@pytest.mark.parametrize("desc", [(), ("",), ("", " ")])
def test_alt_text_stands_in_for_a_description_without_words(desc: tuple[str, ...]):
    silent = replace(ROW, annotation=Annotation(("ring",), (), desc, desc))
    assert set(drawn(silent, GENERATED, 50)) == {("alt", "")}


@pytest.mark.parametrize("alt_text", ["", " ", "\n"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_description_stands_in_for_an_alt_text_that_is_empty(alt_text: str, share: float):
    policy, rng = TextPolicy(share, 3, 0), np.random.default_rng(4)
    seen = {choose_texts(ROW, alt_text, policy, rng.random(3)) for _ in range(500)}
    assert seen == set(drawn(ROW, TextPolicy(1.0, 3, 0)))


def test_a_contradiction_that_looks_true_is_withheld():
    doubtful = replace(ROW, flags=Flag.NEGATIVE_LOOKS_TRUE)
    assert {negative for _, negative in drawn(doubtful, GENERATED)} == {""}


@pytest.mark.parametrize("negatives", [("1 2 3 4", "", "6"), ("1 2 3 4",), ()], ids=["one empty", "too few", "none"])
def test_a_run_without_a_contradiction_for_each_sentence_has_none(negatives: tuple[str, ...]):
    row = replace(ROW, annotation=Annotation((), (), DESC, negatives))
    for text, negative in drawn(row, GENERATED):
        sentences = [DESC.index(sentence) for sentence in text.split(". ")]
        own = [negatives[n] if n < len(negatives) else "" for n in sentences]
        assert negative == (". ".join(own) if all(own) else "")
