"""What an adapter is given and what it gives back: the words that all adapters share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from services.ingest.domain.checks import Unacceptable, accept
from shared.clock import from_epoch_ms, to_text
from shared.errors import Refused
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.ids import digest

MAX_EXCERPT = 500
"""Characters of a rejected event that are shown with it; the whole of it is in `crm.raw`."""


class NotAuthentic(Refused):
    """A delivery that nothing proves to come from its source. Never says what would match."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, status=401)


@dataclass(frozen=True, slots=True)
class Connection:
    """One CRM connection, as its administrator configured it.

    id: its name, the last part of its hook's address. provider: the adapter's name.
    tenants: accounts (portals, organisations) of the CRM it takes; empty takes every account of
    the app whose secret signs. secrets: all that are live, so that one can be rotated.
    public_url: the address the CRM was given, whole; signatures are over it, never over what a
    proxy rebuilt. mapping: record kind → source property → field, over the adapter's defaults;
    `custom.<key>` keeps it as a custom value, "" ignores it. revision: raised with every change of
    the mapping. options: what one adapter alone understands.
    """

    id: str
    provider: str
    tenants: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    public_url: str = field(default="", repr=False)
    mapping: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    revision: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request before anything is believed of it. headers: names in lower case.

    target: path and query as they came; some sources carry their secret in it.
    """

    method: str
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery whose origin is proven, or that is read again from `crm.raw`."""

    raw_id: str
    received_at: datetime
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """One event that could not be read, while the rest of its delivery went on.

    pointer: where in the body. cause: a stable code, for counting. excerpt: its beginning.
    """

    pointer: str
    cause: str
    message: str
    excerpt: str = field(repr=False)


class Why(StrEnum):
    """Why an event was passed over on purpose."""

    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_TENANT = "unknown_tenant"
    UNMAPPED_PROPERTY = "unmapped_property"
    REDACTED = "redacted"
    NOT_PRIMARY = "not_primary"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Skipped:
    """One event that says nothing Attain keeps. what: the source's own name for it."""

    what: str
    why: Why


@dataclass(frozen=True, slots=True)
class Translation:
    """What one delivery says. wanted_reads: subjects to read whole from the CRM, sorted."""

    facts: tuple[Envelope, ...] = ()
    rejects: tuple[Reject, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    wanted_reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer that tells a source that its delivery is durable."""

    status: int
    content_type: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Statement:
    """One patch of one record, as a source made it.

    key: what tells this statement from the record's others and stays equal when it is sent again:
    no attempt counter, no subscription. tie_break: orders statements of one millisecond.
    """

    kind: str
    tenant: str
    external_id: str
    patch: Mapping[str, Any]
    occurred_ms: int
    key: tuple[str, ...]
    tie_break: int = 0


def record_id(connection: Connection, tenant: str, external_id: str) -> str:
    """The id of a source's record: unique over providers and tenants."""
    return f"{connection.provider}:{tenant}:{external_id}"


arrival_text = lru_cache(maxsize=8)(to_text)
"""The text of an instant of arrival: all facts of one delivery have the same."""


def fact_of(statement: Statement, connection: Connection, delivery: Delivery) -> Envelope:
    """The fact that `statement` is, checked. Raises Unacceptable."""
    subject = f"{statement.kind}/" + record_id(connection, statement.tenant, statement.external_id)
    try:
        occurred_at = from_epoch_ms(statement.occurred_ms)
        sequence = sequence_of(occurred_at, statement.tie_break)
    except (ValueError, OverflowError, OSError):
        msg = "the source's time lies before 1970 or beyond the calendar"
        raise Unacceptable("invalid-value", msg) from None
    envelope = Envelope(
        id=digest(
            connection.provider,
            subject,
            *statement.key,
            str(statement.occurred_ms),
            str(connection.revision),
        ),
        source=f"/crm/{connection.provider}/{statement.tenant}/{connection.id}",
        type=RECORD_KINDS[statement.kind].type,
        subject=subject,
        time=to_text(occurred_at),
        recordedtime=arrival_text(delivery.received_at),
        sequence=sequence,
        revision=connection.revision,
        rawid=delivery.raw_id,
        backfill=delivery.backfill,
        data=encode_data(statement.patch),
    )
    accept(envelope)
    return envelope
