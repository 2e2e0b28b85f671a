"""ETag and If-Match: nobody overwrites what they have not seen."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from shared.errors import Refused

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="the ETag of the version this request changes"),
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="`*` to create only; an ETag to save a transfer"),
]


def etag(version: int | str) -> str:
    """The strong ETag of a version: a revision number or a digest."""
    return f'"{version}"'


def check_write(
    current: str | None, *, if_match: str | None, if_none_match: str | None = None
) -> None:
    """Whether a write may go on. `current`: ETag of what is stored, None when nothing is.

    Raises Refused: 428 when something is stored and the caller did not say which version they
    have seen; 412 when they have seen another one.
    """
    if if_none_match is not None and _matches(if_none_match, current):
        raise _failed("It exists already.")
    if if_match is not None and not _matches(if_match, current):
        raise _failed("It has changed, or was never there. Read it again, then decide.")
    if current is not None and if_match is None:
        msg = "Send If-Match with the ETag that you read, so that nobody's change is lost."
        raise Refused("precondition-required", msg, status=428)


def unchanged(current: str, if_none_match: str | None) -> bool:
    """Whether a read can be answered 304."""
    return if_none_match is not None and _matches(
        if_none_match.replace("W/", ""), current.removeprefix("W/")
    )


def _matches(header: str, current: str | None) -> bool:
    """Strong comparison: a weak tag matches nothing."""
    if current is None:
        return False
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or current in tags


def _failed(message: str) -> Refused:
    return Refused("precondition-failed", message, status=412)
