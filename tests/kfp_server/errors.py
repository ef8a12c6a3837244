"""Errors as the server gives them: a google.rpc.Status in JSON, with the text for people in its details."""

from dataclasses import dataclass
from typing import Any

# gRPC's number of each kind of error and the HTTP status that the gateway makes of it.
INVALID, NOT_FOUND, EXISTS, DENIED, INTERNAL, UNKNOWN_METHOD, UNAVAILABLE, UNAUTHENTICATED = 3, 5, 6, 7, 13, 12, 14, 16
STATUS = {INVALID: 400, NOT_FOUND: 404, EXISTS: 409, DENIED: 403, INTERNAL: 500, UNKNOWN_METHOD: 501, UNAVAILABLE: 503}
STATUS[UNAUTHENTICATED] = 401


@dataclass
class ApiError(Exception):
    """An error of the API: its gRPC number, the whole text, and the part of it for people."""

    code: int
    message: str
    for_people: str

    @property
    def status(self) -> int:
        return STATUS[self.code]

    @property
    def body(self) -> dict[str, Any]:
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.for_people}
        return {"error": self.message, "code": self.code, "message": self.message, "details": [detail]}


def invalid(text: str) -> ApiError:
    return ApiError(INVALID, f"Invalid input error: {text}", text)


def not_found(kind: str, name: str) -> ApiError:
    text = f"{kind} {name} not found"
    return ApiError(NOT_FOUND, f"ResourceNotFoundError: {text}", text)


def exists(text: str) -> ApiError:
    return ApiError(EXISTS, f"Already exist error: {text}", text)


def internal(text: str) -> ApiError:
    return ApiError(INTERNAL, f"InternalServerError: {text}", "Internal Server Error")


def unavailable(text: str) -> ApiError:
    return ApiError(UNAVAILABLE, text, text)


def unauthenticated() -> ApiError:
    text = "Review.Status.Authenticated is false. Error token has expired"
    return ApiError(UNAUTHENTICATED, f"Unauthenticated: {text}", text)


def denied(namespace: str) -> ApiError:
    text = f"User 'tester' is not authorized with reason:  (request: namespace {namespace!r})"
    return ApiError(DENIED, f"PermissionDenied: {text}: Unauthorized access", text)
