"""The least that a webhook inlet can be: FastAPI, HubSpot's HMAC, an acknowledged produce.

`python -m tests.bench.bare <bootstrap> <topic> <port>`; the secret and the public URL come from
`BARE_SECRET` and `BARE_URL`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response

from shared.kafka.clients import make_producer


def bare_app(bootstrap: str, topic: str, secret: bytes, url: str) -> FastAPI:
    """`POST /hook` checks the signature and answers 204 once Kafka has the body."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.producer = producer = make_producer(bootstrap, client_id="bare")
        await producer.start()
        yield
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/hook")
    async def hook(request: Request) -> Response:
        body = await request.body()
        sent_ms = request.headers["x-hubspot-request-timestamp"]
        signed = b"POST" + url.encode() + body + sent_ms.encode()
        made = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(made, request.headers["x-hubspot-signature-v3"]):
            return Response(status_code=401)
        await request.app.state.producer.send_and_wait(topic, value=body)
        return Response(status_code=204)

    return app


if __name__ == "__main__":
    uvicorn.run(
        bare_app(
            sys.argv[1], sys.argv[2], os.environ["BARE_SECRET"].encode(), os.environ["BARE_URL"]
        ),
        port=int(sys.argv[3]),
        access_log=False,
        log_level="warning",
    )
