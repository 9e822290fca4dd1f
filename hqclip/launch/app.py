"""A spec and a job in, a TorchX application out, for whoever runs it: one role, one replica for each node.

Only TorchX's stable core is used (AppDef, Role, Resource; Runner and Scheduler elsewhere): its own components and its
Kubernetes scheduler change with every release, and cannot set what a job here needs.
"""

from __future__ import annotations

from collections.abc import Mapping

from torchx.specs import AppDef, Resource, Role

from hqclip.launch.job import Job
from hqclip.launch.spec import LaunchSpec

ROLE = "node"


def app_def(
    spec: LaunchSpec,
    job: Job,
    *,
    entrypoint: str = "python",
    env: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> AppDef:
    """The agents of a job; `env` is set, and `metadata` comes along."""
    role = Role(
        name=ROLE,
        image=spec.image or ".",
        entrypoint=entrypoint,
        args=["-m", "hqclip.agent", job.store.replace("$", "$$"), job.key],  # TorchX fills in ${...}
        env=dict(env or {}),
        num_replicas=job.nodes,
        max_retries=spec.retries,
        resource=Resource(cpu=_cores(spec.cpus), gpu=spec.gpus, memMB=0),
    )
    return AppDef(name=job.name, roles=[role], metadata=dict(metadata or {}))


def _cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
