"""HTTP of ingest: one router a resource."""

from __future__ import annotations

from fastapi import APIRouter

from services.ingest.api import deliveries, reference, rejects, sources


def routers(*, max_events_bytes: int) -> list[APIRouter]:
    """All routers. max_events_bytes: largest body of `POST /v1/events`."""
    return [
        deliveries.router(max_events_bytes=max_events_bytes),
        sources.router,
        rejects.router,
        reference.router,
    ]
