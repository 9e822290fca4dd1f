"""What a job is called: the same work has the same name, so that a retry finds it; what it is bears a digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hqclip.launch.spec import LaunchSpec
from hqclip.records import digest_of

# how a launcher watches is no part of what the job is
WATCHING = ("follow", "on_termination", "pending_timeout_s", "stall_timeout_s", "again", "launch_id")

LATER = {"config_env": [], "node_affinity": ""}  # came later: a job that does without is what it was before

OURS = {"app.kubernetes.io/name": "hqclip"}  # of every object that is made here
SELECTOR = ",".join(f"{name}={value}" for name, value in OURS.items())
PREFIX = "hqclip/"  # of our labels and annotations
NAME, STAGE, LAUNCH_ID = PREFIX + "job", PREFIX + "stage", PREFIX + "launch-id"
DIGEST, STORE, KEY = PREFIX + "spec-digest", PREFIX + "store", PREFIX + "key"


def job_name(spec: LaunchSpec, stage: str, settings: Mapping[str, Any]) -> str:
    """`hqclip-{stage}-{what}-{hash}`, at most 45 characters.

    The hash is of what the work is: store, stage and run, or launch id and settings of a stage that has no run. Two
    launches of one run have one name whoever asks and whatever their machines: they cannot train it at the same time.
    """
    run = settings.get("run")
    what = clean(str(run or spec.launch_id), 14)
    store = settings["store"]
    work = {name: value for name, value in settings.items() if name not in ("store", "claims")}  # how replicas share it
    identity = [store, stage, run] if run else [store, stage, spec.launch_id, work]
    return "-".join(filter(None, ["hqclip", clean(stage), what, digest_of(identity)[:8]]))


def spec_digest(spec: LaunchSpec, stage: str, settings: Mapping[str, Any]) -> str:
    """What the job is: settings of the stage, and of the spec all that it is made of."""
    settings_of_pods = spec.to_mapping().items()
    made_of = {k: value for k, value in settings_of_pods if k not in WATCHING and (k not in LATER or value != LATER[k])}
    return digest_of([stage, dict(settings), made_of])


def clean(text: str, most: int = 63) -> str:
    """Text as a label value and part of a name: a-z, 0-9 and inner dashes, at most `most` characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-")
