"""The application factory: every service's API is made here, with the same manners.

Handlers commit inside themselves, before they return: FastAPI runs the exit of a `yield`
dependency only after the response has gone out, and a commit that fails there was already
acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Scope

from shared.http import probes, problems, reference
from shared.http.auth import refuse_undeclared_routes
from shared.http.direct import DirectLayer
from shared.http.idempotency import IdempotencyStore
from shared.http.middleware import Limits, RequestLayer
from shared.http.tokens import TokenVerifier
from shared.http.version import VERSION
from shared.telemetry.catalogue import Telemetry

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application(FastAPI):
    """FastAPI with our outermost layer around everything, error handling included."""

    request_limits: Limits
    telemetry: Telemetry

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's stack inside the request layer."""
        inner = super().build_middleware_stack()
        return RequestLayer(
            DirectLayer(inner, self, max_body_bytes=self.request_limits.max_body_bytes),
            limits=self.request_limits,
            telemetry=self.telemetry,
            route_of=_route_of(self),
        )

    def openapi(self) -> dict[str, Any]:
        """The description of the API; every operation's errors are problems."""
        fresh = self.openapi_schema is None
        schema = super().openapi()
        if fresh:
            for operations in schema.get("paths", {}).values():
                for operation in operations.values():
                    default = operation.get("responses", {}).get("default", {})
                    content = default.get("content", {})
                    if "application/json" in content:
                        content[problems.MEDIA_TYPE] = content.pop("application/json")
        return schema


def create_app(  # noqa: PLR0913 - the composition root of HTTP: one argument a part
    *,
    title: str,
    service: str,
    routers: Sequence[APIRouter],
    verifier: TokenVerifier,
    readiness: Mapping[str, probes.Check],
    telemetry: Telemetry,
    limits: Limits | None = None,
    lifespan: Lifespan | None = None,
    idempotency: IdempotencyStore | None = None,
    state: Mapping[str, object] | None = None,
    description: str = "",
) -> FastAPI:
    """The HTTP application of one service.

    routers: each route declares its permission (`require`, `public`).
    readiness: by name, what must work before this process takes traffic.
    state: what handlers find in `request.app.state` (pools, producers, clocks).
    Raises Misconfigured when a route declares no permission.
    """
    limits = limits or Limits()
    app = Application(
        title=title,
        version=VERSION,
        description=description,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        max_body_size=limits.max_body_bytes,
        # Spans and metrics are ours (shared.telemetry): FastAPI's own would name paths, with ids.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        responses={"default": {"model": problems.Problem, "description": "A problem (RFC 9457)"}},
    )
    app.request_limits = limits
    app.telemetry = telemetry
    app.state.open_endpoints = set()
    app.state.service = service
    app.state.verifier = verifier
    app.state.idempotency = idempotency
    for name, value in (state or {}).items():
        setattr(app.state, name, value)
    problems.install(app)
    probes.install(app, readiness, telemetry)
    reference.install(app)
    for router in routers:
        app.include_router(router)
    refuse_undeclared_routes(app)
    return app


def _route_of(app: FastAPI) -> Callable[[Scope], str | None]:
    """The template of the route that answered, for labels: paths hold ids, templates do not."""
    templates: dict[object, str] = {
        context.endpoint: context.path
        for context in iter_route_contexts(app.routes)
        if context.endpoint is not None and context.path is not None
    }

    def route_of(scope: Scope) -> str | None:
        return templates.get(scope.get("endpoint"))

    return route_of
