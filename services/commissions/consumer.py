"""Event type → reader: what this service listens to."""

from __future__ import annotations

import msgspec

from services.commissions.sources import TOPICS
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, invalid_from_msgspec
from shared.events.targets import QUOTA, QuotaData
from shared.facts.fact import read_fact
from shared.runtime.consume import Subscription

_quotas = msgspec.json.Decoder(QuotaData)


def quota_of(envelope: Envelope) -> QuotaData:
    """The quota in `envelope`. Raises InvalidValue with a JSON pointer."""
    try:
        return _quotas.decode(envelope.data)
    except msgspec.DecodeError as error:
        raise invalid_from_msgspec(error).at("/data") from None


SUBSCRIPTION = Subscription(
    topics=TOPICS,
    readers={
        QUOTA.type: quota_of,
        **{kind.type: read_fact for kind in RECORD_KINDS.values() if kind.topic in TOPICS},
    },
)
