"""SQL of the schema `ingest`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.errors import AttainError
from shared.facts.record import Record, decode_record, encode_record

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool


@asynccontextmanager
async def bounded_transaction(pool: Pool, timeout_s: float) -> AsyncIterator[Connection]:
    """A transaction that is over, one way or the other, within `timeout_s`.

    A refusal of ours rolls back. After anything else the connection is dropped: putting it back
    would wait for a server that may not answer. Raises TimeoutError, or what the database raised;
    a COMMIT whose answer was lost raises too, and may have taken effect.
    """
    async with asyncio.timeout(timeout_s):
        connection = await pool.acquire(timeout=timeout_s)
        try:
            transaction = connection.transaction()
            await transaction.start()
            yield connection
            await transaction.commit()
        except AttainError:
            await transaction.rollback()
            raise
        except BaseException:
            connection.terminate()
            raise
        finally:
            await pool.release(connection, timeout=timeout_s)


async def insert_outbox(tx: Connection, messages: Iterable[tuple[str, bytes, bytes]]) -> None:
    """Queue (topic without prefix, key, value) for the relay."""
    topics, keys, values = zip(*messages, strict=True)
    await tx.execute(
        "INSERT INTO outbox (topic, key, value) "
        "SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])",
        list(topics),
        list(keys),
        list(values),
    )


# Connections


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A connection as it is stored: its secrets sealed."""

    id: str
    adapter: str
    tenants: tuple[str, ...]
    public_url: str
    mapping: Mapping[str, Mapping[str, str]]
    options: Mapping[str, str]
    secrets: bytes
    revision: int
    version: int
    updated_at: datetime


_SOURCE_COLUMNS = (
    "id, adapter, tenants::text AS tenants, public_url, mapping::text AS mapping, "
    "options::text AS options, secrets, revision, version, updated_at"
)


def _source(row: Any) -> StoredSource:  # noqa: ANN401 - asyncpg.Record
    return StoredSource(
        id=row["id"],
        adapter=row["adapter"],
        tenants=tuple(json.loads(row["tenants"])),
        public_url=row["public_url"],
        mapping=json.loads(row["mapping"]),
        options=json.loads(row["options"]),
        secrets=row["secrets"],
        revision=row["revision"],
        version=row["version"],
        updated_at=row["updated_at"],
    )


async def load_sources(tx: Connection | Pool) -> list[StoredSource]:
    """All connections, by id."""
    rows = await tx.fetch(f"SELECT {_SOURCE_COLUMNS} FROM source ORDER BY id")  # noqa: S608 - constant
    return [_source(row) for row in rows]


async def page_of_sources(
    tx: Connection | Pool, *, after: str | None, limit: int
) -> list[StoredSource]:
    """Connections after an id."""
    rows = await tx.fetch(
        f"SELECT {_SOURCE_COLUMNS} FROM source WHERE $1::text IS NULL OR id > $1 "  # noqa: S608 - constant
        "ORDER BY id LIMIT $2",
        after,
        limit,
    )
    return [_source(row) for row in rows]


async def load_source(
    tx: Connection | Pool, source_id: str, *, lock: bool = False
) -> StoredSource | None:
    """One connection. lock: until the end of the transaction."""
    row = await tx.fetchrow(
        f"SELECT {_SOURCE_COLUMNS} FROM source WHERE id = $1" + (" FOR UPDATE" if lock else ""),  # noqa: S608 - constant
        source_id,
    )
    return None if row is None else _source(row)


