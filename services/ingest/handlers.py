"""Use cases of ingest: take deliveries, keep connections, rejects and reference data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import SpanKind

from services.ingest import store
from services.ingest.adapters import ADAPTERS
from services.ingest.batches import Message
from services.ingest.cipher import SecretCipher
from services.ingest.domain.checks import Unacceptable
from services.ingest.domain.cloudevents import (
    BATCH,
    EventsRefused,
    read_events,
)
from services.ingest.domain.translation import (
    Acknowledgement,
    Connection,
    Delivery,
    NotAuthentic,
    RawRequest,
    Reject,
    Translation,
)
from services.ingest.publisher import NotDurable, Publisher, message_of
from services.ingest.sources import Sources
from shared.clock import Clock
from shared.db.pool import DATABASE_ERRORS
from shared.errors import InvalidValue, Refused
from shared.events.deliveries import delivery_envelope, kept_headers
from shared.events.envelope import Envelope
from shared.facts.fact import read_fact
from shared.ids import derived_id
from shared.runtime.failpoints import failpoint
from shared.telemetry.catalogue import Telemetry
from shared.telemetry.logs import redact_text
from shared.telemetry.traces import Key, child_span

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from shared.db.pool import Connection as Database
    from shared.db.pool import Pool

EVENTS = "events"
"""The connection that deliveries of `POST /v1/events` are kept under."""

KEPT_WHOLE_BYTES = 1_048_576
"""A delivery up to this size is one record of `crm.raw`. Larger batches of CloudEvents are kept as
several batches, each event's bytes unchanged: a Kafka record has its limit."""

