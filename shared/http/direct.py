"""Routes that are answered without FastAPI's machinery: for what comes thousands of times a minute.

FastAPI's middleware, routing and dependencies take longer than checking a webhook's signature and
reading what it says. A direct route is declared like every other, so that the reference shows it
and the demand for a declared permission holds; its handler is given the request and nothing else.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from shared.http.problems import body_too_large

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_DIGITS = 18
"""Of a Content-Length that is read as a number; one of more digits is above every limit."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoute(APIRoute):
    """A route whose handler is given the request and nothing else.

    It has no dependencies but the declaration that it is public: nothing would work them out.
    """

    def get_route_handler(self) -> Handler:
        """The handler as it is."""
        return self.endpoint


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a direct route is, and what answers there."""

    path: re.Pattern[str]
    methods: frozenset[str]
    endpoint: Handler


class _WholeRequest(Request):
    """A request whose body has arrived."""

    def __init__(self, scope: Scope, receive: Receive, body: bytes) -> None:
        super().__init__(scope, receive)
        self._whole = body

    async def body(self) -> bytes:
        """The body."""
        return self._whole


class DirectLayer:
    """Answers direct routes; hands everything else on."""

    def __init__(self, app: ASGIApp, owner: FastAPI, *, max_body_bytes: int) -> None:
        self._app = app
        self._targets = _targets(owner)
        self._handlers: Mapping[Any, Callable[..., Any]] = owner.exception_handlers
        self._owner = owner
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http":
            for target in self._targets:
                match = target.path.match(scope["path"])
                if match is not None and scope["method"] in target.methods:
                    scope["app"] = self._owner
                    scope["endpoint"] = target.endpoint
                    scope["path_params"] = match.groupdict()
                    await self._answer(target, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _answer(self, target: _Target, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(scope, receive)
        if body is None:
            return  # the client left
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        request = _WholeRequest(scope, receive, body)
        try:
            response = await target.endpoint(request)
        except Exception as error:  # noqa: BLE001 - raised again where no handler is for it
            response = await self._problem(request, error)
        await response(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Response | None:
        """The body; a refusal when it is too large; None when the client left before its end."""
        for name, value in scope["headers"]:
            if name == b"content-length" and self._is_above(value):
                return body_too_large()
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                return body_too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _is_above(self, length: bytes) -> bool:
        return length.isdigit() and (len(length) > MAX_DIGITS or int(length) > self._max_body_bytes)

    async def _problem(self, request: Request, error: Exception) -> Response:
        """The answer to an error by the application's own handlers. Raises it where none is."""
        for kind in type(error).__mro__:
            if kind is not Exception and (handler := self._handlers.get(kind)) is not None:
                answer = handler(request, error)
                response: Response = await answer if inspect.isawaitable(answer) else answer
                return response
        raise error


def _targets(owner: FastAPI) -> Sequence[_Target]:
    """Every direct route of the application, under its whole path."""
    return [
        _Target(
            path=compile_path(context.path)[0],
            methods=frozenset(context.methods or ()),
            endpoint=context.endpoint,
        )
        for context in iter_route_contexts(owner.routes)
        if isinstance(context.original_route, DirectRoute)
        and context.path is not None
        and context.endpoint is not None
    ]
