"""The one place that makes HTTP clients."""

from __future__ import annotations

import httpx

from shared.http.context import REQUEST_ID_HEADER, current_request_id
from shared.http.version import VERSION
from shared.telemetry.traces import TRACEPARENT, current_traceparent


def create_client(
    *,
    service: str,
    base_url: str = "",
    timeout_s: float = 10.0,
    max_connections: int = 50,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client with limits, our name, and the request id and trace of the task that calls.

    It follows no redirects and ignores proxy variables and .netrc: where a request goes is
    decided by settings alone. The caller closes it.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
        limits=httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections // 2
        ),
        headers={"User-Agent": f"attain/{VERSION} ({service})"},
        event_hooks={"request": [_pass_request_id]},
        follow_redirects=False,
        trust_env=False,
        transport=transport,
    )


async def _pass_request_id(request: httpx.Request) -> None:
    request_id = current_request_id()
    if request_id:
        request.headers.setdefault(REQUEST_ID_HEADER, request_id)
    if (traceparent := current_traceparent()) is not None:
        request.headers.setdefault(TRACEPARENT, traceparent)
