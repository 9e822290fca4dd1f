"""`hqclip evaluate` against clip_benchmark 1.6.2: `python benchmarks/evaluate_vs_clip_benchmark.py [TURNS]`.

With `make test-references` done once: `OMP_NUM_THREADS=1 PYTHONPATH=build/references:. python benchmarks/...`.

Five sets of drawn JPEGs of 640 x 480 pixels, in turn by both, in fp32 on the CPU with the same model (random weights):
two classifications with the same classes, as ImageNet's variants have, two retrievals with one and five captions an
image, and SugarCrepe's choice. clip_benchmark's own metrics, in batches of 64 as its command has them, with open_clip's
transform and tokenizer; of ours all that the command does, and beside it the import, which is done once. Then the image
path alone, what retrieval among 25,000 captions takes in memory, and the CPU time of the busier of two ranks against
that of one. Writes the table to evaluate_vs_clip_benchmark.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hqclip import log
from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.images import decode
from hqclip.evaluate import stage
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.importing import command
from hqclip.exported import WEIGHTS
from hqclip.store import open_store
from hqclip.train.model import HQClip
from tests import published_sets as published

MODEL, TINY = "ViT-S-32-alt", "tiny-224"
TOWER = {"image_size": 224, "layers": 1, "width": 64, "patch_size": 32}  # of TINY
TEXT_TOWER = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 2, "layers": 1}
IMAGES, BATCH = 64, 64  # of a set; at a time
COLOURS, THINGS = ("red", "blue", "green", "grey", "white"), ("ring", "square", "cross", "cup", "dog", "boat")
CLASSES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
TEMPLATES = ["a photo of a {c}.", "{c}", "a {c} on the left", "a bad photo of the {c}.", "art of a {c}", "one {c}"]
SENTENCE = "a small dog with brown fur runs across the green field while two children in red coats look on"
WORDS = SENTENCE.split()
CAPTIONS, PICTURES, WIDTH = 25_000, 5_000, 512  # of COCO's test split, of ViT-B
OURS, THEIRS = "hqclip", "clip_benchmark"


def main(turns: str = "3") -> None:
    """Measure, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        suite = [world.both() for _ in range(int(turns))]
        path = [world.both_paths() for _ in range(int(turns) + 1)][1:]
        ranks = [world.ranks() for _ in range(int(turns))]
    extra = peak_of_retrieval()
    lines = [
        "# `hqclip evaluate` against clip_benchmark",
        "",
        f"`OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} PYTHONPATH=build/references:. python "
        f"benchmarks/evaluate_vs_clip_benchmark.py {turns}`: {MODEL} with random weights, fp32, five sets of {IMAGES} "
        f"JPEGs of 640 x 480 pixels, {len(CLASSES)} classes in {len(TEMPLATES)} templates, torch {torch.__version__} "
        f"with {torch.get_num_threads()} thread(s), Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} shared CPU cores with other work on them: seconds of CPU are told, and ratios of one turn.",
        "",
        "| CPU seconds | median | least | most |",
        "|---|---|---|---|",
        *(row(f"five sets, {who}", [turn[who] for turn in suite]) for who in (THEIRS, OURS)),
        *(row(f"{IMAGES} images by a tiny tower, {who}", [turn[who] for turn in path]) for who in (THEIRS, OURS)),
        row("import of the five sets, once, hqclip", [world.import_s]),
        row("five sets, one rank", [one for one, _ in ranks]),
        row("five sets, the busier of two ranks", [two for _, two in ranks]),
        "",
        f"In all {ratio([(t[THEIRS], t[OURS]) for t in suite])} times as fast, on the image path alone (the tiny "
        f"tower of {TOWER['image_size']} pixels) {ratio([(t[THEIRS], t[OURS]) for t in path])} times, with the same "
        f"numbers ({world.compared} metrics). Two ranks against one: {ratio(ranks)} times, as far as CPU time tells. "
        f"Retrieval among {CAPTIONS:,} captions of {PICTURES:,} images takes {extra / 2**20:.0f} MiB above the "
        "features.",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def row(name: str, seconds: list[float]) -> str:
    return f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} |"


def ratio(pairs: list[tuple[float, float]]) -> str:
    found = [above / below for above, below in pairs]
    return f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def cpu_s(work: Callable[[], Any]) -> float:
    """Seconds of CPU, of all threads: on a machine with other work they say more than those of a clock."""
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        work()
    return time.process_time() - start


