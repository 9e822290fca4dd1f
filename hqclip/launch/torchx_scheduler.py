"""Each of our schedulers for users of TorchX: `torchx run -s hqclip_volcano hqclip.stage ...` finds it by entry point.

An order travels in the metadata of its application, and is submitted as `hqclip launch` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from torchx.schedulers.api import AppDryRunInfo, DescribeAppResponse, ListAppResponse
from torchx.schedulers.api import Scheduler as TorchXScheduler
from torchx.specs import AppDef, AppState, runopts

from hqclip.errors import ConfigError
from hqclip.launch.app import ROLE, app_def
from hqclip.launch.job import Job
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.naming import SELECTOR
from hqclip.launch.pods import pod_lines
from hqclip.launch.registry import load
from hqclip.launch.resolve import Order
from hqclip.launch.schedulers import protocol
from hqclip.launch.spec import LaunchSpec
from hqclip.launch.submit import submit
from hqclip.store import open_store

__all__ = ["AppDef", "KubernetesJobs", "jobset", "read_app", "volcano", "write_app"]

_SPEC, _JOB = "hqclip/spec", "hqclip/job"  # metadata of the AppDef
_STATES = {
    protocol.PENDING: AppState.PENDING,
    protocol.RUNNING: AppState.RUNNING,
    protocol.RESTARTING: AppState.PENDING,
    protocol.SUCCEEDED: AppState.SUCCEEDED,
    protocol.FAILED: AppState.FAILED,
}


def volcano(session_name: str, **_: object) -> KubernetesJobs:
    """What TorchX calls for `hqclip_volcano`; its further arguments are environment variables, and are ignored."""
    return KubernetesJobs("volcano", session_name)


def jobset(session_name: str, **_: object) -> KubernetesJobs:
    """What TorchX calls for `hqclip_jobset`."""
    return KubernetesJobs("jobset", session_name)


def write_app(order: Order) -> AppDef:
    """The application of an order."""
    metadata = {_SPEC: json.dumps(order.spec.to_mapping()), _JOB: order.job.to_json().decode()}
    return app_def(order.spec, order.job, metadata=metadata)


def read_app(app: AppDef) -> Order:
    """The order of an application made here. Raises `ConfigError` for others."""
    if not {_SPEC, _JOB} <= set(app.metadata):
        raise ConfigError(
            f"{app.name} is no application of hqclip: this scheduler runs stages only, as in `torchx run -s "
            "hqclip_volcano hqclip.stage --stage train --spec launch.yaml --settings '{...}'`"
        )
    spec = LaunchSpec.from_mapping(json.loads(app.metadata[_SPEC]))
    return Order(spec, Job.from_json(app.metadata[_JOB].encode(), _JOB))


class KubernetesJobs(TorchXScheduler[Mapping[str, Any]]):
    """Jobs of one scheduler in one namespace."""

    def __init__(self, scheduler: str, session_name: str) -> None:
        super().__init__(f"hqclip_{scheduler}", session_name)
        self._scheduler: protocol.Scheduler = load(scheduler)
        self._connected: Cluster | None = None

    def _run_opts(self) -> runopts:
        options = runopts()
        options.add("namespace", type_=str, default="", help="Kubernetes namespace; empty is the own one")
        return options

    def _cluster(self, namespace: str = "") -> Cluster:
        if self._connected is None:
            self._connected = connect(namespace)
        return self._connected

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[Any, Any]:  # noqa: ARG002
        """Render the object; nothing is asked of the cluster."""
        order = read_app(app)
        if order.spec.scheduler != self._scheduler.name:
            raise ConfigError(f"{app.name} is for the scheduler {order.spec.scheduler}, not for {self._scheduler.name}")
        return AppDryRunInfo(order, lambda order: json.dumps(order.body, indent=1))

    def schedule(self, dryrun_info: AppDryRunInfo[Any, Any]) -> str:
        """Create the job or adopt the one there is; its name."""
        order: Order = dryrun_info.request
        submit(self._cluster(order.spec.namespace), order, open_store(order.job.store))
        return order.job.name

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """State, restarts and the controller's reason; None if there is no such job."""
        cluster = self._cluster()
        body = cluster.get(*self._scheduler.kind, app_id)
        if body is None:
            return None
        state = self._scheduler.state(cluster, body)
        return DescribeAppResponse(
            app_id=app_id, state=_STATES[state.phase], num_restarts=state.restarts, msg=state.reason
        )

    def list(self, cfg: Mapping[str, Any] | None = None) -> list[ListAppResponse]:  # noqa: ARG002
        """The jobs of hqclip in the namespace."""
        cluster = self._cluster()
        found = cluster.list(*self._scheduler.kind, labelSelector=SELECTOR)
        return [
            ListAppResponse(app_id=body["metadata"]["name"], state=_STATES[self._scheduler.state(cluster, body).phase])
            for body in found
        ]

    def log_iter(self, app_id: str, role_name: str = ROLE, k: int = 0, *_: Any, **__: Any) -> Iterable[str]:  # noqa: ARG002
        """What the newest pod of node `k` has said so far."""
        return pod_lines(self._cluster(), self._scheduler, app_id, k)

    def _cancel_existing(self, app_id: str) -> None:
        """Delete the job and its pods: what was finished is in the store."""
        self._cluster().delete(*self._scheduler.kind, app_id)
