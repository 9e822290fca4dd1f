"""TorchX schedulers for Volcano and JobSet on its public base class: an application in, a plain object out.

`torchx run -s hqclip_volcano ...` finds them by entry point; `hqclip launch` uses them through the same Runner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from torchx.schedulers.api import AppDryRunInfo, DescribeAppResponse, ListAppResponse, Scheduler

from hqclip.errors import ConfigError, DataError
from hqclip.launch.adopt import create_or_adopt
from hqclip.launch.app import ROLE, STATES, AppDef, read_app, runopts
from hqclip.launch.attempts import read_attempts, root_cause
from hqclip.launch.backend import BACKENDS, Backend
from hqclip.launch.follow import pod_lines
from hqclip.launch.job import publish
from hqclip.launch.kube import Cluster, connect, own_pod, owner
from hqclip.launch.naming import KEY, LAUNCH_ID, SELECTOR, clean
from hqclip.launch.patches import Json
from hqclip.launch.resolve import Order, render
from hqclip.store import Store, open_store

SESSION = "hqclip"


class KubernetesJobs(Scheduler[Mapping[str, Any]]):
    """Jobs of one kind in one namespace. TorchX calls what it needs; the rest of hqclip asks the cluster itself."""

    def __init__(self, backend: Backend, session_name: str, cluster: Cluster | None = None) -> None:
        super().__init__(f"hqclip_{backend.name}", session_name)
        self._kind, self._connected = backend, cluster

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
        spec, job = read_app(app)
        if spec.scheduler != self._kind.name:
            raise ConfigError(f"{app.name} is for the scheduler {spec.scheduler}, not for {self._kind.name}")
        return AppDryRunInfo(render(Order(spec, job)), lambda body: json.dumps(body, indent=1))

    def schedule(self, dryrun_info: AppDryRunInfo[Any, Any]) -> str:
        """Create the job or adopt the one there is; its name. What has failed for good is adopted as it is.

        The object is rendered again with the number under which the job is published and with its owner.
        """
        spec, job = read_app(dryrun_info.app)
        cluster, store = self._cluster(spec.namespace), open_store(job.store)

        def make() -> Json:
            body = render(Order(spec, publish(store, job)))
            pod = own_pod(cluster)
            workflow = owner(cluster, pod) if pod else None
            if workflow:
                body["metadata"]["ownerReferences"] = [workflow]
            return body

        def replace(there: Json) -> bool:
            ours = there["metadata"].get("labels", {}).get(LAUNCH_ID, "") == clean(spec.launch_id)
            return spec.again or not ours or not _failed_for_good(store, there)

        create_or_adopt(cluster, self._kind, job.name, job.digest, make=make, replace=replace)
        return job.name

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """State, restarts and the controller's reason; None if there is no such job."""
        cluster = self._cluster()
        body = self._kind.get(cluster, app_id)
        if body is None:
            return None
        state = self._kind.read(cluster, body)
        return DescribeAppResponse(
            app_id=app_id, state=STATES[state.phase], num_restarts=state.restarts, msg=state.reason
        )

    def list(self, cfg: Mapping[str, Any] | None = None) -> list[ListAppResponse]:  # noqa: ARG002
        """The jobs of hqclip in the namespace."""
        cluster = self._cluster()
        found = cluster.list(self._kind.api, self._kind.plural, labelSelector=SELECTOR)
        return [
            ListAppResponse(app_id=body["metadata"]["name"], state=STATES[self._kind.read(cluster, body).phase])
            for body in found
        ]

    def log_iter(self, app_id: str, role_name: str = ROLE, k: int = 0, **_: Any) -> Iterable[str]:  # noqa: ARG002
        """What the newest pod of node `k` has said so far."""
        return pod_lines(self._cluster(), self._kind, app_id, k)

    def _cancel_existing(self, app_id: str) -> None:
        """Delete the job and its pods: what was finished is in the store."""
        self._cluster().delete(self._kind.api, self._kind.plural, app_id)


def _failed_for_good(store: Store, there: Json) -> bool:
    """Whether trying again would change nothing: then it is not tried, and the fault is said again at once."""
    key = there["metadata"].get("annotations", {}).get(KEY, "")
    try:
        cause = root_cause(read_attempts(store, key)) if key else None
    except DataError:
        return False  # nobody can read why any more
    return bool(cause and cause.exit_status and cause.exit_status.is_permanent)


def volcano(session_name: str, cluster: Cluster | None = None, **_: object) -> KubernetesJobs:
    """What TorchX calls for `hqclip_volcano`; its further arguments are environment variables, and are ignored."""
    return KubernetesJobs(BACKENDS["volcano"], session_name, cluster)


def jobset(session_name: str, cluster: Cluster | None = None, **_: object) -> KubernetesJobs:
    """What TorchX calls for `hqclip_jobset`."""
    return KubernetesJobs(BACKENDS["jobset"], session_name, cluster)
