"""A local Slack: incoming webhooks, `chat.postMessage` and `chat.update`, with faults on demand.

It keeps what it accepted, refuses what Slack would refuse (no text, unknown block types, too long
texts, wrong token, unknown timestamp), and can be told to rate-limit, to fail, to hang before or
after accepting, or to redirect.

Alone: `python -m tests.support.slack_server --port N --record FILE` writes one JSON line for each
accepted message; `POST /_control/faults` programs it and `GET /_control/received` shows all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from aiohttp import web

from tests.support.listen import bound_socket

TOKEN = "xoxb-local-stand-in"
HOOK_PATH = "/services/TLOCAL/BLOCAL/localhook"

MAX_BLOCKS = 50
MAX_HEADER_CHARS = 150
MAX_SECTION_CHARS = 3000
MAX_FIELD_CHARS = 2000
MAX_FIELDS = 10
KNOWN_BLOCKS = frozenset({"header", "section", "rich_text", "context", "divider", "actions"})
_REAL_CHANNEL = re.compile(r"[CDGU][A-Z0-9]{2,}")

Body: TypeAlias = "dict[str, object]"


@dataclass(frozen=True)
class Fault:
    """What the next request meets instead of, or before, its normal answer.

    status: HTTP status to answer with, 0 for the normal answer.
    error: a Slack error code, answered as Slack does.
    hang_s: silence before anything happens; hang_after_s: the message is accepted first.
    """

    status: int = 0
    retry_after_s: int | None = None
    error: str = ""
    hang_s: float = 0.0
    hang_after_s: float = 0.0
    location: str = ""
    body: str = ""


def rate_limited(retry_after_s: int) -> Fault:
    """HTTP 429 with Retry-After."""
    return Fault(status=429, retry_after_s=retry_after_s, error="ratelimited")


@dataclass(frozen=True)
class Received:
    """One request that was understood. `hook` is empty for an API call."""

    method: str
    hook: str
    channel: str
    ts: str
    body: Body


@dataclass
class SlackServer:
    """The stand-in. Use it as an async context manager, or `start` and `stop`."""

    host: str = "127.0.0.1"
    port: int = 0
    record: Path | None = None
    token: str = TOKEN
    received: list[Received] = field(default_factory=list)
    requests: int = 0
    messages: dict[tuple[str, str], list[Body]] = field(default_factory=dict)
    """Every state that each message has had, by (channel, ts), oldest first."""
    faults: deque[Fault] = field(default_factory=deque)
    _runner: web.AppRunner | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def api_url(self) -> str:
        """Base URL for an API client."""
        return f"http://{self.host}:{self.port}/api/"

    @property
    def hook_url(self) -> str:
        """URL of an incoming webhook."""
        return f"http://{self.host}:{self.port}{HOOK_PATH}"

    def fail_next(self, *faults: Fault) -> None:
        """Let the next requests, in order, meet `faults`."""
        self.faults.extend(faults)

    async def start(self) -> None:
        """Bind and serve."""
        app = web.Application()
        app.router.add_post("/services/{team}/{app}/{hook}", self._webhook)
        app.router.add_post("/api/chat.postMessage", self._post_message)
        app.router.add_post("/api/chat.update", self._update)
        app.router.add_post("/_control/faults", self._control_faults)
        app.router.add_get("/_control/received", self._control_received)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        listener = bound_socket(self.host, self.port)
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Stop serving; hanging answers are let go."""
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def _webhook(self, request: web.Request) -> web.Response:
        fault = await self._next_fault()
        if fault.status or fault.error:
            return _failed(fault, as_text=True)
        body = await _body(request)
        problem = _message_problem(body)
        if problem:
            return web.Response(status=400, text=problem)
        if request.path != HOOK_PATH:
            return web.Response(status=404, text="no_service")
        self._keep("webhook", HOOK_PATH, "", "", body)
        await self._hang(fault.hang_after_s)
        return web.Response(text="ok")

    async def _post_message(self, request: web.Request) -> web.Response:
        fault = await self._next_fault()
        if fault.status or fault.error:
            return _failed(fault, as_text=False)
        body = await _body(request)
        problem = self._call_problem(request, body)
        if problem:
            return _answer({"ok": False, "error": problem})
        place = str(body["channel"])
        # As Slack does: a message to a user lives in a direct conversation of another id.
        channel = f"D{place[1:]}" if place.startswith("U") else place
        ts = f"1700000000.{len(self.received) + 1:06d}"
        self._keep("chat.postMessage", "", channel, ts, body)
        self.messages[channel, ts] = [body]
        await self._hang(fault.hang_after_s)
        return _answer({"ok": True, "channel": channel, "ts": ts, "message": body})

    async def _update(self, request: web.Request) -> web.Response:
        fault = await self._next_fault()
        if fault.status or fault.error:
            return _failed(fault, as_text=False)
        body = await _body(request)
        problem = self._call_problem(request, body)
        channel, ts = str(body.get("channel")), str(body.get("ts"))
        if not problem and (channel, ts) not in self.messages:
            problem = "message_not_found"
        if problem:
            return _answer({"ok": False, "error": problem})
        self._keep("chat.update", "", channel, ts, body)
        self.messages[channel, ts].append(body)
        await self._hang(fault.hang_after_s)
        return _answer({"ok": True, "channel": channel, "ts": ts, "text": body.get("text")})

    async def _control_faults(self, request: web.Request) -> web.Response:
        self.fail_next(*(Fault(**fault) for fault in await request.json()))
        return _answer({"ok": True, "waiting": len(self.faults)})

    async def _control_received(self, _request: web.Request) -> web.Response:
        return _answer({"received": [asdict(entry) for entry in self.received]})

    def _call_problem(self, request: web.Request, body: Body) -> str:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return "invalid_auth"
        if not _REAL_CHANNEL.fullmatch(str(body.get("channel", ""))):
            return "channel_not_found"
        return _message_problem(body)

    def _keep(self, method: str, hook: str, channel: str, ts: str, body: Body) -> None:
        entry = Received(method, hook, channel, ts, body)
        self.received.append(entry)
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")

    async def _next_fault(self) -> Fault:
        self.requests += 1
        fault = self.faults.popleft() if self.faults else Fault()
        await self._hang(fault.hang_s)
        return fault

    async def _hang(self, seconds: float) -> None:
        if seconds:
            try:
                await asyncio.wait_for(self._released.wait(), seconds)
            except TimeoutError:
                return


