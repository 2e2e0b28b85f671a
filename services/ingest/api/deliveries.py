"""`POST /v1/events` and `POST /v1/hooks/{source}`: where facts come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from services.ingest.api.shared import EVENTS_SCOPE, ingest_of
from services.ingest.domain.translation import RawRequest
from services.ingest.handlers import take_events, take_hook
from shared.http.auth import Role, public, require
from shared.http.direct import DirectRoute
from shared.http.models import WireModel

_EVENTS_BODY = {
    "requestBody": {
        "required": True,
        "description": "CloudEvents 1.0, at most 1000; attributes in `ce-` headers in binary mode",
        "content": {
            "application/cloudevents+json": {"schema": {"type": "object"}},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "items": {"type": "object"}}
            },
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
_HOOK_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "source",
            "in": "path",
            "required": True,
            "description": "the connection's name",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {
        "required": True,
        "description": "whatever the source sends; signed over its very bytes",
        "content": {"application/json": {"schema": {}}},
    },
}


class Accepted(WireModel):
    """What was taken. The events are durable."""

    accepted: int = Field(description="events in the request")
    ids: list[str] = Field(description="ids of the facts, in the order of the events")


def router(*, max_events_bytes: int) -> APIRouter:
    """Both routes; a webhook's body has the application's limit."""
    routes = APIRouter(prefix="/v1", tags=["deliveries"])

    @routes.post(
        "/events",
        status_code=202,
        max_body_size=max_events_bytes,
        response_model=Accepted,
        openapi_extra=_EVENTS_BODY,
        dependencies=[require(Role.ADMIN, scopes=[EVENTS_SCOPE])],
    )
    async def post_events(request: Request) -> Response:
        """Take facts as CloudEvents: all of the request or none of it. Sent twice counts once."""
        body = await request.body()
        ids = await take_events(ingest_of(request), _headers(request), request.method, body)
        answer = Accepted(accepted=len(ids), ids=list(ids))
        return Response(answer.model_dump_json(), 202, media_type="application/json")

    hooks = APIRouter(route_class=DirectRoute)
    hooks.add_api_route(
        "/hooks/{source}",
        post_hook,
        methods=["POST"],
        status_code=204,
        openapi_extra=_HOOK_BODY,
        dependencies=[public("signed by the source")],
    )
    routes.include_router(hooks)
    return routes


async def post_hook(request: Request) -> Response:
    """Take a CRM's webhook. What cannot be read of it is kept as rejects."""
    raw = RawRequest(request.method, _target(request), _headers(request), await request.body())
    done = await take_hook(ingest_of(request), request.path_params["source"], raw)
    return Response(done.body, done.status, media_type=done.content_type)


def _headers(request: Request) -> Mapping[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]
    }


def _target(request: Request) -> str:
    """Path and query as they came."""
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return (raw_path + (b"?" + query if query else b"")).decode("latin-1")
