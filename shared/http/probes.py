"""`/healthz` says alive, `/readyz` says able and why not, `/metrics` says how much."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.errors import AttainError
from shared.telemetry.logs import logger

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.telemetry.catalogue import Telemetry

Check = Callable[[], Awaitable[None]]
"""Returns when the thing it looks at works; raises otherwise. An AttainError's message is shown."""

CHECK_TIMEOUT_S = 2.0

_log = logger(__name__)


def install(app: FastAPI, readiness: Mapping[str, Check], telemetry: Telemetry) -> None:
    """Add the three routes. They need no token: they hold no ids, names or amounts."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        faults = await asyncio.gather(*(_fault(name, check) for name, check in readiness.items()))
        ready = not any(faults)
        checks = {
            name: {"ok": fault is None, **({} if fault is None else {"why": fault})}
            for name, fault in zip(readiness, faults, strict=True)
        }
        return JSONResponse(
            {"status": "ready" if ready else "not ready", "checks": checks},
            status_code=200 if ready else 503,
        )

    async def metrics(_request: Request) -> Response:
        return Response(
            telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        app.add_route(path, endpoint, include_in_schema=False)
        app.state.open_endpoints.add(endpoint)


async def _fault(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except AttainError as fault:
        return str(fault)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as fault:  # noqa: BLE001 - whatever is wrong, the probe must answer
        # Foreign messages may hold connection strings; the log has them, redacted.
        _log.warning("readiness_check_failed", check=name, exc_info=fault)
        return type(fault).__name__
    return None
