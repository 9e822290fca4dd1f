"""What a Volcano Job or a JobSet says about itself, as one `State`."""

from __future__ import annotations

from dataclasses import dataclass

from hqclip.launch.patches import Json

PENDING, RUNNING, RESTARTING, SUCCEEDED, FAILED = "pending", "running", "restarting", "succeeded", "failed"
ENDED = (SUCCEEDED, FAILED)

_VOLCANO = {
    "Pending": PENDING,
    "Inqueue": PENDING,
    "Running": RUNNING,
    "Restarting": RESTARTING,
    "Completing": RUNNING,
    "Completed": SUCCEEDED,
    "Terminating": RUNNING,
    "Terminated": FAILED,
    "Aborting": RUNNING,
    "Aborted": FAILED,
    "Failed": FAILED,
}


@dataclass(frozen=True)
class State:
    """`phase` is one of the five above; `reason` is the controller's, `killed` a pod that was; both may be empty."""

    phase: str
    restarts: int = 0
    reason: str = ""
    killed: str = ""


def volcano_state(body: Json) -> State:
    """A phase that we do not know counts as running: the controller goes on, and so do we."""
    status = body.get("status", {})
    state = status.get("state", {})
    reason = ": ".join(filter(None, (state.get("reason", ""), state.get("message", ""))))
    phase, restarts = _VOLCANO.get(state.get("phase", "Pending"), RUNNING), int(status.get("retryCount", 0))
    return State(RESTARTING if phase == PENDING and restarts else phase, restarts, reason)


def jobset_state(body: Json, indexed_job: Json | None) -> State:
    """From the conditions Completed, Failed and Suspended, and the pods that its one Job counts as ready."""
    status = body.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c.get("status") == "True"}
    restarts = int(status.get("restarts", 0))
    for kind, phase in (("Completed", SUCCEEDED), ("Failed", FAILED)):
        if kind in conditions:
            said = (conditions[kind].get("reason", ""), conditions[kind].get("message", ""))
            return State(phase, restarts, ": ".join(filter(None, said)))
    pods = (indexed_job or {}).get("status", {})
    if pods.get("ready", 0) or pods.get("succeeded", 0):
        return State(RUNNING, restarts)
    return State(RESTARTING if restarts else PENDING, restarts, conditions.get("Suspended", {}).get("message", ""))
