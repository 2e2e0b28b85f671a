"""The catalogue: every record kind and event type, its model, its topic and how it folds.

A breaking change of a model is a new version of its type, beside the old one.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from shared.events import records

CRM_RAW = "crm.raw"
CRM_DEALS = "crm.deals"
CRM_ACTIVITIES = "crm.activities"
CRM_LEADS = "crm.leads"
CRM_CUSTOMERS = "crm.customers"
CRM_BILLING = "crm.billing"
CRM_PEOPLE = "crm.people"
CRM_REFERENCE = "crm.reference"
CRM_HYGIENE = "crm.hygiene"
METRICS_TARGETS = "metrics.targets"
METRICS_SIGNALS = "metrics.signals"
METRICS_JOURNAL = "metrics.journal"
COMMISSIONS_EVENTS = "commissions.events"
COMMISSIONS_JOURNAL = "commissions.journal"
NOTIFICATIONS_DELIVERIES = "notifications.deliveries"
NOTIFICATIONS_JOURNAL = "notifications.journal"

PARTITIONS: Mapping[str, int] = {
    CRM_RAW: 6,
    CRM_DEALS: 6,
    CRM_ACTIVITIES: 6,
    CRM_LEADS: 6,
    CRM_CUSTOMERS: 6,
    CRM_BILLING: 6,
    CRM_PEOPLE: 1,
    CRM_REFERENCE: 1,
    CRM_HYGIENE: 1,
    METRICS_TARGETS: 1,
    METRICS_SIGNALS: 3,
    METRICS_JOURNAL: 1,
    COMMISSIONS_EVENTS: 3,
    COMMISSIONS_JOURNAL: 1,
    NOTIFICATIONS_DELIVERIES: 1,
    NOTIFICATIONS_JOURNAL: 1,
}
"""Partitions a topic is created with. Never raised later: keys would move to other partitions."""


@dataclass(frozen=True, slots=True)
class RecordKind:
    """How one kind of record travels and folds.

    name: the first part of its subjects. history: fields of which every statement is kept, since
    the past counts. members: maps whose keys are fields of their own. dated: values are keyed by
    the day from which they hold.
    """

    name: str
    topic: str
    model: type[msgspec.Struct]
    history: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    dated: bool = False
    version: int = 1

    @property
    def type(self) -> str:
        """The event type of a fact about such a record."""
        return f"attain.{self.name}.v{self.version}"


def _kind(  # noqa: PLR0913 - a row of a table, named at each call
    name: str,
    topic: str,
    model: type[msgspec.Struct],
    *,
    history: str = "",
    members: str = "",
    dated: bool = False,
) -> RecordKind:
    return RecordKind(
        name, topic, model, frozenset(history.split()), frozenset(members.split()), dated
    )


RECORD_KINDS: Mapping[str, RecordKind] = {
    kind.name: kind
    for kind in (
        _kind(
            "deal",
            CRM_DEALS,
            records.DealData,
            history="stage status owner amount close_date pipeline splits overlays",
            members="splits overlays custom",
        ),
        _kind("activity", CRM_ACTIVITIES, records.ActivityData, members="participants"),
        _kind("lead", CRM_LEADS, records.LeadData, history="status owner"),
        _kind("account", CRM_CUSTOMERS, records.AccountData, history="owner"),
        _kind("contact", CRM_CUSTOMERS, records.ContactData),
        _kind("survey", CRM_CUSTOMERS, records.SurveyData),
        _kind("complaint", CRM_CUSTOMERS, records.ComplaintData),
        _kind("invoice", CRM_BILLING, records.InvoiceData, history="status amount"),
        _kind("payment", CRM_BILLING, records.PaymentData),
        _kind("person", CRM_PEOPLE, records.PersonData, members="teams identities", dated=True),
        _kind("team", CRM_PEOPLE, records.TeamData, dated=True),
        _kind("rate", CRM_REFERENCE, records.RateData),
        _kind("calendar", CRM_REFERENCE, records.CalendarData, members="holidays", dated=True),
        _kind("stage_map", CRM_REFERENCE, records.StageMapData, dated=True),
    )
}

RECORD_KIND_BY_TYPE: Mapping[str, RecordKind] = {k.type: k for k in RECORD_KINDS.values()}


@dataclass(frozen=True, slots=True)
class EventType:
    """An event that is no fact about a CRM record: its type, its topic and its model."""

    type: str
    topic: str
    model: builtins.type[msgspec.Struct]


def topics_of(service: str) -> tuple[str, ...]:
    """The topics that a service alone writes, without a deployment's prefix."""
    return tuple(name for name in PARTITIONS if name.startswith(f"{service}."))


def topics(prefix: str = "") -> dict[str, int]:
    """Every topic with its partitions, under a deployment's prefix."""
    return {prefix + name: count for name, count in PARTITIONS.items()}
