"""Settings in, the same with the LVLM of a hub at a commit out: what a branch stands for is asked once a cycle.

The plan has the name with its commit, and says in its provenance what it was asked as. As long as it is asked the same
way again, this is the same work: that a branch moved meanwhile opens no cycle, and the hub need not be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip.config import LOCAL_ENGINES
from hqclip.models.hub import commit_of
from hqclip.models.names import can_only_be_a_folder, hub_name, is_commit
from hqclip.records import CyclePlan

NOTE = "pinned"  # of the provenance: names as they were asked, with those that they were given
BUILT_IN = "demo"
Settings = Mapping[str, dict[str, Any]]


def pin(settings: Settings) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The settings with a name that nothing changes any more, and what was changed: by the name as it was asked.

    Raises what `commit_of` raises.
    """
    annotate = settings.get("annotate", {})
    asked = str(annotate.get("model", ""))
    elsewhere = asked == BUILT_IN or annotate.get("engine") not in LOCAL_ENGINES or can_only_be_a_folder(asked)
    name = None if elsewhere else hub_name(asked)  # a folder may be on the machines of annotate only
    if name is None or is_commit(name.revision):
        return dict(settings), {}
    told = {asked: name.at(commit_of(name))}
    return _with(settings, told), told


def as_planned(plan: CyclePlan, settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings with the commit that this plan was given for the same name."""
    return _with(settings, (plan.provenance or {}).get(NOTE, {}))


def _with(settings: Settings, told: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    model = settings.get("annotate", {}).get("model", "")
    if model not in told:
        return dict(settings)
    return {**settings, "annotate": {**settings["annotate"], "model": told[model]}}
