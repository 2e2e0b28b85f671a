"""One module a CRM: how its deliveries are proven, read and answered. Pure.

A further CRM is a module here and a line in ADAPTERS; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from services.ingest.adapters.hubspot import HubSpot
from services.ingest.adapters.salesforce import Salesforce
from services.ingest.domain.translation import (
    Acknowledgement,
    Connection,
    Delivery,
    RawRequest,
    Translation,
)


class Adapter(Protocol):
    """What ingest asks of a CRM's adapter."""

    def check(self, connection: Connection) -> None:
        """Raise InvalidValue, with a pointer, for a connection that could not work."""
        ...

    def verify(self, request: RawRequest, connection: Connection, now: datetime) -> None:
        """Raise NotAuthentic unless the request proves that it comes from the source."""
        ...

    def redact(self, body: bytes) -> bytes:
        """The body of an authentic request as it may be kept: without keys to the source.

        Everything after `verify` is given this body. Most sources send no keys; then it is the
        body itself. It translates to the same facts.
        """
        ...

    def translate(self, delivery: Delivery, connection: Connection) -> Translation:
        """What the delivery says.

        Raises InvalidValue only where nothing of the body can be read; one event that cannot be
        read becomes a Reject beside the others' facts.
        """
        ...

    def alone(self, body: bytes, pointer: str) -> bytes:
        """A delivery of the one event that a Reject's pointer leads into, to be read again later.

        The whole body where the pointer leads into none.
        """
        ...

    def acknowledge(self) -> Acknowledgement:
        """The answer by which the source knows that its delivery is kept."""
        ...


ADAPTERS: Mapping[str, Adapter] = {"hubspot": HubSpot(), "salesforce": Salesforce()}
"""Adapters by provider, the first part of their records' ids."""
