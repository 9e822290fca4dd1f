"""The machines of a run, held against its pipeline: a stage is launched if it was compiled for that, and not otherwise.

A task that was compiled to launch only waits, in an image without the stage's packages; one that was not has an image
that cannot start jobs. `plan` refuses both, minutes after the run has begun; here it is said at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip.errors import AccessError, ConfigError, MissingSoftwareError, StorageError, UnavailableError
from hqclip.launch.machines import Machines, read_machines
from hqclip.launch.platform import read_workers
from hqclip.launch.resolve import misplaced
from pipelines.client.inputs import definitions
from pipelines.client.output import say
from pipelines.lint.compiled import Compiled, constant

INPUT = "plan_launch"


def check_launch(spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` if the machines of a run are none, or do not fit the stages that its pipeline launches.

    A file that cannot be read from here, but perhaps from there, is told.
    """
    told = definitions(spec).get(INPUT)
    launched = launched_stages(spec)
    if told is None or launched is None:  # not one of our pipelines
        return
    uri = str(inputs.get(INPUT, told.get("defaultValue", "")) or "")
    if not uri and launched:
        raise ConfigError(
            f"this pipeline was compiled with --launched {','.join(launched)}, so these stages have no GPU of their "
            f"own: give {INPUT}, a file with a section for each, or take a version that was compiled without"
        )
    machines = _read(uri) if uri else None
    if machines:
        machines = machines.over(read_workers(_argument(spec, "workers") or ""))
    problems = [*misplaced(machines, launched, on_a_cluster=True), *machines.specs()[1]] if machines else []
    if problems:
        raise ConfigError("\n".join(problems))


def launched_stages(spec: Mapping[str, Any]) -> list[str] | None:
    """The stages that a compiled pipeline launches, None if it does not say."""
    told = _argument(spec, "launched")
    return None if told is None else [stage for stage in told.split(",") if stage]


def _argument(spec: Mapping[str, Any], name: str) -> str | None:
    """What the first task of a compiled pipeline is given by this name, None if it takes none."""
    for task in Compiled(spec.get("pipeline_spec", spec)).tasks:
        if name in task.parameters:
            return str(constant(task.parameters[name]) or "")
    return None


def _read(uri: str) -> Machines | None:
    if "://" not in uri and not uri.startswith("/"):
        raise ConfigError(f"{INPUT}={uri} is a file of this machine, which pods do not see: put it into a bucket")
    try:
        return read_machines(uri)
    except (AccessError, UnavailableError, MissingSoftwareError, StorageError) as error:
        say(f"warning: {INPUT} is not checked, the run's first task will: {error}")
    except ConfigError as error:
        if "://" in uri:
            raise
        say(f"warning: {INPUT} is not checked, {uri} may be a folder of the pods only: {error}")
    return None
