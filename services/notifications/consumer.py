"""Event type → reader: what this service listens to."""

from __future__ import annotations

import msgspec

from services.notifications.domain.signals import Signal, read_signal
from services.notifications.store.people import PEOPLE_KINDS
from shared.errors import InvalidValue
from shared.events.catalogue import (
    CRM_PEOPLE,
    CRM_REFERENCE,
    METRICS_SIGNALS,
    RECORD_KINDS,
)
from shared.events.envelope import Envelope
from shared.events.signals import SIGNAL
from shared.facts.fact import read_fact
from shared.runtime.consume import Subscription


def signal_of(envelope: Envelope) -> Signal:
    """The signal in `envelope`. Raises InvalidValue with a JSON pointer."""
    try:
        document = msgspec.json.decode(envelope.data, type=dict[str, object])
        return read_signal(document)
    except msgspec.DecodeError as error:
        raise InvalidValue(str(error), pointer="/data") from None
    except InvalidValue as error:
        raise error.at("/data") from None


SUBSCRIPTION = Subscription(
    topics=(METRICS_SIGNALS, CRM_PEOPLE, CRM_REFERENCE),
    readers={
        SIGNAL.type: signal_of,
        **{RECORD_KINDS[kind].type: read_fact for kind in PEOPLE_KINDS},
    },
    ignored=frozenset(
        kind.type
        for kind in RECORD_KINDS.values()
        if kind.topic == CRM_REFERENCE and kind.name not in PEOPLE_KINDS
    ),
)
