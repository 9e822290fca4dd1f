"""A compiled pipeline, executed on this machine by Kubeflow's local runner: a subprocess a task."""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import secrets
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from kfp import components, local

from hqclip.cycle.crown import read_record, reason_of
from hqclip.cycle.keys import newest_cycle, record_key
from hqclip.cycle.lock import LOCAL_RUN, local_name
from hqclip.cycle.report import bars_of, comparison
from hqclip.provenance import RUN
from hqclip.report.text import gate_table, text_table
from hqclip.store import open_store
from hqclip.store.leftovers import scratch_folder
from pipelines.client.inputs import definitions, read_inputs, require
from pipelines.console import Console, plain


class Runner:
    """Runs one compiled pipeline, whose `inputs` it knows; task outputs go below `root`."""

    def __init__(self, compiled: Path, root: Path) -> None:
        self._pipeline = components.load_component_from_file(str(compiled))
        self._root = root
        self.inputs = definitions(next(yaml.safe_load_all(compiled.read_text(encoding="utf-8"))))

    def run(self, inputs: dict[str, Any]) -> int:
        """0, or 1 if a task failed; the task has said why. Raises `ConfigError` for inputs that are missing."""
        require(self.inputs, inputs)
        here = str(Path(__file__).parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self._root.mkdir(parents=True, exist_ok=True)
        runner = self.tasks(inputs)
        log, plain_print, logger = self._root / "log.txt", builtins.print, logging.getLogger()
        level, handlers = logger.level, logger.handlers[:]
        with (
            contextlib.closing(Console(sys.stdout, log)) as console,
            contextlib.redirect_stdout(console),
            scratch_folder(self._root) as scratch,  # the runner leaves its scripts there
        ):
            os.environ["TMPDIR"] = str(scratch.resolve())
            # a workspace of its own, which no pipeline here uses, it would leave behind
            local.init(runner, str(self._root), workspace_root=str(scratch.resolve()), raise_on_error=True)
            os.environ[LOCAL_RUN] = local_name()  # its lock on the store ends with this process
            os.environ[RUN] = f"local-{secrets.token_hex(8)}"  # a process may run several, and a number comes again
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of settings that matter in a cluster only
                    self._pipeline(**inputs)
            except RuntimeError as error:  # how the runner says that a task failed
                print(f"pipelines: {plain(str(error))}; all that was said is in {log}", file=sys.stderr)
                return 1
            finally:
                # after a loop the runner leaves it indenting, and its handler, which writes to the console
                builtins.print, logger.handlers[:] = plain_print, handlers
                logger.setLevel(level)
                del os.environ["TMPDIR"], os.environ[LOCAL_RUN], os.environ[RUN]
        return 0

    def tasks(self, inputs: dict[str, Any]) -> local.SubprocessRunner | local.DockerRunner:  # noqa: ARG002 - others ask
        """How the local runner starts a task: as a process of this installation."""
        return local.SubprocessRunner(use_venv=False)

    def parse_inputs(self, assignments: list[str], params: Path | None = None) -> dict[str, Any]:
        """`name=value` and a file as the pipeline's types ask; text stays text. Raises `ConfigError`."""
        return read_inputs(self.inputs, assignments, params)


def show_cycle(store_uri: str, cycle: int) -> None:
    """Print how the models of a cycle compare (0: of the newest) and where its report is."""
    store = open_store(store_uri)
    key = record_key(cycle or newest_cycle(store))
    if not store.exists(key):
        return  # nothing ran, and `plan` has said why
    record = read_record(store, cycle or newest_cycle(store))
    print(f"\ncycle {record.cycle}: {record.verdict}. {reason_of(store, record)}\n")
    if record.gate:
        print(f"{gate_table(bars_of(record))}\n")
    print(text_table(comparison(store, record)))
    print(f"\nreport: {store.uri}/{record.report}")
