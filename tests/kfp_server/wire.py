"""JSON as the API server takes and gives it, checked against the models of kfp-server-api."""

import re
from datetime import datetime
from typing import Any

import kfp_server_api

# What protobuf's `oneof` means in JSON: at most one of these in an object.
EXCLUSIVE = {
    "V2beta1Run": ("pipeline_spec", "pipeline_version_reference", "pipeline_version_id"),
    "V2beta1RecurringRun": ("pipeline_spec", "pipeline_version_reference", "pipeline_version_id"),
    "V2beta1Trigger": ("cron_schedule", "periodic_schedule"),
    "V2beta1Predicate": (
        "int_value",
        "long_value",
        "string_value",
        "timestamp_value",
        "int_values",
        "long_values",
        "string_values",
    ),
}
LIST = re.compile(r"list\[(.+)\]")
DICT = re.compile(r"dict\(str, (.+)\)")


class InvalidMessageError(Exception):
    """What protobuf's JSON reader would say."""


def check(value: Any, kind: str, path: str = "") -> None:
    """See that a JSON value is of a kind, which is written as kfp-server-api writes types."""
    if match := LIST.fullmatch(kind):
        _demand(isinstance(value, list), path, kind, value)
        for place, item in enumerate(value):
            check(item, match[1], f"{path}[{place}]")
    elif match := DICT.fullmatch(kind):
        _demand(isinstance(value, dict), path, kind, value)
        for name, item in value.items():
            check(item, match[1], f"{path}.{name}")
    elif kind in SCALARS:
        _demand(SCALARS[kind](value), path, kind, value)
    else:
        _check_model(value, getattr(kfp_server_api, kind), path)


def _check_model(value: Any, model: Any, path: str) -> None:
    if not model.openapi_types:
        _demand(value in model.allowable_values, path, f"one of {model.allowable_values}", value)
        return
    _demand(isinstance(value, dict), path, model.__name__, value)
    types = {model.attribute_map[attribute]: kind for attribute, kind in model.openapi_types.items()}
    for name, item in value.items():
        if name not in types:
            raise InvalidMessageError(f'proto: unknown field "{name}" in {model.__name__}')
        check(item, types[name], f"{path}.{name}".strip("."))
    given = [name for name in EXCLUSIVE.get(model.__name__, ()) if name in value]
    if len(given) > 1:
        raise InvalidMessageError(f"proto: field {given[1]} of {model.__name__}: oneof is already set")


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SCALARS = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: _is_number(value) and value == int(value),
    "float": _is_number,
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: True,
    "datetime": _is_time,
}


def _demand(holds: bool, path: str, kind: str, value: Any) -> None:
    if not holds:
        raise InvalidMessageError(f"proto: invalid value for {path}: must be {kind}, got {value!r}")