async def lock_source_id(tx: Connection, source_id: str) -> None:
    """Hold the name of a connection that may not exist yet, until the end of the transaction."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ingest/source/' || $1, 0))", source_id
    )


async def save_source(
    tx: Connection, source: StoredSource, *, actor: str, change: Mapping[str, object]
) -> datetime:
    """Write the connection, and who changed what; the instant it was written at."""
    updated_at: datetime = await tx.fetchval(
        "INSERT INTO source (id, adapter, tenants, public_url, mapping, options, secrets, "
        "revision, version) VALUES ($1, $2, $3::text::jsonb, $4, $5::text::jsonb, "
        "$6::text::jsonb, $7, $8, $9) "
        "ON CONFLICT (id) DO UPDATE SET adapter = excluded.adapter, tenants = excluded.tenants, "
        "public_url = excluded.public_url, mapping = excluded.mapping, "
        "options = excluded.options, secrets = excluded.secrets, revision = excluded.revision, "
        "version = excluded.version, updated_at = now() RETURNING updated_at",
        source.id,
        source.adapter,
        json.dumps(source.tenants),
        source.public_url,
        json.dumps(source.mapping),
        json.dumps(source.options),
        source.secrets,
        source.revision,
        source.version,
    )
    await tx.execute(
        "INSERT INTO source_change (source, version, actor, document) "
        "VALUES ($1, $2, $3, $4::text::jsonb)",
        source.id,
        source.version,
        actor,
        json.dumps(change),
    )
    return updated_at


# Rejects


@dataclass(frozen=True, slots=True)
class StoredReject:
    """One event that could not be read."""

    id: str
    number: int
    source: str
    cause: str
    message: str
    pointer: str
    raw_id: str
    excerpt: str
    received_at: datetime
    state: str
    resolution: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class NewReject:
    """What is kept of an event that could not be read. body: a delivery of it alone."""

    id: str
    cause: str
    message: str
    pointer: str
    excerpt: str
    body: bytes


_REJECT_COLUMNS = (
    "id, number, source, cause, message, pointer, raw_id, excerpt, received_at, state, "
    "resolution::text AS resolution"
)


def _reject(row: Any) -> StoredReject:  # noqa: ANN401 - asyncpg.Record
    fields = {name: row[name] for name in StoredReject.__slots__ if name != "resolution"}
    resolution = row["resolution"]
    return StoredReject(**fields, resolution=None if resolution is None else json.loads(resolution))


async def insert_rejects(  # noqa: PLR0913 - one delivery, named at each call
    tx: Connection,
    rejects: Sequence[NewReject],
    *,
    source: str,
    raw_id: str,
    headers: Mapping[str, str],
    received_at: datetime,
) -> None:
    """Keep what could not be read of one delivery; once, however often it is asked."""
    await tx.execute(
        "INSERT INTO reject (id, source, cause, message, pointer, raw_id, excerpt, headers, body, "
        "received_at) SELECT id, $1, cause, message, pointer, $2, excerpt, $3::text::jsonb, body, "
        "$4 FROM unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[]) "
        "AS new(id, cause, message, pointer, excerpt, body) ON CONFLICT (id) DO NOTHING",
        source,
        raw_id,
        json.dumps(headers),
        received_at,
        [reject.id for reject in rejects],
        [reject.cause for reject in rejects],
        [reject.message for reject in rejects],
        [reject.pointer for reject in rejects],
        [reject.excerpt for reject in rejects],
        [reject.body for reject in rejects],
    )


async def page_of_rejects(  # noqa: PLR0913 - one argument a filter
    tx: Connection | Pool,
    *,
    state: str | None,
    source: str | None,
    cause: str | None,
    before: int | None,
    limit: int,
) -> list[StoredReject]:
    """Rejects, the newest first."""
    rows = await tx.fetch(
        f"SELECT {_REJECT_COLUMNS} FROM reject WHERE ($1::text IS NULL OR state = $1) "  # noqa: S608 - constant
        "AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR cause = $3) "
        "AND ($4::bigint IS NULL OR number < $4) ORDER BY number DESC LIMIT $5",
        state,
        source,
        cause,
        before,
        limit,
    )
    return [_reject(row) for row in rows]


async def load_reject(tx: Connection | Pool, reject_id: str) -> StoredReject | None:
    """One reject."""
    row = await tx.fetchrow(f"SELECT {_REJECT_COLUMNS} FROM reject WHERE id = $1", reject_id)  # noqa: S608 - constant
    return None if row is None else _reject(row)


@dataclass(frozen=True, slots=True)
class KeptDelivery:
    """What a reject is read again from."""

    source: str
    raw_id: str
    state: str
    headers: Mapping[str, str]
    body: bytes


async def lock_reject(tx: Connection, reject_id: str) -> KeptDelivery | None:
    """The reject's delivery; nobody else resolves it before the end of the transaction."""
    row = await tx.fetchrow(
        "SELECT source, raw_id, state, headers::text AS headers, body FROM reject "
        "WHERE id = $1 FOR UPDATE",
        reject_id,
    )
    if row is None:
        return None
    return KeptDelivery(
        row["source"], row["raw_id"], row["state"], json.loads(row["headers"]), row["body"]
    )