PEOPLE_TIMEOUT_S = 5.0
"""How long requests of people wait for the database."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """What the use cases need. Built once, in wiring."""

    pool: Pool
    publisher: Publisher
    sources: Sources
    cipher: SecretCipher
    telemetry: Telemetry
    clock: Clock
    base_url: str
    database_timeout_s: float

    def transaction(self) -> AbstractAsyncContextManager[Database]:
        """A transaction for a request of a person."""
        return store.bounded_transaction(self.pool, PEOPLE_TIMEOUT_S)


# Deliveries


async def take_hook(ingest: Ingest, source_id: str, request: RawRequest) -> Acknowledgement:
    """Keep a webhook's delivery and publish what it says.

    Raises Refused: 404 for an unknown source, 401 for what does not prove its origin, 400 for a
    body that cannot be read at all, 503 when it cannot be kept.
    """
    connection = await ingest.sources.get(source_id)
    adapter = ADAPTERS[connection.provider]
    received_at = ingest.clock.now()
    try:
        adapter.verify(request, connection, received_at)
    except NotAuthentic as refusal:
        ingest.telemetry.facts_rejected.labels(refusal.code).inc()
        raise
    body = adapter.redact(request.body)
    raw = delivery_envelope(
        connection=connection.id,
        provider=connection.provider,
        method=request.method,
        headers=request.headers,
        body=body,
        received_at=received_at,
    )
    delivery = Delivery(raw.id, received_at, request.headers, body)
    translation = translated(ingest, connection, delivery)
    await failpoint("ingest.received")
    await _publish(ingest, (raw,), translation.facts)
    if translation.rejects:
        await _keep_rejects(ingest, connection, delivery, translation.rejects)
    return adapter.acknowledge()


def translated(ingest: Ingest, connection: Connection, delivery: Delivery) -> Translation:
    """What the delivery says. Raises Refused (400) where nothing of it can be read."""
    try:
        return ADAPTERS[connection.provider].translate(delivery, connection)
    except InvalidValue as error:
        code = error.code if isinstance(error, Unacceptable) else "malformed-json"
        ingest.telemetry.facts_rejected.labels(code).inc()
        raise Refused(code, error.message, status=400) from None


async def take_events(
    ingest: Ingest, headers: Mapping[str, str], method: str, body: bytes
) -> Sequence[str]:
    """Keep posted CloudEvents; the ids of their facts, in their order. All of them or none.

    Raises EventsRefused, Refused: as `read_events`, and 503 when they cannot be kept.
    """
    received_at = ingest.clock.now()

    def raw_of(part: bytes) -> Envelope:
        return delivery_envelope(
            connection=EVENTS,
            provider="cloudevents",
            method=method,
            headers=headers,
            body=part,
            received_at=received_at,
        )

    try:
        if len(body) <= KEPT_WHOLE_BYTES:
            raw = [raw_of(body)]
            facts = read_events(headers, body, received_at=received_at, raw_id=raw[0].id)
        else:
            facts = read_events(headers, body, received_at=received_at)
            raw, facts = _kept_in_parts(headers, body, facts, raw_of)
    except EventsRefused as refusal:
        for problem in refusal.problems:
            ingest.telemetry.facts_rejected.labels(problem.code).inc()
        raise
    await failpoint("ingest.received")
    if facts:
        await _publish(ingest, raw, facts)
    return [fact.id for fact in facts]


def _kept_in_parts(
    headers: Mapping[str, str],
    body: bytes,
    facts: Sequence[Envelope],
    raw_of: Callable[[bytes], Envelope],
) -> tuple[list[Envelope], tuple[Envelope, ...]]:
    """Raw deliveries of a large batch, and its facts, each naming the one it is in."""
    if not headers.get("content-type", "").strip().lower().startswith(BATCH):
        msg = f"one event has at most {KEPT_WHOLE_BYTES} bytes"
        raise Refused("body-too-large", msg, status=413)
    raw: list[Envelope] = []
    named: list[Envelope] = []
    part: list[bytes] = []

    def close() -> None:
        raw.append(raw_of(b"[" + b",".join(part) + b"]"))
        start = len(named)
        named.extend(
            msgspec.structs.replace(fact, rawid=raw[-1].id)
            for fact in facts[start : start + len(part)]
        )
        part.clear()

    size = 0
    for document in msgspec.json.decode(body, type=list[msgspec.Raw]):
        event = bytes(document)
        if part and size + len(event) + len(part) + 2 > KEPT_WHOLE_BYTES:
            close()
            size = 0
        part.append(event)
        size += len(event)
    close()
    return raw, tuple(named)


async def _publish(ingest: Ingest, raw: Sequence[Envelope], facts: Sequence[Envelope]) -> None:
    messages = [message_of(envelope) for envelope in (*raw, *facts)]
    with child_span("publish", SpanKind.PRODUCER) as span:
        kept = await ingest.publisher.publish(messages)
        span.set_attribute(Key.KEPT, kept)
    _count(ingest, messages)


def _count(ingest: Ingest, messages: Sequence[Message]) -> None:
    counts: dict[str, int] = {}
    for message in messages:
        counts[message.topic] = counts.get(message.topic, 0) + 1
    for topic, number in counts.items():
        ingest.telemetry.facts_accepted.labels(topic).inc(number)


# Rejects


async def _keep_rejects(
    ingest: Ingest, connection: Connection, delivery: Delivery, rejects: Sequence[Reject]
) -> None:
    """Keep them, or refuse the delivery: its sender then has what nobody could be shown."""
    for reject in rejects:
        ingest.telemetry.facts_rejected.labels(reject.cause).inc()
    try:
        async with store.bounded_transaction(ingest.pool, ingest.database_timeout_s) as tx:
            await store.insert_rejects(
                tx,
                [_new_reject(connection, delivery, reject) for reject in rejects],
                source=connection.id,
                raw_id=delivery.raw_id,
                headers=kept_headers(delivery.headers),
                received_at=delivery.received_at,
            )
    except DATABASE_ERRORS:
        raise NotDurable from None


def _new_reject(connection: Connection, delivery: Delivery, reject: Reject) -> store.NewReject:
    return store.NewReject(
        id=derived_id("reject", delivery.raw_id, reject.pointer),
        cause=reject.cause,
        message=storable(reject.message),
        pointer=storable(reject.pointer),
        excerpt=storable(redacted(reject.excerpt)),
        body=ADAPTERS[connection.provider].alone(delivery.body, reject.pointer),
    )


def storable(text: str) -> str:
    """`text` as PostgreSQL can hold it: without NUL characters."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


_ADDRESS = re.compile(r"[^\s\"'<>:,;@]+@[^\s\"'<>:,;@]+")


def redacted(excerpt: str) -> str:
    """An event's beginning as it may be shown: no tokens, no e-mail addresses."""
    return _ADDRESS.sub("[redacted]", redact_text(excerpt))


async def redrive_reject(ingest: Ingest, tx: Database, reject_id: str, *, actor: str) -> None:
    """Read a reject again with today's mapping, as if it arrived now, and publish what it says.

    It stays open, with today's cause, where it still cannot be read. Raises Refused: 404, or 409
    when somebody resolved it before.
    """
    kept = await _open_reject(tx, reject_id)
    connection = await ingest.sources.get(kept.source)
    delivery = Delivery(kept.raw_id, ingest.clock.now(), kept.headers, kept.body)
    translation = translated(ingest, connection, delivery)
    if translation.rejects:
        still = translation.rejects[0]
        await store.restate_reject(
            tx,
            reject_id,
            cause=still.cause,
            message=storable(still.message),
            pointer=storable(still.pointer),
        )
        return
    messages = [message_of(fact) for fact in translation.facts]
    if messages:
        await store.insert_outbox(tx, messages)
        _count(ingest, messages)
    resolution = {
        "actor": actor,
        "at": ingest.clock.now().isoformat(),
        "facts": [fact.id for fact in translation.facts],
        "skipped": [str(skipped.why) for skipped in translation.skipped],
    }
    await store.resolve_reject(tx, reject_id, state="redriven", resolution=resolution)


