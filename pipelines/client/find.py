"""What a person calls a run in, the run out: its id, the start of it, its name, or `latest`, the newest of ours."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hqclip.errors import HQClipError, NotFoundError
from hqclip.store import Store, in_bucket, open_store
from pipelines.client.connect import Kubeflow, connect, is_forwarded, pages
from pipelines.client.versions import matching, our_names
from pipelines.lines import split_channel

LATEST = "latest"
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
MOST_RUNS = 1000  # looked through for a name
MOST_OFFERED, OFFERED_S = 50, 2.0  # runs that a shell is told, and the patience of who pressed Tab
_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_START_OF_ID = re.compile(r"[0-9a-f]{8}[0-9a-f-]*")


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """The run that is meant."""
    run = parser.add_argument(
        "run", metavar="RUN", help="id of a run (8 characters of it do), its name, or `latest`, the newest of ours"
    )
    offer_runs(run)


def offer_runs(argument: argparse.Action) -> None:
    """A shell is told the ids of the newest runs, if Kubeflow says them soon; `latest` in any case."""
    argument.completer = _newest  # type: ignore[attr-defined]


def _newest(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """No tunnel is opened for it: the shell leaves nobody behind to close it."""
    given = argparse.Namespace(**{**vars(parsed_args), "patience_s": OFFERED_S})
    try:
        runs = () if is_forwarded(given) else list_runs(connect(given))
        return [LATEST, *(str(run.run_id) for run in itertools.islice(runs, MOST_OFFERED))]
    except HQClipError:
        return [LATEST]


def find_run(kubeflow: Kubeflow, text: str, **asked: Any) -> Any:
    """The run of this id, start of an id, or name; the newest of ours for `latest`. Raises `NotFoundError`.

    `asked` narrows where names are looked for, as for `list_runs`.
    """
    if _ID.fullmatch(text):
        return kubeflow.client.get_run(text)
    own = our_pipelines(kubeflow) if text == LATEST else ()
    for run in itertools.islice(list_runs(kubeflow, **asked), MOST_RUNS):
        is_it = run.display_name == text or (is_id(text) and str(run.run_id).startswith(text))
        if is_ours(run, own) if text == LATEST else is_it:
            return kubeflow.client.get_run(run.run_id)
    if text == LATEST:
        names = ", ".join(our_names())
        raise NotFoundError(f"there is no run of {names}; `python -m pipelines status --all` lists those of others")
    raise NotFoundError(f"there is no run {text!r}; `python -m pipelines status` lists them")


def is_id(text: str) -> bool:
    """Whether this is an id, or enough of one, and not a name."""
    return bool(_START_OF_ID.fullmatch(text))


def list_runs(kubeflow: Kubeflow, **asked: Any) -> Iterator[Any]:
    """Runs of everybody, the newest first."""
    client = kubeflow.client
    return pages(client.list_runs, "runs", sort_by="created_at desc", **asked)


def our_pipelines(kubeflow: Kubeflow) -> Collection[str]:
    """Ids of the pipelines of this project, and of their channels."""
    names, found = our_names(), set()
    for name in names:
        asked: dict[str, Any] = {
            "filter": matching("name", name, "IS_SUBSTRING"),
            "namespace": kubeflow.namespace or None,
        }
        there = pages(kubeflow.client.list_pipelines, "pipelines", **asked)
        found |= {str(one.pipeline_id) for one in there if split_channel(str(one.name), names)[0] == name}
    return found


def is_ours(run: Any, pipelines: Collection[str]) -> bool:
    """Whether a run is of a pipeline of this project: one of these, or a package that bears such a name."""
    reference = run.pipeline_version_reference
    if reference is not None and reference.pipeline_id:
        return reference.pipeline_id in pipelines
    spec = run.pipeline_spec or {}
    return spec.get("pipeline_spec", spec).get("pipelineInfo", {}).get("name") in our_names()


def state_of(run: Any) -> str:
    """A word for where it is. Kubeflow says nothing at first, and of a run that was cancelled that it failed."""
    state = str(run.state or "PENDING")
    return "CANCELED" if state == "FAILED" and cancelled_at(run) is not None else state


def cancelled_at(run: Any) -> Any | None:
    """When somebody ended it, if somebody did."""
    told = [status for status in run.state_history or [] if status.state == "CANCELING"]
    return told[0].update_time if told else None


def is_launched(run: Any) -> bool:
    """Whether tasks of it start jobs and wait for them."""
    return bool(parameters_of(run).get("plan_launch"))


def parameters_of(run: Any) -> dict[str, Any]:
    """The inputs it was given."""
    return dict((run.runtime_config and run.runtime_config.parameters) or {})


def store_of(run: Any) -> Store | None:
    """The store that it works on, None if it names none. Raises `NotFoundError` for a folder of another machine."""
    uri = str(parameters_of(run).get("store") or "")
    if not uri:
        return None
    store = open_store(uri)
    if not in_bucket(store.uri) and not Path(store.uri).is_dir():
        raise NotFoundError(f"there is no folder {store.uri} on this machine")
    return store


def seconds_of(run: Any) -> int | None:
    """How long it took, None until it has ended."""
    if not run.finished_at or run.finished_at.year <= 1970 or not run.created_at:  # 1970 is what has not ended
        return None
    return round((run.finished_at - run.created_at).total_seconds())