async def resolve_reject(
    tx: Connection, reject_id: str, *, state: str, resolution: Mapping[str, object]
) -> None:
    """Close the reject."""
    await tx.execute(
        "UPDATE reject SET state = $2, resolution = $3::text::jsonb WHERE id = $1",
        reject_id,
        state,
        json.dumps(resolution),
    )


async def restate_reject(
    tx: Connection, reject_id: str, *, cause: str, message: str, pointer: str
) -> None:
    """It still cannot be read, and this is why now."""
    await tx.execute(
        "UPDATE reject SET cause = $2, message = $3, pointer = $4 WHERE id = $1",
        reject_id,
        cause,
        message,
        pointer,
    )


# Reference data


@dataclass(frozen=True, slots=True)
class Document:
    """What was stated about one record of reference data, folded. version: statements so far."""

    kind: str
    id: str
    record: Record
    version: int
    updated_at: datetime


_DOCUMENT_COLUMNS = "kind, id, document::text AS document, version, updated_at"


def _document(row: Any) -> Document:  # noqa: ANN401 - asyncpg.Record
    return Document(
        row["kind"], row["id"], decode_record(row["document"]), row["version"], row["updated_at"]
    )


async def lock_documents(
    tx: Connection, kind: str, ids: Iterable[str]
) -> dict[str, tuple[Record, int]]:
    """The documents and their versions, locked in byte order; absent ones are made, version 0."""
    ordered = sorted(set(ids), key=str.encode)
    await tx.execute(
        "INSERT INTO reference_document (kind, id, document, version) "
        "SELECT $1, id, $3::json, 0 FROM unnest($2::text[]) AS new(id) ON CONFLICT DO NOTHING",
        kind,
        ordered,
        encode_record(Record()),
    )
    rows = await tx.fetch(
        "SELECT id, document::text AS document, version FROM reference_document "
        "WHERE kind = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
        kind,
        ordered,
    )
    return {row["id"]: (decode_record(row["document"]), row["version"]) for row in rows}


async def save_documents(
    tx: Connection, kind: str, documents: Mapping[str, tuple[Record, int]]
) -> None:
    """Write documents and versions that this transaction has locked."""
    await tx.execute(
        "UPDATE reference_document AS d SET document = new.document::json, "
        "version = new.version, updated_at = now() "
        "FROM unnest($2::text[], $3::text[], $4::bigint[]) AS new(id, document, version) "
        "WHERE d.kind = $1 AND d.id = new.id",
        kind,
        list(documents),
        [encode_record(record) for record, _ in documents.values()],
        [version for _, version in documents.values()],
    )


async def load_document(tx: Connection | Pool, kind: str, document_id: str) -> Document | None:
    """One document."""
    row = await tx.fetchrow(
        f"SELECT {_DOCUMENT_COLUMNS} FROM reference_document WHERE kind = $1 AND id = $2",  # noqa: S608 - constant
        kind,
        document_id,
    )
    return None if row is None else _document(row)


async def page_of_documents(
    tx: Connection | Pool, kind: str, *, prefix: str = "", after: str | None, limit: int
) -> list[Document]:
    """Documents of a kind, by id, whose ids begin with `prefix`."""
    rows = await tx.fetch(
        f"SELECT {_DOCUMENT_COLUMNS} FROM reference_document WHERE kind = $1 "  # noqa: S608 - constant
        "AND starts_with(id, $2) AND ($3::text IS NULL OR id > $3) ORDER BY id LIMIT $4",
        kind,
        prefix,
        after,
        limit,
    )
    return [_document(row) for row in rows]
