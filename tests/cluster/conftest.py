"""What the cases on a cluster share: the place, what they want of it, and the table of what held."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.alone import GIVEN
from tests.cluster.place import WANTED, Done, Place, versions
from tests.cluster.runs import World, draw_world, ended, remove_all
from tests.cluster.table import Case, markdown

PLACE = Place()
_CASES: dict[str, Case] = {}
_BEGUN = time.monotonic()
# those of one long case, which are begun when something else waits behind them; those of many; what is short, behind
FIRST = (
    *("test_schedules", "test_channels", "test_runs", "test_ends", "test_gangs"),
    *("test_ground", "test_guards", "test_launched", "test_budget"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="where the table of what held goes, as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    GIVEN.update(
        getattr(config, "workerinput", {}).get("given", {})
    )  # a worker has the shell of its own, which is bare
    config.addinivalue_line(
        "markers", f"needs(what, ...): skipped by name where it is not there; of {', '.join(WANTED)}"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [each for marker in item.iter_markers("needs") for each in marker.args]
    if missing := PLACE.missing(wanted):
        pytest.skip(f"wants {', '.join(missing)}")


class SharedScheduling(LoadScopeScheduling):
    """What shares a store, a job or a namespace stays on one worker, in order; the rest goes on side by side."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, case = nodeid.partition("::")
        return file if PLACE.has_namespace else f"{file} {case.partition('[')[2]}"  # with a scheduler, a ground each


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # in the order of `FIRST`
    return SharedScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(Path(item.path).stem, len(order)))


def pytest_configure_node(node: Any) -> None:
    node.workerinput["given"] = dict(GIVEN)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With each report goes what the table calls its case: reports reach the process that writes the table."""
    outcome: Any = yield
    title = " ".join((item.function.__doc__ or item.name).split()).rstrip(".")  # type: ignore[attr-defined]
    if parameters := _parameters(item):
        title += f" ({', '.join(str(value) for value in parameters.values())})"
    part = Path(item.path).stem.removeprefix("test_")
    outcome.get_result().user_properties.append(("case", (part, title)))


def _parameters(item: pytest.Item) -> dict[str, Any]:
    called = getattr(item, "callspec", None)
    return dict(called.params) if called else {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    part, title = dict(report.user_properties)["case"]  # type: ignore[misc]
    _CASES[report.nodeid] = _CASES.get(report.nodeid, Case(part, title)).after(report)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not _CASES:
        return
    for each in PLACE.missing(list(WANTED)):
        terminalreporter.write_line(f"{each} was not found: {WANTED[each]}")
    text = markdown(versions(PLACE), list(_CASES.values()), (time.monotonic() - _BEGUN) / 60)
    terminalreporter.write_line("\n" + text)
    if path := config.getoption("--table"):
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """The cluster, Kubeflow and the store that the environment names; what the suite made there is removed."""
    yield PLACE
    remove_all(PLACE)


@pytest.fixture(scope="session")
def world(place: Place) -> World:
    """The shapes world, in a part of the store that is this suite's alone."""
    return draw_world(place)


@pytest.fixture(scope="session")
def cycle(place: Place, world: World) -> Done:
    """A first cycle, waited for."""
    return ended(place, "refine", world.refine)
