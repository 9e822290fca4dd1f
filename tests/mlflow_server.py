"""A real server of MLflow, with a database and artifacts in a folder.

with MlflowServer(folder) as server:
    os.environ["MLFLOW_TRACKING_URI"] = server.url
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

START_S = 180.0


class MlflowServer:
    """The server in processes of its own; `url` is its address."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", str(folder / "artifacts")]
        without = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                words, stdout=log, stderr=log, cwd=folder, env={**os.environ, **without}, start_new_session=True
            )

    def __enter__(self) -> MlflowServer:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urlopen(f"{self.url}/health", timeout=5).close()
                return self
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise AssertionError(f"MLflow did not start: {self._log.read_text()[-3000:]}")

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
