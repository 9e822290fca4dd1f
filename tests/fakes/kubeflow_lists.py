"""Rows in, one page of them out: filters, sorting and page tokens as Kubeflow Pipelines' API server has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection
from typing import Any

from tests.fakes.kubeflow_api import Refused

Row = dict[str, Any]
OPERATIONS = (
    "OPERATION_UNSPECIFIED",
    "EQUALS",
    "NOT_EQUALS",
    "GREATER_THAN",
    "",
    "GREATER_THAN_EQUALS",
    "LESS_THAN",
    "LESS_THAN_EQUALS",
    "IN",
    "IS_SUBSTRING",
)
VALUES = {
    "int_value": "intValue",
    "long_value": "longValue",
    "string_value": "stringValue",
    "timestamp_value": "timestampValue",
    "int_values": "intValues",
    "long_values": "longValues",
    "string_values": "stringValues",
}
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda own, value: bool(own == value),
    "NOT_EQUALS": lambda own, value: bool(own != value),
    "GREATER_THAN": lambda own, value: bool(own > value),
    "GREATER_THAN_EQUALS": lambda own, value: bool(own >= value),
    "LESS_THAN": lambda own, value: bool(own < value),
    "LESS_THAN_EQUALS": lambda own, value: bool(own <= value),
    "IN": lambda own, value: own in value,
    "IS_SUBSTRING": lambda own, value: value in own,
}
DEFAULT_SIZE, MOST = 20, 200


def page(rows: list[Row], query: dict[str, str], keys: Collection[str], identity: str) -> tuple[list[Row], Row]:
    """Rows of the page asked for, and what the answer says besides: total_size, next_page_token.

    `keys`: fields that may be filtered and sorted by; `identity` breaks ties.
    """
    asked = {key: query.get(key, "") for key in ("sort_by", "filter")}
    start = 0
    if query.get("page_token"):
        start = _read_token(query["page_token"], asked)
    size = int(query.get("page_size") or 0) or DEFAULT_SIZE
    if size < 0:
        raise Refused(400, "Invalid input error: The page size should be greater than 0. Got -1")
    predicates = _predicates(asked["filter"], keys)
    found = [row for row in rows if all(holds(row) for holds in predicates)]
    name, descending = _sorting(asked["sort_by"], keys)
    found.sort(key=lambda row: (row.get(name, ""), row[identity]), reverse=descending)
    end = start + min(size, MOST)
    about: Row = {"total_size": len(found)}
    if end < len(found):
        token = json.dumps({"Start": end, **asked})
        about["next_page_token"] = base64.b64encode(token.encode()).decode()
    return found[start:end], about


def _read_token(token: str, asked: dict[str, str]) -> int:
    try:
        told = json.loads(base64.b64decode(token, validate=True))
        start = int(told.pop("Start"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(400, "Invalid input error: Invalid package token.") from None
    if told != asked:
        raise Refused(400, "Invalid input error: page token does not match the supplied sort by and/or filtering")
    return start


def _sorting(text: str, keys: Collection[str]) -> tuple[str, bool]:
    words = text.split() or ["created_at"]
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise Refused(
            400, f"Invalid input error: Received invalid sort by format {text!r}. Supported format: 'field asc'"
        )
    if words[0] not in keys:
        raise Refused(400, f"Invalid input error: Invalid sorting field: {words[0]!r} on listable object")
    return words[0], words[1:] == ["desc"]


def _predicates(text: str, keys: Collection[str]) -> list[Callable[[Row], bool]]:
    """What a row must fulfil."""
    if not text:
        return []
    try:
        return [_predicate(told, keys) for told in json.loads(text).get("predicates", [])]
    except (ValueError, AttributeError):
        raise Refused(400, "Invalid input error: Failed to parse valid filter from request filter string") from None


def _predicate(told: Row, keys: Collection[str]) -> Callable[[Row], bool]:
    operation = told.get("operation", "OPERATION_UNSPECIFIED")
    if isinstance(operation, int):
        operation = OPERATIONS[operation] if 0 <= operation < len(OPERATIONS) else ""
    unknown = set(told) - {"operation", "key", *VALUES, *VALUES.values()}
    if unknown or operation not in TESTS:
        raise Refused(400, f"Invalid input error: Failed to parse filter: {unknown or operation}")
    key = told.get("key", "")
    if key not in keys:
        raise Refused(400, f"Invalid input error: no support for filtering on unrecognized field {key!r}")
    values = [told[name] for pair in VALUES.items() for name in pair if name in told]
    if len(values) != 1:
        raise Refused(400, "Invalid input error: Failed to parse filter: a predicate has one value")
    value = values[0]["values"] if isinstance(values[0], dict) else values[0]
    return lambda row: TESTS[operation](row.get(key, ""), value)
