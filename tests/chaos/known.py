"""What had been said of the deals when a month was closed, read off the deliveries themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.simulator import Delivery
from tests.simulator.history import Deal, History
from tests.simulator.hubspot import PROPERTIES
from tests.simulator.people import TENANT
from tests.simulator.worktime import to_ms

Said = tuple[str, str, int]
"""(deal, field, instant) of a statement."""

_FIELDS = {name: field for field, name in PROPERTIES.items()}


def known_history(history: History, deliveries: Iterable[Delivery]) -> History:
    """The history as far as `deliveries` tell its deals."""
    said = {statement for delivery in deliveries for statement in _said(delivery)}
    deals = [
        Deal(deal.id, [c for c in deal.changes if (deal.id, c.field, c.at_ms) in said])
        for deal in history.deals
    ]
    return replace(history, deals=[deal for deal in deals if deal.changes])


def _said(delivery: Delivery) -> Iterator[Said]:
    read = _by_hubspot if delivery.kind == "hubspot" else _by_cloud_event
    for event in json.loads(delivery.body):
        yield from read(event)


def _by_hubspot(event: dict[str, Any]) -> Iterator[Said]:
    at_ms = event["occurredAt"]
    match event["subscriptionType"]:
        case "deal.propertyChange":
            yield _deal(event["objectId"]), _FIELDS[event["propertyName"]], at_ms
        case "deal.deletion" | "deal.restore":
            yield _deal(event["objectId"]), "deleted", at_ms
        case "deal.merge":
            survivor = event["newObjectId"]
            for merged in {event["primaryObjectId"], *event["mergedObjectIds"]} - {survivor}:
                yield _deal(merged), "merged_into", at_ms


def _by_cloud_event(event: dict[str, Any]) -> Iterator[Said]:
    kind, _, record = event["subject"].partition("/")
    if kind == "deal":
        at_ms = to_ms(datetime.fromisoformat(event["time"]))
        for field in event["data"]:
            yield record, field, at_ms


def _deal(external_id: int) -> str:
    return f"{TENANT}:{external_id}"
