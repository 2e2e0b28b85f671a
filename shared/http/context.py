"""The request id: taken from the caller or made here, in every response, log line and call out."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

REQUEST_ID_HEADER = "X-Request-Id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_current: ContextVar[str] = ContextVar("attain_request_id", default="")


def accept_request_id(given: str | None) -> str:
    """The caller's id when it is harmless in headers and logs, or else a new one.

    Makes it the current id of this task.
    """
    if given is None or not _ACCEPTABLE.fullmatch(given):
        given = os.urandom(16).hex()
    _current.set(given)
    return given


def current_request_id() -> str:
    """The id of the request that is being handled, or an empty text outside of one."""
    return _current.get()
