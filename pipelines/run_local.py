"""`python -m pipelines run PIPELINE --local | --docker`: executed on this machine by Kubeflow's own local runner."""

from __future__ import annotations

import argparse

from hqclip.store.leftovers import scratch_folder
from pipelines.client.inputs import require
from pipelines.client.project_inputs import with_project
from pipelines.client.settings import check_settings
from pipelines.client.versions import read_package
from pipelines.compiling import PIPELINES
from pipelines.demo import SIZES, demo_inputs
from pipelines.local import Runner, show_cycle


def run_local(given: argparse.Namespace) -> int:
    """Run the pipeline, a demo as often as it has cycles; the exit code."""
    with scratch_folder() as folder:
        compiled = folder / "pipeline.yaml"
        compiled.write_bytes(read_package(given.pipeline, given.launched).text)
        runner = _runner(given.docker)(compiled, given.out / "tasks")
        said = runner.parse_inputs(given.set, given.params)
        chosen = with_project(given.pipeline, runner.inputs, said)
        preset = chosen.get("plan_preset", given.preset)
        if preset in SIZES:
            chosen = with_project(given.pipeline, runner.inputs, said, demo=True)
        for cycle in range(1, given.cycles + 1):
            prepared = demo_inputs(preset, given.out, cycle, chosen) if preset in SIZES else {}
            known = {name: value for name, value in prepared.items() if name in runner.inputs}
            if given.pipeline != "refine":
                known.pop("plan_cycle", None)  # a cycle of its own
            inputs = {**known, "plan_preset": preset, **chosen}
            require(runner.inputs, inputs)
            if given.pipeline in PIPELINES:
                check_settings(given.pipeline, inputs)
            code = runner.run(inputs)
            if code:
                return code
            if given.pipeline == "refine":
                show_cycle(inputs["store"], inputs.get("plan_cycle", 0))
    return 0


def _runner(docker: bool) -> type[Runner]:
    if not docker:
        return Runner
    from pipelines.docker import ContainerRunner  # wants a package that nothing else here does

    return ContainerRunner
