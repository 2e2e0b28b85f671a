"""`Idempotency-Key`: a POST that creates, sent twice, creates once and is answered the same twice.

The key's row is written in the transaction of the effect, so there is no moment in which one
exists without the other. A refused request rolls back and leaves no key: it may be corrected and
sent again. The response is sent after the commit, by the handler's return.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from asyncpg.exceptions import LockNotAvailableError
from fastapi import Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from shared.errors import Refused

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import PoolConnectionProxy

    from shared.http.auth import Principal

    AnyConnection = Connection[Record] | PoolConnectionProxy[Record]

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
RETENTION_DAYS = 30
"""Keys are kept at least this long, then `purge` may remove them."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_KEPT_HEADERS = ("etag", "location", "content-type")

IdempotencyKey = Annotated[
    str | None, Header(alias=HEADER, description="1 to 255 visible characters, new for each intent")
]
"""FastAPI parameter, so that the reference shows the header."""


class Slot:
    """One key within one transaction. Either `replay` is the first answer, or `save` stores it."""

    def __init__(self) -> None:
        self.replay: Response | None = None
        self.saved: Response | None = None

    def save(
        self,
        status: int,
        body: BaseModel,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The answer, to be kept with the key and returned by the handler as it is."""
        self.saved = Response(
            body.model_dump_json(by_alias=True),
            status_code=status,
            media_type="application/json",
            headers=dict(headers or {}),
        )
        return self.saved


class IdempotencyStore:
    """The keys of one service, in its schema."""

    def __init__(self, schema: str) -> None:
        if not _SCHEMA.fullmatch(schema):
            msg = f"not a schema name: {schema!r}"
            raise ValueError(msg)
        self._table = f"{schema}.idempotency_key"

    @asynccontextmanager
    async def slot(
        self,
        connection: AnyConnection,
        request: Request,
        principal: Principal,
        *,
        now: datetime,
    ) -> AsyncIterator[Slot]:
        """Reserve the request's key inside the open transaction of `connection`.

            async with store.slot(connection, request, principal, now=now) as slot:
                if slot.replay is None:
                    created = await create(connection, …)
                    slot.save(201, created)
            # commit here, then: return slot.replay or slot.saved

        A second request with the same key waits for the first one's transaction, then gets its
        answer. Raises Refused: 400 without or with a bad key, 422 when the key came with another
        body, 409 when the first one takes longer than the session's lock_timeout.
        """
        if not connection.is_in_transaction():
            msg = "an idempotency key needs an open transaction"
            raise RuntimeError(msg)
        slot = Slot()
        place = (principal.subject, _route(request), _key(request))
        slot.replay = await self._reserve(connection, place, await fingerprint(request), now)
        yield slot
        if slot.replay is not None:
            return
        if slot.saved is None:
            msg = "a reserved idempotency key was left without an answer"
            raise RuntimeError(msg)
        await self._store(connection, place, slot.saved)

    async def purge(self, connection: AnyConnection, *, before: datetime) -> None:
        """Forget keys made before `before`."""
        await connection.execute(
            f"DELETE FROM {self._table} WHERE created_at < $1",  # noqa: S608 - checked name
            before,
        )

    async def _reserve(
        self,
        connection: AnyConnection,
        place: tuple[str, str, str],
        print_: bytes,
        now: datetime,
    ) -> Response | None:
        try:
            # A concurrent request with this key blocks here until the first commits or rolls back.
            inserted = await connection.fetchval(
                f"INSERT INTO {self._table} (subject, route, key, fingerprint, created_at)"  # noqa: S608
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true",
                *place,
                print_,
                now,
            )
        except LockNotAvailableError:
            msg = "The first request with this key is still being handled; send it again later."
            raise Refused("idempotency-in-progress", msg, status=409) from None
        if inserted:
            return None
        row = await connection.fetchrow(
            f"SELECT fingerprint, status, headers::text, body FROM {self._table}"  # noqa: S608
            " WHERE subject = $1 AND route = $2 AND key = $3",
            *place,
        )
        if row is None or row["status"] is None:
            msg = "The first request with this key is still being handled; send it again later."
            raise Refused("idempotency-in-progress", msg, status=409)
        if bytes(row["fingerprint"]) != print_:
            msg = "This key came with another body before. Use a new key for a new intent."
            raise Refused("idempotency-key-reused", msg, status=422)
        headers: dict[str, str] = json.loads(row["headers"])
        return Response(
            bytes(row["body"]),
            status_code=row["status"],
            headers={**headers, REPLAYED_HEADER: "true"},
        )

    async def _store(
        self, connection: AnyConnection, place: tuple[str, str, str], answer: Response
    ) -> None:
        kept = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
        await connection.execute(
            f"UPDATE {self._table} SET status = $4, headers = $5::text::jsonb, body = $6"  # noqa: S608
            " WHERE subject = $1 AND route = $2 AND key = $3",
            *place,
            answer.status_code,
            json.dumps(kept),
            bytes(answer.body),
        )


async def fingerprint(request: Request) -> bytes:
    """SHA-256 over method, path, query and body: what makes two requests the same."""
    hashed = hashlib.sha256()
    for part in (request.method, request.url.path, request.url.query):
        hashed.update(part.encode() + b"\x00")
    hashed.update(await request.body())
    return hashed.digest()


def _key(request: Request) -> str:
    given = request.headers.getlist(HEADER)
    if not given:
        msg = f"Send {HEADER}: a text that is new for each intent, the same for each retry."
        raise Refused("idempotency-key-missing", msg, status=400)
    key = given[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or not _KEY.fullmatch(key):
        msg = f"{HEADER} must be one text of 1 to 255 visible ASCII characters."
        raise Refused("idempotency-key-missing", msg, status=400)
    return key


def _route(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def answer_of(slot: Slot) -> Response:
    """The response to return once the transaction has committed."""
    answer: Any = slot.replay or slot.saved
    if not isinstance(answer, Response):
        msg = "the slot holds no answer yet"
        raise RuntimeError(msg)  # noqa: TRY004 - a fault in the handler, not a bad argument
    return answer