class World:
    """Sets as they are published, two models, and what both programs make of them."""

    def __init__(self, folder: Path) -> None:
        log.choose("warning")
        self.folder, self.turn, self.compared = folder, 0, 0
        rng = np.random.default_rng(0)
        self.pictures = [[draw(rng) for _ in range(IMAGES)] for _ in range(5)]
        self.labels = [[n % len(CLASSES) for n in range(IMAGES)] for _ in range(2)]
        self.captions = [[[sentence(rng) for _ in range(number)] for _ in range(IMAGES)] for number in (1, 5)]
        self.pairs = [[sentence(rng), sentence(rng)] for _ in range(IMAGES)]
        published.put_json(self.folder, f"{TINY}.json", {"embed_dim": 64, "vision_cfg": TOWER, "text_cfg": TEXT_TOWER})
        open_clip.add_model_config(self.folder / f"{TINY}.json")
        for name in (MODEL, TINY):
            export(name, folder / name)
        self.publish()
        self.import_s = cpu_s(self.make_suite)

    def publish(self) -> None:
        for n in range(2):
            place = self.folder / f"classes{n}"
            self.shard(place, self.pictures[n], "cls", [str(label) for label in self.labels[n]])
            published.put(place, "classnames.txt", "\n".join(CLASSES))
            published.put(place, "zeroshot_classification_templates.txt", "\n".join(TEMPLATES))
            place = self.folder / f"captions{n}"
            self.shard(place, self.pictures[2 + n], "txt", ["\n".join(texts) for texts in self.captions[n]])
            published.put(place, "dataset_type.txt", "retrieval\n")
        items = {str(n): published.sugar(n, *pair) for n, pair in enumerate(self.pairs)}
        published.put_json(self.folder / "crepe", "add_att.json", items)
        for n, picture in enumerate(self.pictures[4]):
            published.put(self.folder / "crepe", f"val2017/{n}.jpg", picture)

    def shard(self, place: Path, pictures: list[bytes], ending: str, texts: list[str]) -> None:
        members = []
        for n, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            members += [(f"s{n:07d}.jpg", picture), (f"s{n:07d}.{ending}", text.encode())]
        published.write_shards(place, [members])

    def both(self) -> dict[str, float]:
        """CPU seconds of each for all sets. Raises `AssertionError` where they differ."""
        said: dict[str, Any] = {}
        took = {THEIRS: cpu_s(lambda: said.update(self.theirs())), OURS: cpu_s(lambda: said.update(ours=self.ours()))}
        self.compare(said)
        return took

    def theirs(self) -> dict[str, Any]:
        from clip_benchmark.metrics import image_caption_selection, zeroshot_classification, zeroshot_retrieval

        model, transform, tokenizer = load(self.folder / MODEL)
        about = {"device": "cpu", "amp": False}
        said: dict[str, Any] = {}
        for n in range(2):
            data = Batches(self.pictures[n], [torch.tensor(label) for label in self.labels[n]], transform)
            said[f"classes{n}"] = zeroshot_classification.evaluate(model, data, tokenizer, CLASSES, TEMPLATES, **about)
            captioned = Batches(self.pictures[2 + n], self.captions[n], transform)
            said[f"captions{n}"] = zeroshot_retrieval.evaluate(
                model, captioned, tokenizer, recall_k_list=[1, 5, 10], **about
            )
        pairs = Batches(self.pictures[4], self.pairs, transform)
        said["crepe"] = image_caption_selection.evaluate(model, pairs, tokenizer, **about)
        return said

    def ours(self) -> dict[str, float]:
        self.turn += 1
        metrics: dict[str, float] = stage.run(self.config(self.folder / f"store{self.turn}"))["metrics"]
        return metrics

    def make_suite(self) -> None:
        for name in ("classes0", "classes1", "captions0", "captions1", "crepe"):
            of_crepe = name == "crepe"
            command.run(
                SuiteImportConfig(
                    suite=f"{self.folder}/suite",
                    name=name,
                    layout="sugarcrepe" if of_crepe else "clip_benchmark",
                    source=f"{self.folder}/{name}",
                    images=f"{self.folder}/crepe/val2017" if of_crepe else "",
                )
            )

    def config(self, store: Path) -> EvaluateConfig:
        return EvaluateConfig(
            store=str(store),
            model=f"{self.folder}/{MODEL}",
            suite=f"{self.folder}/suite/suite.json",
            device="cpu",
            decode_threads=2,
        )

    def compare(self, said: dict[str, Any]) -> None:
        wanted = {f"{name}_{m}": said[name][m] for name in ("classes0", "classes1") for m in ("acc1", "acc5")}
        for name in ("captions0", "captions1"):
            for way, theirs in (("image_to_text", "text_retrieval"), ("text_to_image", "image_retrieval")):
                wanted |= {f"{name}_{way}_r{k}": said[name][f"{theirs}_recall@{k}"] for k in (1, 5, 10)}
        wanted["crepe_accuracy"] = said["crepe"]["text_acc"]
        ours = said["ours"]
        differing = {name: (value, ours[name]) for name, value in wanted.items() if abs(value - ours[name]) > 1e-6}
        assert not differing, f"not the same numbers: {differing}"
        self.compared = len(wanted)

    def both_paths(self) -> dict[str, float]:
        """From JPEGs to embeddings, by a tower so small that the way to its 224 pixels is most of the work.

        As it is beside a GPU.
        """
        model, transform, _ = load(self.folder / TINY)
        clip = ExportedClip(open_store(str(self.folder)), TINY, device="cpu", decode_threads=2)

        def theirs() -> None:
            for pixels, _ in Batches(self.pictures[0], self.labels[0], transform):
                with torch.no_grad():
                    torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)

        return {
            THEIRS: cpu_s(theirs),
            OURS: cpu_s(lambda: clip.images((partial(decode, one) for one in self.pictures[0]), BATCH)),
        }

    def ranks(self) -> tuple[float, float]:
        """CPU seconds of one rank, and of the busier of two, for the embedding and judging."""
        return tuple(max(self.run_ranks(number)) for number in (1, 2))  # type: ignore[return-value]

    def run_ranks(self, number: int) -> list[float]:
        self.turn += 1
        config = self.config(self.folder / f"store{self.turn}").to_mapping()
        config["batch_size"] = IMAGES // 4  # several batches a set, as sets have
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        told = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, "--rank", json.dumps(config)],
                env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(number)
        ]
        return [float(rank.communicate()[0].split()[-1]) for rank in ranks]


