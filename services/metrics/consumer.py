"""Event type → reader: what this service listens to."""

from __future__ import annotations

from shared.events.catalogue import (
    CRM_ACTIVITIES,
    CRM_CUSTOMERS,
    CRM_DEALS,
    CRM_PEOPLE,
    CRM_REFERENCE,
    RECORD_KINDS,
)
from shared.facts.fact import read_fact
from shared.runtime.consume import Subscription

TOPICS = (CRM_DEALS, CRM_ACTIVITIES, CRM_CUSTOMERS, CRM_PEOPLE, CRM_REFERENCE)
KINDS = ("deal", "activity", "account", "person", "team", "rate", "calendar", "stage_map")

SUBSCRIPTION = Subscription(
    topics=TOPICS,
    readers={RECORD_KINDS[kind].type: read_fact for kind in KINDS},
    ignored=frozenset(
        kind.type
        for kind in RECORD_KINDS.values()
        if kind.topic in TOPICS and kind.name not in KINDS
    ),
)
