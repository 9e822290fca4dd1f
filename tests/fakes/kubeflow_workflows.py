"""The Argo workflows behind runs: their nodes, what v1beta1 and v2beta1 tell of them, and the logs of their pods.

All as Kubeflow Pipelines 2.17 was recorded to answer (`tests/recordings/kubeflow`): v2beta1 has every node, by its last
name alone, without parents, pods and errors; v1beta1 has the workflow; v1alpha1 the logs, of pods that are there by the
name of the pod, of others by that of the node.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fakes.kubeflow_lists import Row

PHASES = {
    "PENDING": "Pending",
    "RUNNING": "Running",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "SKIPPED": "Skipped",
    "OMITTED": "Omitted",
}
STATES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED"}
OVER = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
DEADLINE = "Step exceeded its deadline"
ITEM = "condition-2(0).for-loop-3(0).iteration-iterations({0}:{0})(0).iteration-item(0)"
TEMPLATES = {"pod": "system-container-impl", "task": "system-container-executor", "driver": "system-container-driver"}


def spoken(lines: Sequence[str], status: int = 0) -> list[str]:
    """What a task said, with what Kubeflow's executor and launcher say around it."""
    before = [
        "I1128 02:32:20.100000      15 launcher_v2.go:150] input ComponentSpec:{",
        '  "executorLabel": "exec-train"',
        "}",
        "[KFP Executor 2026-11-28 02:32:24,861 INFO]: Got executor_input:",
        "{",
        '    "inputs": {',
        '        "parameterValues": {}',
        "    }",
        "}",
        "[KFP Executor 2026-11-28 02:32:24,861 INFO]: tracker configurations: {}",
    ]
    launcher = "1128 02:32:35.644212      15"
    failed = [f"E{launcher} launcher_v2.go:449] Component failed to execute successfully: exit status {status}"]
    after = [
        "I1128 02:33:10.949671      15 launcher_v2.go:1230] ExecutorOutput: {",
        '  "parameterValues": {}',
        "}",
        "I1128 02:32:35.795925      15 launcher_v2.go:206] publish success.",
    ]
    end = [f"F{launcher} main.go:59] failed to execute component: exit status {status}"]
    return [*before, *lines, *(failed if status else []), *after, *(end if status else [])]


@dataclass
class Workflow:
    """One run's: nodes by their ids, what their pods said, and whether pods and workflow are gone by now."""

    name: str
    nodes: dict[str, Row] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    details: list[Row] = field(default_factory=list)  # as they were recorded, else they follow from the nodes
    is_large: bool = False

    def node(self, path: str, kind: str, template: str, phase: str, now: str, **more: object) -> Row:
        """A node at a path below the root, made or brought up to date."""
        name = f"{self.name}(0).root(0).{path}"
        found = next((node for node in self.nodes.values() if node["name"] == name), None)
        if found is None:
            identity = f"{self.name}-{1000 + len(self.nodes)}"
            own = {"id": identity, "name": name, "displayName": path.rpartition(".")[2], "startedAt": now}
            found = self.nodes[identity] = {**own, "type": kind, "templateName": template, "finishedAt": None}
        found |= {"phase": phase, **{key: value for key, value in more.items() if value}}
        if phase in OVER:
            found["finishedAt"] = now
        return found

    def pod_of(self, node: Row) -> str:
        """The name of its pod."""
        return f"{self.name}-{node['templateName']}-{node['id'].rpartition('-')[2]}"

    def end(self, now: str) -> None:
        """Terminated: what ran is killed, and nothing more begins, the exit task neither."""
        for node in self.nodes.values():
            if node["phase"] not in OVER:
                killed = {"message": DEADLINE, "outputs": {"exitCode": "143"}} if node["type"] == "Pod" else {}
                node |= {"phase": "Failed", "finishedAt": now, **killed}

    def manifest(self) -> Row:
        """As v1beta1 has it: packed where it is large."""
        packed = base64.b64encode(gzip.compress(json.dumps(self.nodes).encode())).decode()
        status = {"compressedNodes": packed} if self.is_large else {"nodes": self.nodes}
        return {"metadata": {"name": self.name}, "status": status}

    def tasks(self, run_id: str) -> list[Row]:
        """As v2beta1 has them; none at all where it is large."""
        if self.details:
            return [{"run_id": run_id, **row} for row in self.details]
        return [] if self.is_large else [_detail(run_id, node) for node in self.nodes.values()]

    def log_of(self, name: str) -> list[str] | None:
        """By the name of the pod while that is there, by that of the node when it was archived."""
        for identity, node in self.nodes.items():
            called = identity if node["phase"] in OVER else self.pod_of(node)
            if called == name:
                return self.logs.get(identity)
        return None


