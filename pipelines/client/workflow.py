"""The Argo workflow behind a run, as Kubeflow keeps it, in; its nodes, by the task of a pipeline each is about, out.

It is there after pods and workflow are gone. A node's name is its place in the tree, with the attempt at every level in
brackets: `wf(0).root(0).exit-handler-1(0).for-loop-2(0).iteration-iterations(1:1)(0).iteration-item(0).train(0)
.executor(0)` is the first attempt at `train` for item 1 of a loop. Templates say what a node is.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hqclip.errors import UnavailableError
from pipelines.client.connect import Kubeflow

# what a node may be: the container of a task, the task itself, Kubeflow's own pod before either, one before a group
CONTAINER, TASK, DRIVER, GROUP_DRIVER = "container", "task", "driver", "group driver"
_KINDS = {
    "system-container-impl": CONTAINER,
    "system-container-executor": TASK,
    "system-container-driver": DRIVER,
    "system-dag-driver": GROUP_DRIVER,
}
_BRACKETS = re.compile(r"\((\d+)(?::[^)]*)?\)$")
_ITEM = re.compile(r"\((\d+):[^)]*\)")
EXIT = "onExit"  # the part of a path that what runs at the very end has


@dataclass(frozen=True)
class Node:
    """One node: of the task called `task` at `place`, which is the same for all attempts.

    `items` has the numbers of the loops' items that it belongs to, the outermost first, and `trial` what the item is
    called if the node says so. `phase` is Argo's: Pending, Running, Succeeded, Failed, Error, Skipped, Omitted.
    """

    id: str
    kind: str
    is_pod: bool
    place: tuple[str, ...]
    items: tuple[int, ...]
    phase: str
    message: str = ""
    exit_code: int | None = None
    started: datetime | None = None
    ended: datetime | None = None
    pod: str = ""
    machine: str = ""
    trial: str = ""

    @property
    def task(self) -> str:
        """What the task is called in the pipeline."""
        return self.place[-1].partition("(")[0]

    @property
    def is_last(self) -> bool:
        """Whether it belongs to what runs at the very end."""
        return EXIT in self.place


def read_nodes(kubeflow: Kubeflow, run_id: str) -> list[Node]:
    """The nodes that are about tasks, the earliest first. Raises `UnavailableError` if there is no workflow to see."""
    try:
        told = json.loads(kubeflow.read(f"/apis/v1beta1/runs/{run_id}"))
        manifest = json.loads((told.get("pipeline_runtime") or {}).get("workflow_manifest") or "{}")
        status = manifest.get("status") or {}
        nodes = status.get("nodes") or _unpacked(status.get("compressedNodes", ""))
        return parse_nodes(manifest.get("metadata", {}).get("name", ""), nodes.values())
    except (ValueError, AttributeError, TypeError, KeyError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise UnavailableError(f"the workflow of run {run_id} cannot be read: {error!r}") from error


def parse_nodes(workflow: str, nodes: Iterable[Mapping[str, Any]]) -> list[Node]:
    """As `read_nodes`, out of the nodes of a workflow of this name."""
    found = [node for body in nodes if (node := _node(workflow, body)) is not None]
    return sorted(found, key=lambda node: (node.started is None, node.started and node.started.timestamp(), node.id))


def _unpacked(text: str) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(base64.b64decode(text)))) if text else {}


def _node(workflow: str, body: Mapping[str, Any]) -> Node | None:
    template = str(body.get("templateName") or "")
    kind = next((kind for ending, kind in _KINDS.items() if template.endswith(ending)), "")
    if not kind:
        return None
    parts = str(body["name"]).removeprefix(workflow).split(".")
    place = tuple(_without_attempts(part) for part in parts[1:])
    own = place[:-1] if kind == CONTAINER else (*place[:-1], place[-1].removesuffix("-driver"))
    if not own:
        return None
    outputs = body.get("outputs") or {}
    code = outputs.get("exitCode")
    identity = str(body["id"])
    return Node(
        id=identity,
        kind=kind,
        is_pod=body.get("type") == "Pod",
        place=own,
        items=tuple(int(match[1]) for part in parts for match in [_ITEM.search(part)] if match),
        phase=str(body.get("phase") or "Pending"),
        message=" ".join(str(body.get("message") or "").split()),
        exit_code=int(code) if code not in (None, "") else None,
        started=_time(body.get("startedAt")),
        ended=_time(body.get("finishedAt")),
        pod=f"{workflow}-{template}-{identity.rpartition('-')[2]}" if body.get("type") == "Pod" else "",
        machine=str(body.get("hostNodeName") or ""),
        trial=_trial(body),
    )


def _without_attempts(part: str) -> str:
    """`iteration-iterations(1:1)(0)` as `iteration-iterations(1)`: items are told apart, attempts are not."""
    item = _ITEM.search(part)
    while _BRACKETS.search(part):
        part = _BRACKETS.sub("", part)
    return f"{part}({item[1]})" if item else part


def _trial(body: Mapping[str, Any]) -> str:
    """What the item of the loop is called: it is among the inputs that the launcher is started with."""
    for parameter in (body.get("inputs") or {}).get("parameters") or []:
        if parameter.get("name") != "pod-spec-patch":
            continue
        try:
            words = [
                word
                for container in json.loads(parameter.get("value") or "{}").get("containers") or []
                for word in [*(container.get("command") or []), *(container.get("args") or [])]
            ]
            given = json.loads(words[words.index("--executor_input") + 1])["inputs"]["parameterValues"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return ""
        trial = given.get("trial")
        return str(trial.get("name", "")) if isinstance(trial, dict) else str(trial or "")
    return ""


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
