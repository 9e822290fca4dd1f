"""The log of a pod of a run in; the lines of ours in it out, and what Kubeflow says in it about how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hqclip.errors import NotFoundError, UnavailableError
from pipelines.client.connect import Kubeflow

_GO = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w./-]+\.go:\d+\] ?")  # Kubeflow's launcher and driver
_FOREIGN = re.compile(rf"{_GO.pattern}|^\[KFP Executor [^\]]*\]: ?|^time=\S+ level=\w+ msg=")
_BEGIN = re.compile(r"Got executor_input:?\s*$|\{\s*$")  # ends of foreign lines that a block of JSON follows
_STATUS = re.compile(r"failed to execute (?:component|successfully): exit status (\d+)")
_NOT_THERE, _NO_LOG = b'{"error_message"', "Failed to read logs"  # how a log that is not there is told: by 200 or 500


def read_log(kubeflow: Kubeflow, run_id: str, pod: str, node: str) -> list[str]:
    """All lines of a pod that is there, or of what was archived of it.

    Raises `NotFoundError` if neither is there, and what requests raise if such logs are not to be had at all.
    """
    for name in dict.fromkeys(filter(None, (pod, node))):  # pods are asked for by their name, archives by the node
        try:
            data = kubeflow.read(f"/apis/v1alpha1/runs/{run_id}/nodes/{name}/log", patience_s=0)
        except UnavailableError as error:
            if _NO_LOG not in str(error):
                raise
            continue
        if not data.startswith(_NOT_THERE):
            return data.decode(errors="replace").splitlines()
    raise NotFoundError(
        f"Kubeflow has no log of pod {pod or node}: neither the pod is left nor an archive of what it said"
    )


def our_lines(lines: Sequence[str]) -> list[str]:
    """What the task itself said: without the lines of Kubeflow around it, and the JSON that these print."""
    kept: list[str] = []
    in_theirs, in_ours = lines[:1] == ["{"], False  # a log that is cut may begin with a block of theirs
    for raw in lines:
        line = raw.rstrip()
        if _FOREIGN.search(line):
            in_theirs, in_ours = bool(_BEGIN.search(line)), False
        elif in_theirs:
            in_theirs = line != "}"
        elif line == "}" and not in_ours:
            kept.clear()  # the end of a block that began before the first line there is
        else:
            in_ours = line == "{" or (in_ours and line != "}")
            kept.append(line)
    return [line for line in kept if line]


def exit_status(lines: Iterable[str]) -> int | None:
    """What the task ended with: the pod itself always says 1."""
    told = [int(match[1]) for line in lines if (match := _STATUS.search(line))]
    return told[-1] if told else None


def driver_fault(lines: Sequence[str]) -> str:
    """Why a driver gave up: its last words, without what it was called with."""
    said = [_GO.sub("", line) for line in lines if _GO.search(line) and line[0] in "EF"]
    if not said:
        return ""
    return said[-1].rpartition(") failed: ")[2].strip()
