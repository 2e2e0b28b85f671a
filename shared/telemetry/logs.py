"""Structured logs: one JSON object a line, with the ids of the request or event at hand.

Ids are logged, people's names and amounts are not. Secrets are removed here as well, as a last
line: by type, by the name of the key, and by the look of a text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import IO, Any
from uuid import UUID

import structlog
from pydantic import SecretBytes, SecretStr, ValidationError

REDACTED = "[redacted]"
MAX_TEXT = 2_000
"""Longer texts are cut: a log line is no place for a payload."""
MAX_DEPTH = 6
MAX_ITEMS = 50
MAX_FRAMES = 30

_SECRET_KEY = re.compile(
    r"token|secret|passw|authorization|cookie|api_?key|private_?key|signature|credential|dsn"
    r"|database_url|webhook_url|email|salary",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(?P<jwt>eyJ[\w-]{5,}\.[\w-]+\.[\w-]*)"
    r"|(?P<bearer>\b(?:bearer|basic)\s+[\w.~+/=-]{8,})"
    r"|(?P<userinfo>(?<=://)[^/\s:@]*:[^/\s@]+@)"
    r"|(?P<slack>hooks\.slack\.com/\S+|xox[a-z]-[\w-]+)",
    re.IGNORECASE,
)

Event = MutableMapping[str, Any]

_OURS = frozenset(["at", "level", "logger", "service"])
"""Set in every line by the processors here, over whatever a caller gave."""

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def configure_logging(service: str, level: str = "info", stream: IO[str] | None = None) -> None:
    """Send this process's logs, the libraries' too, to `stream` (standard error) as JSON lines.

    Call once, in the entry point.
    """
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared_steps,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )

    # Who called is in no line, and finding out costs a third of it (logging's own way to say so).
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    def add_service(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401
        event["service"] = service
        return event

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                add_service,
                describe_exception,
                redact,
                _as_json,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for own in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(own).handlers.clear()
        logging.getLogger(own).propagate = True


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger. Events are constant texts in snake case; what varies goes into keyword values."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Every line logged inside carries `ids` (request_id, event_id, topic …)."""
    # `bound_contextvars` would look through the whole context first, at every request.
    before = structlog.contextvars.bind_contextvars(**ids)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**before)


def redact(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401 - structlog's signature
    """Processor: the event with every secret replaced, at any depth."""
    return {key: value if key in _OURS else _clean(key, value, 0) for key, value in event.items()}


def _as_json(_logger: Any, _method: str, event: Event) -> str:  # noqa: ANN401
    """Processor: the line. After `redact` every value is one that JSON has."""
    return _encode(event)


@lru_cache(maxsize=1_024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def redact_text(text: str) -> str:
    """`text` without tokens and without user information in URLs, cut to a bounded length."""
    cleaned = _SECRET_TEXT.sub(REDACTED, text[: 4 * MAX_TEXT])
    return cleaned if len(cleaned) <= MAX_TEXT else cleaned[:MAX_TEXT] + "…"


def describe_exception(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401
    """Processor: `exc_info` as type, first line of the message and frames; never locals.

    A validation error repeats what it was given, so its message is left out; of the database's
    errors the detail lines hold values, so only the first line is kept.
    """
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        event["exception"] = _exception(raised)
    return event


def _exception(raised: BaseException, depth: int = 0) -> dict[str, object]:
    frames = traceback.extract_tb(raised.__traceback__)[-MAX_FRAMES:]
    described: dict[str, object] = {
        "type": f"{type(raised).__module__}.{type(raised).__qualname__}",
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if not isinstance(raised, ValidationError):
        described["message"] = (str(raised).splitlines() or [""])[0][:300]
    cause = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    if cause is not None and depth < MAX_DEPTH:
        described["because_of"] = _exception(cause, depth + 1)
    if isinstance(raised, BaseExceptionGroup) and depth < MAX_DEPTH:
        described["group"] = [_exception(each, depth + 1) for each in raised.exceptions[:5]]
    return described


def _clean(key: str, value: object, depth: int) -> object:  # noqa: C901, PLR0911 - one branch a type
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr | SecretBytes) or _is_secret(key):
        return REDACTED
    if isinstance(value, str):
        return redact_text(str(value.value) if isinstance(value, Enum) else value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, date | Decimal | UUID | PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {str(name): _clean(str(name), item, depth + 1) for name, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    if isinstance(value, BaseException):
        return _exception(value)
    # An unknown object's repr may hold anything, settings and rows included.
    return f"<{type(value).__name__}>"
