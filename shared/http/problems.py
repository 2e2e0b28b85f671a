"""Errors as RFC 9457 problems with stable types. Nothing the caller sent is echoed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.errors import InvalidValue, Refused
from shared.http.context import current_request_id

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "urn:attain:problem:"
RETRY_AFTER_S = 5
"""Sent with every 429 and 503: long enough for a restart, short enough for a webhook's patience."""
MAX_FAULTS = 50
"""Faults listed in one problem; a body of a thousand bad items does not make a huge answer."""

TITLES: Mapping[str, str] = {
    "invalid-value": "The request is malformed",
    "malformed-body": "The body cannot be read",
    "unsupported-media-type": "The body's media type is not accepted here",
    "body-too-large": "The body is too large",
    "not-found": "There is nothing here",
    "method-not-allowed": "This method is not allowed here",
    "not-acceptable": "No acceptable representation",
    "unauthenticated": "A valid access token is needed",
    "forbidden": "The access token does not permit this",
    "keys-unavailable": "Access tokens cannot be checked at the moment",
    "invalid-cursor": "The cursor is not one of this list",
    "idempotency-key-missing": "An Idempotency-Key is needed",
    "idempotency-key-reused": "The Idempotency-Key was used for another request",
    "idempotency-in-progress": "The same request is being handled",
    "precondition-required": "If-Match is needed",
    "precondition-failed": "The resource has changed",
    "too-busy": "Too many requests at once",
    "request-timeout": "The request did not arrive in time",
    "deadline-exceeded": "The request took too long",
    "internal": "Something went wrong here",
    "http": "The request was refused",
}
"""Codes of this module and their titles. Services add codes of their own by `Refused`."""

_CODE_OF_STATUS: Mapping[int, str] = {
    400: "malformed-body",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    412: "precondition-failed",
    413: "body-too-large",
    415: "unsupported-media-type",
    428: "precondition-required",
    503: "too-busy",
    504: "deadline-exceeded",
}
_DETAIL_OF_STATUS: Mapping[int, str] = {
    400: "The body is not valid JSON in UTF-8.",
    404: "No such resource. The API's reference is at /docs.",
    405: "See the Allow header for the methods of this resource.",
    413: "Send less at once: the body is larger than this resource takes.",
}


class Fault(BaseModel):
    """One thing that is wrong with a request, and where."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(description="JSON pointer into the body; or `#query/name`, `#header/name`")
    detail: str = Field(description="what is wrong and what to do")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="stable URI of the kind of problem")
    title: str = Field(description="the kind of problem, for people")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong here, and what to do")
    request_id: str = Field(description="as in X-Request-Id; quote it when asking for help")
    errors: list[Fault] | None = Field(default=None, description="each fault, and where it is")


def problem(
    code: str,
    detail: str,
    *,
    status: int,
    faults: Sequence[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one problem. `code` is the last part of its type URI."""
    body = Problem(
        type=TYPE_BASE + code,
        title=TITLES.get(code) or code.replace("-", " ").replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        request_id=current_request_id(),
        errors=None if faults is None else list(faults[:MAX_FAULTS]),
    )
    sent = dict(headers or {})
    if status in {429, 503}:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(
        body.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=sent,
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(InvalidValue, _invalid_value)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def pointer(parts: Iterable[object]) -> str:
    """JSON pointer (RFC 6901) of a path; the empty path is the whole body."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1")[:100] for part in parts)
    return "".join(f"/{part}" for part in escaped)


async def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()
    if isinstance(error.body, bytes):
        # FastAPI parses JSON only under a JSON media type; anything else stays bytes.
        return problem(
            "unsupported-media-type",
            "Send the body as JSON, with Content-Type: application/json.",
            status=415,
        )
    if any(fault["type"] == "json_invalid" for fault in faults):
        position = next(fault["loc"][-1] for fault in faults if fault["type"] == "json_invalid")
        return problem(
            "malformed-body", f"The body is not JSON, at character {position}.", status=400
        )
    described = [_fault(fault) for fault in faults]
    return problem(
        "invalid-value",
        f"{len(described)} value(s) are malformed; see errors.",
        status=422,
        faults=described,
    )


def _fault(error: Mapping[str, Any]) -> Fault:
    place, *path = error["loc"]
    where = pointer(path) if place == "body" else f"#{place}{pointer(path)}"
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, InvalidValue):
        return Fault(pointer=where + cause.pointer, detail=cause.message)
    return Fault(pointer=where, detail=str(error["msg"]).removeprefix("Value error, "))


async def _invalid_value(_request: Request, error: Exception) -> Response:
    if not isinstance(error, InvalidValue):
        raise error
    fault = Fault(pointer=error.pointer, detail=error.message)
    return problem("invalid-value", error.message, status=422, faults=[fault])


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return problem(error.code, error.message, status=error.status, headers=refusal_headers(error))


def refusal_headers(error: Refused) -> Mapping[str, str]:
    """Headers that go with a refusal; subclasses of Refused carry them as `headers`."""
    headers = getattr(error, "headers", None)
    return headers if isinstance(headers, Mapping) else {}


async def _http_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code < 400 or error.status_code == 304:  # noqa: PLR2004 - not an error
        return Response(status_code=error.status_code, headers=error.headers)
    code = _CODE_OF_STATUS.get(error.status_code, "http")
    detail = _DETAIL_OF_STATUS.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 413:  # noqa: PLR2004 - what is left of the body is not worth reading
        headers["Connection"] = "close"
    return problem(code, detail, status=error.status_code, headers=headers)


def body_too_large() -> Response:
    """The answer to a body above the limit. The connection ends: the rest of it is on its way."""
    return problem(
        "body-too-large",
        _DETAIL_OF_STATUS[413],
        status=413,
        headers={"Connection": "close"},
    )


async def _unexpected(_request: Request, _error: Exception) -> Response:
    """The outermost layer logs it; the caller gets the request id and nothing else."""
    return internal()


def internal() -> Response:
    """The answer to a fault of ours."""
    return problem(
        "internal",
        "This is a fault of the service. It has been logged under the request id; "
        "a retry with the same Idempotency-Key does no harm.",
        status=500,
    )
