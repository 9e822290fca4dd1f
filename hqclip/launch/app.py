"""A spec and a job in, a TorchX application out: the only file that knows TorchX's types.

Only its stable core is used (AppDef, Role, Resource, and the Runner and Scheduler elsewhere): TorchX's own components
and Kubernetes scheduler change with every release, and cannot set what a job here needs.
"""

from __future__ import annotations

import json
import os
import sys

from torchx.specs import AppDef, AppState, Resource, Role, runopts

from hqclip.errors import ConfigError
from hqclip.launch import state
from hqclip.launch.job import Job
from hqclip.launch.spec import LaunchSpec

__all__ = ["ROLE", "STATES", "AppDef", "app_def", "read_app", "runopts"]

ROLE = "node"
_SPEC, _JOB = "hqclip/spec", "hqclip/job"  # metadata of the AppDef
STATES = {
    state.PENDING: AppState.PENDING,
    state.RUNNING: AppState.RUNNING,
    state.RESTARTING: AppState.PENDING,
    state.SUCCEEDED: AppState.SUCCEEDED,
    state.FAILED: AppState.FAILED,
}


def app_def(spec: LaunchSpec, job: Job, rendezvous: str = "", attempt: int = 0) -> AppDef:
    """One role, one replica for each node. Spec and job travel in the metadata, for our schedulers to render."""
    local = {
        "HQCLIP_NODE": "${replica_id}",
        "HQCLIP_RENDEZVOUS": rendezvous,
        "HQCLIP_ATTEMPT": str(attempt),
        "HQCLIP_PARENT": str(os.getpid()),  # a local agent ends when its launcher is gone
        **{name: value.replace("$", "$$") for name, value in (item.split("=", 1) for item in spec.env)},
    }
    role = Role(
        name=ROLE,
        image=spec.image or ".",
        entrypoint=sys.executable if spec.scheduler == "local" else "python",
        args=["-m", "hqclip.agent", job.store.replace("$", "$$"), job.key],  # TorchX fills in ${...}
        env=local if spec.scheduler == "local" else {},
        num_replicas=job.nodes,
        max_retries=spec.retries,
        resource=Resource(cpu=_cores(spec.cpus), gpu=spec.gpus, memMB=0),
    )
    metadata = {_SPEC: json.dumps(spec.to_mapping()), _JOB: job.to_json().decode()}
    return AppDef(name=job.name, roles=[role], metadata=metadata)


def read_app(app: AppDef) -> tuple[LaunchSpec, Job]:
    """The spec and the job of an application made here. Raises `ConfigError` for others."""
    if not {_SPEC, _JOB} <= set(app.metadata):
        raise ConfigError(
            f"{app.name} is no application of hqclip: this scheduler runs stages only, as in `torchx run -s "
            "hqclip_volcano hqclip.stage --stage train --spec launch.yaml --settings '{...}'`"
        )
    return LaunchSpec.from_mapping(json.loads(app.metadata[_SPEC])), Job.from_json(app.metadata[_JOB].encode(), _JOB)


def _cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
