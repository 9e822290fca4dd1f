"""Tasks of compiled pipelines as Kubeflow starts them: the words of their containers, and where their outputs go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from hqclip.errors import AccessError


def executor_input(
    component: Mapping[str, Any], folder: Path, parameters: Mapping[str, Any], artifacts: Mapping[str, Path]
) -> str:
    """What a task is given and where its outputs go: files below `folder`, which its container must see."""
    outputs = component.get("outputDefinitions", {})
    kinds = component.get("inputDefinitions", {}).get("artifacts", {})
    return json.dumps(
        {
            "inputs": {
                "parameterValues": dict(parameters),
                "artifacts": {name: _artifact(name, kinds[name], path) for name, path in artifacts.items()},
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(folder / name)} for name in outputs.get("parameters", {})},
                "artifacts": {
                    name: _artifact(name, told, folder / name) for name, told in outputs.get("artifacts", {}).items()
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }
    )


def _artifact(name: str, told: Mapping[str, Any], path: Path) -> dict[str, Any]:
    return {"artifacts": [{"name": name, "type": told["artifactType"], "uri": str(path), "metadata": {}}]}


def arguments(container: Mapping[str, Any], given: str) -> list[str]:
    """The whole command of a container, with its input filled in."""
    return [given if word == "{{$}}" else word for word in (*container["command"], *container["args"])]


def was_refused(code: int, said: str) -> bool:
    """Whether a cluster refused a launch; that of a trial ends well and says what it would have ended with."""
    return code == AccessError.exit_code or (code == 0 and f"(exit code {AccessError.exit_code})" in said)


class Forbidden(BaseHTTPRequestHandler):
    """A Kubernetes API that lets nobody in."""

    def do_GET(self) -> None:
        message = 'pods is forbidden: User "nobody" cannot get resource "pods" in API group "" in the namespace "n"'
        body = json.dumps({"kind": "Status", "reason": "Forbidden", "message": message, "code": 403}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what matters is what the tasks say."""
