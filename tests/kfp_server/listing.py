"""Filters and pages of a listing, as the server's `filter` and `list` packages define them."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from tests.kfp_server.errors import invalid
from tests.kfp_server.wire import InvalidMessageError, check

DEFAULT_PAGE = 20
LARGEST_PAGE = 200

# The numbers of the operations that are supported here, in filter.proto.
NUMBERS = {1: "EQUALS", 2: "NOT_EQUALS", 9: "IS_SUBSTRING"}
OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda there, wanted: there == wanted,
    "NOT_EQUALS": lambda there, wanted: there != wanted,
    "IS_SUBSTRING": lambda there, wanted: str(wanted).lower() in str(there).lower(),
}


def select(items: Sequence[dict[str, Any]], query: Mapping[str, str], keys: Sequence[str]) -> tuple[list[Any], str]:
    """One page of the items that the query's filter lets through, and the token of the next page."""
    size = int(query.get("page_size") or 0)
    if size < 0:
        raise invalid(f"The page size should be greater than 0. Got {size}")
    size = min(size or DEFAULT_PAGE, LARGEST_PAGE)
    criteria = {"filter": query.get("filter", ""), "sort_by": query.get("sort_by", "")}
    start = 0
    if query.get("page_token"):
        start, criteria = _open(query["page_token"], criteria)
    if criteria["sort_by"]:
        raise invalid(f"sorting is not supported here, got {criteria['sort_by']!r}")
    predicates = _read_filter(criteria["filter"], keys)
    found = [item for item in items if all(_holds(predicate, item) for predicate in predicates)]
    after = start + size
    return found[start:after], _seal(after, criteria) if after < len(found) else ""


def _open(token: str, given: dict[str, str]) -> tuple[int, dict[str, str]]:
    try:
        content = json.loads(base64.b64decode(token, validate=True))
        start, criteria = int(content["start"]), dict(content["criteria"])
    except (ValueError, KeyError, TypeError):
        raise invalid("Invalid page token") from None
    # Criteria beside a token may be left out, but not be others.
    if any(given.values()) and given != criteria:
        raise invalid("page token does not match the supplied sort by and/or filtering criteria")
    return start, criteria


def _seal(start: int, criteria: dict[str, str]) -> str:
    return base64.b64encode(json.dumps({"start": start, "criteria": criteria}).encode()).decode()


def _read_filter(text: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The predicates of a filter, all of which must hold."""
    if not text:
        return []
    try:
        # The gateway has decoded the address once; the server decodes the filter once more.
        whole = json.loads(unquote_plus(text))
        predicates: list[dict[str, Any]] = whole.get("predicates", [])
        for predicate in predicates:
            # As older clients write them, and operations by number as kfp.Client does.
            if "stringValue" in predicate:
                predicate["string_value"] = predicate.pop("stringValue")
            if isinstance(predicate.get("operation"), int):
                predicate["operation"] = NUMBERS[predicate["operation"]]
        check(whole, "V2beta1Filter")
    except (ValueError, KeyError, InvalidMessageError) as error:
        raise invalid(f"failed to parse valid filter from {text!r}: {error}") from None
    for predicate in predicates:
        if predicate.get("key") not in keys:
            raise invalid(f'no support for filtering on unrecognized field "{predicate.get("key")}"')
        if predicate.get("operation") not in OPERATIONS or "string_value" not in predicate:
            raise invalid(f"invalid predicate operation: {predicate}")
    return predicates


def _holds(predicate: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    return OPERATIONS[predicate["operation"]](item.get(predicate["key"], ""), predicate["string_value"])
