"""The API's reference pages, served from this process: they work without the internet.

The scripts are Swagger UI and Redoc as the package `fastapi-offline` carries them.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from fastapi import FastAPI

DOCS_PATH = "/docs"
OPENAPI_PATH = "/openapi.json"
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_START_SCRIPT = (
    "SwaggerUIBundle({url: 'openapi.json', dom_id: '#reference', deepLinking: true, "
    "tryItOutEnabled: true, validatorUrl: null});"
)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Add `/openapi.json`, `/docs` and what the page loads."""

    async def openapi(_request: Request) -> Response:
        return Response(json.dumps(app.openapi()), media_type="application/json")

    async def page(_request: Request) -> Response:
        return HTMLResponse(_page(app.title), headers={"Content-Security-Policy": _POLICY})

    async def asset(request: Request) -> Response:
        return _asset(request.path_params["name"])

    for path, endpoint in (
        (OPENAPI_PATH, openapi),
        (DOCS_PATH, page),
        (DOCS_PATH + "/{name}", asset),
    ):
        app.add_route(path, endpoint, include_in_schema=False)
        app.state.open_endpoints.add(endpoint)


def _asset(name: str) -> Response:
    if name == "start.js":
        return Response(_START_SCRIPT, media_type="text/javascript")
    if name not in ASSETS:
        raise HTTPException(404)
    content = files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(
        content, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=86400"}
    )


def _page(title: str) -> str:
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: API reference</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<noscript>The description of this API is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
