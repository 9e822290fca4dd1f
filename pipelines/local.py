"""A compiled pipeline, executed on this machine by Kubeflow's local runner: a subprocess a task."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from kfp import components, local

from hqclip.config import did_you_mean
from hqclip.cycle.plan import newest_cycle, record_key
from hqclip.cycle.story import comparison
from hqclip.errors import ConfigError
from hqclip.records import CycleRecord
from hqclip.report.text import text_table
from hqclip.store import open_store
from pipelines.console import Console, plain


class Runner:
    """Runs one compiled pipeline, whose `inputs` it knows; task outputs go below `root`."""

    def __init__(self, compiled: Path, root: Path) -> None:
        self._pipeline = components.load_component_from_file(str(compiled))
        self._root = root
        self.inputs = self._pipeline.component_spec.inputs

    def run(self, inputs: dict[str, Any]) -> int:
        """0, or 1 if a task failed; the task has said why. Raises `ConfigError` for inputs that are missing."""
        missing = [name for name, spec in self.inputs.items() if spec.default is None and name not in inputs]
        if missing:
            raise ConfigError(f"pipeline inputs are missing: give {' '.join(f'--set {name}=...' for name in missing)}")
        here = str(Path(__file__).parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self._root.mkdir(parents=True, exist_ok=True)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(self._root), raise_on_error=True)
        log, plain_print = self._root / "log.txt", builtins.print
        with (
            contextlib.closing(Console(sys.stdout, log)) as console,
            contextlib.redirect_stdout(console),
            tempfile.TemporaryDirectory(dir=self._root) as scratch,  # the runner leaves its scripts there
        ):
            os.environ["TMPDIR"] = str(Path(scratch).resolve())
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of settings that matter in a cluster only
                    self._pipeline(**inputs)
            except RuntimeError as error:  # how the runner says that a task failed
                print(f"pipelines: {plain(str(error))}; all that was said is in {log}", file=sys.stderr)
                return 1
            finally:
                builtins.print = plain_print  # the runner leaves it indenting after a loop
                del os.environ["TMPDIR"]
        return 0

    def parse_inputs(self, assignments: list[str]) -> dict[str, Any]:
        """`name=value` as the pipeline's types ask; text stays text, so 1.10 is not 1.1. Raises `ConfigError`."""
        inputs: dict[str, Any] = {}
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise ConfigError(f"--set {assignment}: give INPUT=VALUE")
            if name not in self.inputs:
                known = ", ".join(sorted(self.inputs))
                raise ConfigError(f"unknown pipeline input {name!r}{did_you_mean(name, self.inputs)}; one of {known}")
            inputs[name] = value if self.inputs[name].type == "String" else _number(name, value)
        return inputs


def _number(name: str, value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ConfigError(f"pipeline input {name} is {value!r}; give a number") from None


def show_cycle(store_uri: str, cycle: int) -> None:
    """Print how the models of a cycle compare (0: of the newest) and where its report is."""
    store = open_store(store_uri)
    key = record_key(cycle or newest_cycle(store))
    record = CycleRecord.from_json(store.read(key), key)
    print(f"\ncycle {record.cycle}: {record.verdict}. {record.reason}\n")
    print(text_table(comparison(store, record)))
    print(f"\nreport: {store.uri}/{record.report}")
