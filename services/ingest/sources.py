"""Connections in memory, so that webhooks are taken while the database is away."""

from __future__ import annotations

import asyncio
import time

import structlog

from services.ingest.cipher import SecretCipher
from services.ingest.domain.translation import Connection
from services.ingest.store import StoredSource, bounded_transaction, load_sources
from shared.db.pool import DATABASE_ERRORS, Pool
from shared.errors import Misconfigured, Refused

MISS_INTERVAL_S = 0.5
"""Unknown names ask the database no more often than this: anybody can send them."""

log = structlog.get_logger()


class UnknownSource(Refused):
    """There is no connection of this name."""

    def __init__(self) -> None:
        super().__init__(
            "unknown-source",
            "No connection has this name. Check the address, or create the connection first.",
            status=404,
        )


class Sources:
    """All connections, read again every few seconds and when an unknown one is asked for."""

    def __init__(self, pool: Pool, cipher: SecretCipher, *, timeout_s: float) -> None:
        self._pool = pool
        self._cipher = cipher
        self._timeout_s = timeout_s
        self._known: dict[str, Connection] = {}
        self._loaded = False
        self._asked_at = float("-inf")
        self._refreshing = asyncio.Lock()

    async def get(self, source_id: str) -> Connection:
        """The connection. Raises UnknownSource; Refused (503) when that cannot be found out."""
        connection = self._known.get(source_id)
        if connection is not None:
            return connection
        async with self._refreshing:
            if source_id not in self._known and self._may_ask():
                self._asked_at = time.monotonic()
                try:
                    await self._read()
                except DATABASE_ERRORS:
                    self._loaded = False
        if source_id in self._known:
            return self._known[source_id]
        if self._loaded:
            raise UnknownSource
        msg = "Connections cannot be looked up at the moment. Send it again."
        raise Refused("storage-unavailable", msg, status=503)

    def _may_ask(self) -> bool:
        return time.monotonic() - self._asked_at > MISS_INTERVAL_S

    async def refresh(self) -> None:
        """Read all connections again. What was known stays when that fails, which raises."""
        async with self._refreshing:
            await self._read()

    async def _read(self) -> None:
        async with bounded_transaction(self._pool, self._timeout_s) as tx:
            stored = await load_sources(tx)
        known = {}
        for source in stored:
            try:
                known[source.id] = self.opened(source)
            except Misconfigured as fault:
                log.warning("ingest.source_locked", source=source.id, cause=str(fault))
        self._known = known
        self._loaded = True

    def opened(self, source: StoredSource) -> Connection:
        """The connection with its secrets. Raises Misconfigured when no key opens them."""
        return Connection(
            id=source.id,
            provider=source.adapter,
            tenants=frozenset(source.tenants),
            secrets=self._cipher.open(source.secrets),
            public_url=source.public_url,
            mapping=source.mapping,
            revision=source.revision,
            options=source.options,
        )

    async def check(self) -> None:
        """Readiness: raises Refused until connections were read once."""
        if not self._loaded and not self._known:
            await self.refresh()