async def discard_reject(
    ingest: Ingest, tx: Database, reject_id: str, *, actor: str, reason: str
) -> None:
    """Give a reject up, for a reason that is kept. Raises Refused as `redrive_reject`."""
    await _open_reject(tx, reject_id)
    resolution = {"actor": actor, "at": ingest.clock.now().isoformat(), "reason": reason}
    await store.resolve_reject(tx, reject_id, state="discarded", resolution=resolution)


async def _open_reject(tx: Database, reject_id: str) -> store.KeptDelivery:
    kept = await store.lock_reject(tx, reject_id)
    if kept is None:
        raise Refused("not-found", "There is no such reject.", status=404)
    if kept.state != "open":
        msg = f"This reject was {kept.state} before."
        raise Refused("reject-not-open", msg, status=409)
    return kept


# Connections


@dataclass(frozen=True, slots=True)
class SourceChange:
    """What an administrator states about a connection. secrets: None keeps those that are there."""

    adapter: str
    tenants: tuple[str, ...]
    secrets: tuple[str, ...] | None
    public_url: str | None
    mapping: Mapping[str, Mapping[str, str]]
    options: Mapping[str, str]


def wanted_source(
    ingest: Ingest, source_id: str, change: SourceChange, stored: store.StoredSource | None
) -> tuple[store.StoredSource, bool]:
    """The connection as `change` makes it, and whether that differs from what is stored.

    Raises InvalidValue, with a pointer, for one that could not work.
    """
    adapter = ADAPTERS.get(change.adapter)
    if adapter is None:
        msg = f"no adapter of this name; there are {', '.join(sorted(ADAPTERS))}"
        raise InvalidValue(msg, pointer="/adapter")
    before = ingest.cipher.open(stored.secrets) if stored is not None else ()
    secrets = before if change.secrets is None else change.secrets
    public_url = change.public_url or f"{ingest.base_url}/v1/hooks/{source_id}"
    connection = Connection(
        id=source_id,
        provider=change.adapter,
        tenants=frozenset(change.tenants),
        secrets=secrets,
        public_url=public_url,
        mapping=change.mapping,
        options=change.options,
    )
    adapter.check(connection)
    wanted = store.StoredSource(
        id=source_id,
        adapter=change.adapter,
        tenants=tuple(sorted(set(change.tenants))),
        public_url=public_url,
        mapping=change.mapping,
        options=change.options,
        secrets=ingest.cipher.seal(secrets) if stored is None or secrets != before else b"",
        revision=0,
        version=1,
        updated_at=ingest.clock.now(),
    )
    if stored is None:
        return wanted, True
    return _successor(stored, wanted)


def _successor(
    stored: store.StoredSource, wanted: store.StoredSource
) -> tuple[store.StoredSource, bool]:
    read_otherwise = (stored.adapter, stored.mapping, stored.options) != (
        wanted.adapter,
        wanted.mapping,
        wanted.options,
    )
    successor = dataclasses.replace(
        wanted,
        secrets=wanted.secrets or stored.secrets,
        revision=stored.revision + read_otherwise,
        version=stored.version + 1,
    )
    same = dataclasses.replace(
        successor,
        version=stored.version,
        updated_at=stored.updated_at,
    )
    return (stored, False) if same == stored else (successor, True)


def source_document(ingest: Ingest, source: store.StoredSource) -> dict[str, object]:
    """A connection as it is shown and audited: its secrets as fingerprints."""
    return {
        "adapter": source.adapter,
        "tenants": list(source.tenants),
        "public_url": source.public_url,
        "mapping": source.mapping,
        "options": source.options,
        "secret_fingerprints": [
            ingest.cipher.fingerprint(secret) for secret in ingest.cipher.open(source.secrets)
        ],
        "revision": source.revision,
    }


# Reference data


async def keep_reference(tx: Database, kind: str, facts: Sequence[Envelope]) -> dict[str, int]:
    """Fold reference facts of one kind into their documents and queue them; versions by id.

    One transaction: what a reader sees here is what everybody else will be told.
    """
    ids = [fact.subject.partition("/")[2] for fact in facts]
    documents = await store.lock_documents(tx, kind, ids)
    for document_id, fact in zip(ids, facts, strict=True):
        record, version = documents[document_id]
        record.fold(read_fact(fact))
        documents[document_id] = (record, version + 1)
    await store.save_documents(tx, kind, documents)
    await store.insert_outbox(tx, [message_of(fact) for fact in facts])
    return {document_id: version for document_id, (_, version) in documents.items()}


def count_reference(ingest: Ingest, facts: Sequence[Envelope]) -> None:
    """Count facts that are committed."""
    _count(ingest, [message_of(fact) for fact in facts])
