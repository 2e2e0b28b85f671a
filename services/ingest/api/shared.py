"""What the routers have in common: who may call, what they call, and how faults are told."""

from __future__ import annotations

from typing import Annotated, Any, cast

import asyncpg
import structlog
from fastapi import FastAPI, Request
from starlette.responses import Response

from services.ingest.domain.cloudevents import EventsRefused
from services.ingest.handlers import Ingest
from shared.http.auth import Principal, Role, require
from shared.http.problems import Fault, problem

EVENTS_SCOPE = "events:write"
REFERENCE_SCOPE = "reference:write"

Administrator = Annotated[Principal, require(Role.ADMIN)]
RejectReader = Annotated[Principal, require(Role.ADMIN, Role.COMP_ADMIN, Role.AUDITOR)]
SourceReader = Annotated[Principal, require(Role.ADMIN, Role.AUDITOR)]
ReferenceWriter = Annotated[
    Principal, require(Role.ADMIN, Role.COMP_ADMIN, scopes=[REFERENCE_SCOPE])
]
ReferenceReader = Annotated[
    Principal,
    require(Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE, Role.AUDITOR, scopes=[REFERENCE_SCOPE]),
]

log = structlog.get_logger()

NOT_THERE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    OSError,  # TimeoutError is one
)


def ingest_of(request: Request) -> Ingest:
    """The use cases' parts."""
    return cast("Ingest", request.app.state.ingest)


def json_body(what: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """How the reference shows a body that is read as bytes."""
    content = {"application/json": {"schema": schema or {"type": "object"}}}
    return {"requestBody": {"required": True, "description": what, "content": content}}


def install_problems(app: FastAPI) -> None:
    """Answer what only ingest raises, and a database that is away."""
    app.add_exception_handler(EventsRefused, _events_refused)
    for error in NOT_THERE:
        app.add_exception_handler(error, _database_away)


async def _events_refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, EventsRefused):
        raise error
    faults = [Fault(pointer=each.pointer, detail=each.message) for each in error.problems]
    if len(error.problems) == 1 and not error.unnamed:
        detail = error.problems[0].message
    else:
        count = len(error.problems) + error.unnamed
        detail = f"{count} faults; nothing of this request was taken. See errors."
    return problem(error.code, detail, status=422, faults=faults)


async def _database_away(_request: Request, error: Exception) -> Response:
    log.warning("ingest.database_away", error=type(error).__name__)
    return problem(
        "storage-unavailable",
        "The database does not answer. Send it again; nothing is done twice.",
        status=503,
    )