class Workflows:
    """Those of all runs, as a part of the fake of Kubeflow."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.serves_v1 = True
        self.no_log_code = 500  # what answers that there is no log; it has been 200, too

    def now(self) -> str:
        """What time it is."""
        raise NotImplementedError

    def workflow(self, run_id: str) -> Workflow:
        """That of a run."""
        return self.workflows.setdefault(run_id, Workflow(f"hqclip-refine-{run_id[:5]}"))

    def task(  # noqa: PLR0913 - all that a node may be
        self,
        run_id: str,
        name: str,
        state: str,
        *,
        message: str = "",
        item: int | None = None,
        trial: str = "",
        attempt: int = 0,
        status: int = 0,
        lines: Sequence[str] = (),
        goes_on: bool = False,
    ) -> str:
        """A task of a pipeline is in this state now, for an item of a loop if one is given; the name of its pod.

        `status` is what it ended with, `lines` what it said; after a pod that is lost Kubeflow `goes_on`.
        """
        workflow, now, phase = self.workflow(run_id), self.now(), PHASES[state]
        path = "exit-handler-1.onExit(0)" if name == "finish" else "exit-handler-1(0)"
        path = f"{path}.{ITEM.format(item)}.{name}" if item is not None else f"{path}.{name}"
        if state in ("OMITTED", "SKIPPED"):
            workflow.node(f"{path}-driver", "Skipped", TEMPLATES["driver"], phase, now)
            workflow.node(path, "Skipped", TEMPLATES["task"], phase, now)
            return ""
        workflow.node(f"{path}-driver", "Retry", TEMPLATES["driver"], "Succeeded", now)
        workflow.node(f"{path}-driver(0)", "Pod", TEMPLATES["driver"], "Succeeded", now)
        whole = "Running" if goes_on else phase
        workflow.node(path, "Retry", TEMPLATES["task"], whole, now)
        workflow.node(f"{path}(0)", "DAG", TEMPLATES["task"], whole, now)
        workflow.node(f"{path}(0).executor", "Retry", TEMPLATES["pod"], whole, now)
        told = {"message": message or ("main: Error (exit code 1)" if state == "FAILED" else "")}
        told |= {"outputs": {"exitCode": "1" if status else "0"}} if phase in OVER and not message else {}
        given = {"inputs": {"parameterValues": {"trial": {"name": trial, "settings": {}}}}}
        patch = {"containers": [{"name": "main", "command": ["launcher", "--executor_input", json.dumps(given)]}]}
        told |= {"inputs": {"parameters": [{"name": "pod-spec-patch", "value": json.dumps(patch)}]}} if trial else {}
        pod = workflow.node(f"{path}(0).executor({attempt})", "Pod", TEMPLATES["pod"], phase, now, **told)
        if lines or status:
            workflow.logs[pod["id"]] = spoken(lines, status)
        return workflow.pod_of(pod)

    def refuse(self, run_id: str, name: str, fault: str, item: int | None = None) -> None:
        """Kubeflow's driver of a task gives up."""
        workflow, now = self.workflow(run_id), self.now()
        path = f"exit-handler-1(0).{f'{ITEM.format(item)}.' if item is not None else ''}{name}"
        told = {"message": "main: Error (exit code 1)", "outputs": {"exitCode": "1"}}
        driver = workflow.node(f"{path}-driver(0)", "Pod", TEMPLATES["driver"], "Failed", now, **told)
        workflow.node(path, "Skipped", TEMPLATES["task"], "Omitted", now)
        workflow.logs[driver["id"]] = [
            "{",
            f"F1128 02:41:05.258988      16 main.go:127] KFP driver: driver.Container({name}) failed: {fault}",
        ]

    def older(self, path: str) -> tuple[str, int] | None:
        """What the older APIs answer, and its number; None for a path that is none of theirs."""
        if not self.serves_v1:
            return None
        if match := re.fullmatch(r"/apis/v1beta1/runs/([\w-]+)", path):
            known = self.workflows.get(match[1])
            text = json.dumps(known.manifest()) if known else ""
            return json.dumps({"run": {"id": match[1]}, "pipeline_runtime": {"workflow_manifest": text}}), 200
        if match := re.fullmatch(r"/apis/v1alpha1/runs/([\w-]+)/nodes/([\w-]+)/log", path):
            known = self.workflows.get(match[1])
            lines = known.log_of(match[2]) if known else None
            if lines is not None:
                return "\n".join(lines) + "\n", 200
            said = (
                f"BadRequestError: Failed to read logs for run {match[1]}: NoSuchKey: The specified key does not exist."
            )
            return json.dumps({"error_message": said, "error_details": said}, separators=(",", ":")), self.no_log_code
        return None

    def replayed(self, recording: Row) -> Workflow:
        """The workflow of a recording."""
        told = recording["workflow"]
        workflow = Workflow(told["name"], details=recording["details"])
        for row in told["nodes"]:
            node = {name: value for name, value in row.items() if name != "exitCode"}
            node |= {"id": told["name"] + row["id"], "name": told["name"] + row["name"]}
            node["displayName"] = node["name"].rpartition(".")[2]
            node |= {"outputs": {"exitCode": row["exitCode"]}} if "exitCode" in row else {}
            workflow.nodes[node["id"]] = node
        workflow.logs = {told["name"] + key: lines for key, lines in recording["logs"].items()}
        self.workflows[recording["run"]["run_id"]] = workflow
        return workflow


def _detail(run_id: str, node: Row) -> Row:
    state = STATES.get(node["phase"])
    return {
        "run_id": run_id,
        "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
        "display_name": node["displayName"],
        "create_time": node["startedAt"],
        "start_time": node["startedAt"],
        "end_time": node["finishedAt"] or "1970-01-01T00:00:00Z",
        **({"state": state} if state else {}),
    }
