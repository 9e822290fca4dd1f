"""What Kubeflow's API server reads out of packages, tags and schedules, and what it refuses in them."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import yaml
from croniter import croniter

from tests.fakes.kubeflow_api import Refused
from tests.fakes.kubeflow_lists import Row

KINDS: dict[str, Any] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


def read_spec(data: bytes) -> Row:
    """An uploaded package as versions hold it."""
    try:
        documents = list(yaml.safe_load_all(data))
        if not isinstance(documents[0]["pipelineInfo"]["name"], str):
            raise TypeError(documents[0])
    except (yaml.YAMLError, IndexError, KeyError, TypeError) as error:
        raise Refused(400, f"Invalid input error: unknown template format: {error!r}") from None
    if len(documents) == 1:
        return dict(documents[0])
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def pipeline_name(spec: Row) -> str:
    return str(spec.get("pipeline_spec", spec)["pipelineInfo"]["name"])


def read_tags(query: dict[str, str]) -> Row:
    if not query.get("tags"):
        return {}
    tags = json.loads(query["tags"])
    if len(tags) > 20 or any("." in key or max(len(key), len(value)) > 63 for key, value in tags.items()):
        raise Refused(400, "Invalid input error: at most 20 tags, of 63 characters, without a dot in the key")
    return {"tags": tags}


def check_inputs(spec: Row, given: Row) -> None:
    """As the API server compares a run's parameters with what the root of a pipeline asks for."""
    definitions = spec.get("pipeline_spec", spec).get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    for name, told in definitions.items():
        if name not in given:
            if not told.get("isOptional") and "defaultValue" not in told:
                raise Refused(
                    400,
                    f"Invalid input error: parameter {name} is not optional, yet has neither default value nor user "
                    "provided value",
                )
            continue
        kind, value = told["parameterType"], given[name]
        is_other = isinstance(value, bool) and kind != "BOOLEAN"
        if is_other or not isinstance(value, KINDS[kind]):
            raise Refused(400, f"Invalid input error: input parameter {name} requires type {kind}, but got {value!r}")
    for name in given:
        if name not in definitions:
            raise Refused(400, f"Invalid input error: parameter {name} is not an input of the pipeline")


def due(trigger: Row, since: datetime, now: datetime) -> bool:
    """Whether a time lies between: counted from a start, if there is one, though it is before `since`.

    Five fields are the first five of six: seconds come first, and any weekday will do.
    """
    (schedule,) = trigger.values()
    start = datetime.fromisoformat(schedule["start_time"]) if schedule.get("start_time") else since
    if "interval_second" in schedule:
        return start + timedelta(seconds=int(schedule["interval_second"])) <= now
    cron = f"{schedule['cron']} *" if len(schedule["cron"].split()) == 5 else schedule["cron"]
    first: datetime = croniter(cron, start, ret_type=datetime, second_at_beginning=True).get_next()
    return first <= now


def check_trigger(trigger: Row) -> None:
    cron = trigger.get("cron_schedule", {}).get("cron", "")
    interval = int(trigger.get("periodic_schedule", {}).get("interval_second", 0))
    if bool(cron) == bool(interval):
        raise Refused(400, "Invalid input error: Schedule of a recurring run is either cron or periodic")
    fields = cron.split()
    if cron and not (len(fields) in (5, 6) and all(re.fullmatch(r"[\d*/,?A-Za-z-]+", part) for part in fields)):
        raise Refused(400, f"Invalid input error: Schedule cron is not a supported format: {cron!r}")