class Batches:
    """A data set as clip_benchmark takes one: batches of pixels, and what belongs to them."""

    classes = CLASSES

    def __init__(self, pictures: list[bytes], of: list[Any], transform: Callable[[Any], torch.Tensor]) -> None:
        self.pictures, self.of, self.transform, self.dataset = pictures, of, transform, self

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Any]]:
        for start in range(0, len(self.pictures), BATCH):
            pixels = [self.transform(Image.open(io.BytesIO(one))) for one in self.pictures[start : start + BATCH]]
            of = self.of[start : start + BATCH]
            yield torch.stack(pixels), torch.stack(of) if isinstance(of[0], torch.Tensor) else of

    def __len__(self) -> int:
        return -(-len(self.pictures) // BATCH)


def load(folder: Path) -> tuple[Any, Any, Any]:
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    return model.eval(), transform, open_clip.get_tokenizer(name)


def export(name: str, folder: Path) -> None:
    """Random weights, some of them larger: else a model hardly looks at its picture, and gives all the same answer."""
    torch.manual_seed(5)
    HQClip(name, [0.5]).export(folder)
    weights = load_file(folder / WEIGHTS)
    for key, value in weights.items():
        if key.endswith(("in_proj_weight", "out_proj.weight", "conv1.weight")):
            value *= 4 if key.endswith("conv1.weight") else 2
    save_file(weights, folder / WEIGHTS)


def draw(rng: np.random.Generator) -> bytes:
    """Smooth noise."""
    noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def sentence(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(6, 16))))


def peak_of_retrieval() -> int:
    """Bytes above the features at most, in a process of its own, whose peak is that of nothing else."""
    done = subprocess.run([sys.executable, __file__, "--retrieval"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def measure_retrieval() -> None:
    image_ND, text_MD = (torch.nn.functional.normalize(torch.randn(n, WIDTH), dim=-1) for n in (PICTURES, CAPTIONS))
    each = CAPTIONS // PICTURES
    captions = tuple(tuple(f"{n} {k}" for k in range(each)) for n in range(PICTURES))
    benchmark = Retrieval("coco", tuple(f"{n:032x}" for n in range(PICTURES)), captions)
    before = peak()
    benchmark.measure(image_ND, {"captions": text_MD})
    print(peak() - before)


def peak() -> int:
    """Bytes of this program at most; what `getrusage` tells has that of the parent in it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def be_a_rank(given: str) -> None:
    config = EvaluateConfig.from_mapping(json.loads(given))
    print(cpu_s(lambda: stage.run(config)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--retrieval"]:
        measure_retrieval()
    elif sys.argv[1:2] == ["--rank"]:
        be_a_rank(sys.argv[2])
    else:
        main(*sys.argv[1:])