def texts_of(body: Mapping[str, object]) -> list[str]:
    """Every text that a message shows, in order, its fallback first."""
    found = [str(body.get("text", ""))]
    found += _texts_in(body.get("blocks"))
    return found


def _texts_in(node: object) -> list[str]:
    if isinstance(node, list):
        return [text for item in node for text in _texts_in(item)]
    if isinstance(node, dict):
        own = [node["text"]] if isinstance(node.get("text"), str) else []
        return own + [text for value in node.values() for text in _texts_in(value)]
    return []


async def _body(request: web.Request) -> Body:
    if request.content_type == "application/json":
        body = await request.json()
        return body if isinstance(body, dict) else {}
    form = await request.post()
    body = {name: str(value) for name, value in form.items()}
    if "blocks" in body:
        body["blocks"] = json.loads(body["blocks"])
    return body


def _message_problem(body: Body) -> str:
    """The error code with which Slack would refuse this message; empty for a good one."""
    if not isinstance(body.get("text"), str) or not str(body["text"]).strip():
        return "no_text"
    blocks = body.get("blocks", [])
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        return "invalid_blocks"
    return "" if all(_is_good_block(block) for block in blocks) else "invalid_blocks"


def _is_good_block(block: object) -> bool:
    if not isinstance(block, dict) or block.get("type") not in KNOWN_BLOCKS:
        return False
    if block["type"] == "header":
        return _is_text(block.get("text"), MAX_HEADER_CHARS, {"plain_text"})
    if block["type"] == "section":
        fields = block.get("fields", [])
        if not isinstance(fields, list) or len(fields) > MAX_FIELDS:
            return False
        whole = "text" not in block or _is_text(block["text"], MAX_SECTION_CHARS)
        return whole and all(_is_text(cell, MAX_FIELD_CHARS) for cell in fields)
    if block["type"] in {"context", "rich_text", "actions"}:
        return isinstance(block.get("elements"), list) and bool(block["elements"])
    return True


def _is_text(node: object, limit: int, kinds: set[str] | None = None) -> bool:
    if not isinstance(node, dict):
        return False
    kind, text = node.get("type"), node.get("text")
    allowed = kinds or {"plain_text", "mrkdwn"}
    return kind in allowed and isinstance(text, str) and 0 < len(text) <= limit


def _failed(fault: Fault, *, as_text: bool) -> web.Response:
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    if fault.location:
        headers["Location"] = fault.location
    if fault.body or as_text:
        return web.Response(
            status=fault.status or 400, text=fault.body or fault.error, headers=headers
        )
    body = {"ok": False, "error": fault.error or "internal_error"}
    return web.Response(
        status=fault.status or 200,
        text=json.dumps(body),
        content_type="application/json",
        headers=headers,
    )


def _answer(body: Mapping[str, object]) -> web.Response:
    return web.Response(text=json.dumps(body), content_type="application/json")


async def _serve(host: str, port: int, record: Path | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with SlackServer(host, port, record) as server:
        listening = {"listening": server.port, "api_url": server.api_url, "hook": server.hook_url}
        sys.stdout.write(json.dumps(listening) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A local stand-in for Slack.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--record", type=Path, help="JSON-lines file of accepted messages")
    options = parser.parse_args()
    asyncio.run(_serve(options.host, options.port, options.record))


if __name__ == "__main__":
    main()
