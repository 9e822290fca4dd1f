"""What several test files share."""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hqclip.demo.scenes import draw_scene, render
from hqclip.records import Sample
from tests.alone import be_alone

be_alone()  # before any test module is read
# kfp asks for the stack at every setting of a task, to name a method. The lines of source, which it does not use, are
# looked for in all modules there are, and in a worker that holds torch and pytest that makes seconds of a pipeline.
inspect.stack.__defaults__ = (0,)
pytest_plugins = [  # a module stands before those that import it
    "tests.annotated_pools",
    "tests.buckets",
    "tests.hubs",
    "tests.launching",
    "tests.kubeflow_runs",
    "tests.scheduling",
]
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden with what is made now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)`: the text is that of `tests/golden/{name}`."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no tests/golden/{name}: make it with pytest --update-golden, and read it"
        assert text == path.read_text(encoding="utf-8"), f"tests/golden/{name} differs; --update-golden rewrites it"

    return check


@pytest.fixture(scope="session")
def scene_jpeg() -> Callable[[int], bytes]:
    """`scene_jpeg(seed)`: a drawn picture of 56 x 56 pixels."""
    return functools.cache(_scene_jpeg)


def _scene_jpeg(seed: int) -> bytes:
    rng = np.random.default_rng([507, seed])
    buffer = io.BytesIO()
    render(draw_scene(rng, (1, 2, 3)), rng).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def draw_samples(scene_jpeg: Callable[[int], bytes]) -> Callable[..., list[Sample]]:
    """`draw_samples(count, first=0)`: samples whose uid and alt-text say their number."""

    def draw(count: int, first: int = 0) -> list[Sample]:
        return [Sample(f"{n:032x}", scene_jpeg(n % 8), f"alt-text {n}") for n in range(first, first + count)]

    return draw
