"""What the API v2beta1 tells of a run's tasks, where the workflow itself is not to be had: the same nodes, but fewer.

Every node is there under its bare name only: no places, no pods, no messages. Items of loops cannot be told apart.
"""

from __future__ import annotations

import re
from typing import Any

from pipelines.client.workflow import CONTAINER, TASK, Node

_PHASES = {
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "RUNNING": "Running",
    "SKIPPED": "Skipped",
    "CANCELED": "Failed",
}
_GROUP = re.compile(r"root|exit-handler-\d+|condition(-branches)?-\d+|for-loop-\d+|iteration(-item|-iterations.*)?")
_ATTEMPT = re.compile(r"\(\d+\)$")


def nodes_of_details(run: Any) -> list[Node]:
    """A node for each task: what has a driver of its own, and is no group of others."""
    details = [] if run.run_details is None else run.run_details.task_details or []
    names = {_ATTEMPT.sub("", str(detail.display_name or "")) for detail in details}
    tasks = {name for name in names if f"{name}-driver" in names and not _GROUP.fullmatch(name)}
    found: dict[str, int] = {}
    nodes = []
    for detail in sorted(details, key=lambda each: str(each.start_time or each.create_time)):
        name = str(detail.display_name or "")
        if name not in tasks:  # attempts at it and its driver are there as well
            continue
        found[name] = number = found.get(name, -1) + 1
        ended = detail.end_time if detail.end_time and detail.end_time.year > 1970 else None
        node = Node(
            id=str(detail.task_id or ""),
            kind=CONTAINER if detail.state else TASK,  # what was omitted has no state
            is_pod=bool(detail.state),
            place=(f"{name}({number})",),
            items=(),
            phase=_PHASES.get(str(detail.state or ""), "Pending" if detail.state else "Omitted"),
            started=detail.start_time,
            ended=ended,
        )
        nodes.append(node)
    return nodes
