"""The history on its way to the product: batched, late, repeated and out of order, as CRMs send.

HubSpot's events travel in signed arrays, everything else in batches of CloudEvents. A second CRM,
where one is asked for, tells the same deals by Salesforce's outbound messages. How often an event
comes again or late is a setting; what was said, and when, never changes.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.simulator import hubspot, salesforce
from tests.simulator.company import Company, draw
from tests.simulator.history import Deal, History, Said
from tests.simulator.people import TENANT
from tests.simulator.worktime import HOUR_MS, instant_text

Kind = Literal["hubspot", "events", "salesforce"]
Event = dict[str, Any]

CLOUDEVENTS_BATCH = "application/cloudevents-batch+json"
CLOUDEVENTS_SOURCE = "https://salesdesk.acme.example/events"
MAX_LATENESS_MS = 72 * HOUR_MS
MEAN_LATENESS_MS = 6 * HOUR_MS
RETRY_WITHIN_MS = 24 * HOUR_MS
WINDOW_MS = 6 * HOUR_MS
"""Events of one kind that arrive within this time travel in one request, up to its limit."""

EVENTS_PER_BATCH = 200
FIELDS_OUTSIDE_HUBSPOT = frozenset({"splits", "overlays", "closed_at"})
SECOND_SUBSCRIPTION = 900_000
"""Added to the subscription id where an account subscribed twice to the same change."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP POST. at_ms: when it is sent, in the company's time. events: how many it carries."""

    at_ms: int
    kind: Kind
    body: bytes
    events: int

    def headers(self, *, secret: str, url: str, now_ms: int, token: str = "") -> dict[str, str]:
        """What to send with it. HubSpot's are signed for `url` (the public one) at `now_ms`.

        secret: of the HubSpot app. token: bearer token of the events inlet, if it wants one.
        Salesforce's secret is in the address (`salesforce.hook_url`).
        """
        if self.kind == "salesforce":
            return {"Content-Type": "text/xml; charset=UTF-8", "SOAPAction": '""'}
        if self.kind == "hubspot":
            return hubspot.signed_headers(secret, url, self.body, now_ms)
        headers = {"Content-Type": CLOUDEVENTS_BATCH}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def deliveries(
    company: Company,
    *,
    duplicates: float = 0.05,
    disorder: float = 0.1,
    seed: int = 0,
    with_salesforce: bool = False,
) -> Iterator[Delivery]:
    """All deliveries of the year, by the time at which they are sent.

    duplicates: extra events ÷ events, half of them single, half as repeated requests. disorder:
    the share of events that come late, by six hours on average and at most three days.
    with_salesforce: the deals are told once more, as those of a second CRM; the rest is unchanged.
    """
    rng = draw(company.seed, "emit", seed)
    network = _Network(rng, duplicates / 2, disorder)
    batches: list[tuple[int, int, Kind, list[Event]]] = []
    sources: list[tuple[Kind, Iterable[tuple[int, Event]], int]] = [
        ("hubspot", hubspot.webhook_events(company.history), hubspot.EVENTS_PER_REQUEST),
        ("events", cloud_events(company.history), EVENTS_PER_BATCH),
    ]
    if with_salesforce:
        queued = salesforce.queued(company.history)
        sources.append(("salesforce", queued, salesforce.NOTIFICATIONS_PER_MESSAGE))
    opportunities = salesforce.Opportunities(company.history)
    for kind, events, limit in sources:
        arrivals = network.arrivals(kind, events)
        for at_ms, batch in network.requests(kind, arrivals, limit):
            batches.append((at_ms, len(batches), kind, batch))
    heapq.heapify(batches)
    while batches:
        at_ms, _, kind, batch = heapq.heappop(batches)
        if kind == "salesforce":
            body = opportunities.message(batch, at_ms)
        else:
            body = json.dumps(batch, separators=(",", ":"), ensure_ascii=False).encode()
        yield Delivery(at_ms, kind, body, len(batch))


@dataclass(slots=True)
class _Network:
    """Delays and repeats. duplicates: of single events, and again of whole requests."""

    rng: Random
    duplicates: float
    disorder: float

    def arrivals(
        self, kind: Kind, events: Iterable[tuple[int, Event]]
    ) -> list[tuple[int, int, Event]]:
        """(instant of arrival, number, event) by arrival."""
        rng = self.rng
        arrived: list[tuple[int, int, Event]] = []
        for at_ms, event in events:
            delay_ms = rng.randrange(50, 20_000)
            if rng.random() < self.disorder:
                late_ms = int(rng.expovariate(1 / MEAN_LATENESS_MS))
                delay_ms = min(delay_ms + late_ms, MAX_LATENESS_MS)
            arrived.append((at_ms + delay_ms, len(arrived), event))
            if rng.random() < self.duplicates:
                again_ms = at_ms + delay_ms + rng.randrange(60_000, RETRY_WITHIN_MS)
                repeated = _retried(event) if kind == "hubspot" else event
                if kind == "hubspot" and rng.random() < 0.1:
                    repeated = _seen_twice(event)
                arrived.append((again_ms, len(arrived), repeated))
        arrived.sort(key=lambda arrival: arrival[:2])
        return arrived

    def requests(
        self, kind: Kind, arrivals: list[tuple[int, int, Event]], limit: int
    ) -> Iterator[tuple[int, list[Event]]]:
        """(instant, events) of each request, among them some that are sent once more."""
        batch: list[Event] = []
        opened_ms = last_ms = 0
        for at_ms, _, event in arrivals:
            if batch and (len(batch) == limit or at_ms >= opened_ms + WINDOW_MS):
                yield from self._sent(kind, last_ms, batch)
                batch = []
            if not batch:
                opened_ms = at_ms
            batch.append(event)
            last_ms = at_ms
        if batch:
            yield from self._sent(kind, last_ms, batch)

    def _sent(
        self, kind: Kind, at_ms: int, batch: list[Event]
    ) -> Iterator[tuple[int, list[Event]]]:
        yield at_ms, batch
        if self.rng.random() < self.duplicates:
            again = [_retried(event) for event in batch] if kind == "hubspot" else batch
            yield at_ms + self.rng.randrange(60_000, RETRY_WITHIN_MS), again


def _retried(event: Event) -> Event:
    return {**event, "attemptNumber": event["attemptNumber"] + 1}


def _seen_twice(event: Event) -> Event:
    """The same change by a second subscription: another event id, another subscription id."""
    return {
        **event,
        "eventId": event["eventId"] + 1,
        "subscriptionId": event["subscriptionId"] + SECOND_SUBSCRIPTION,
    }


def cloud_events(history: History) -> Iterator[tuple[int, Event]]:
    """(instant, CloudEvent) of what HubSpot does not tell: activities, leads, splits, signings."""
    for deal in history.deals:
        yield from _deal_events(deal)
    for kind, records in (("activity", history.activities), ("lead", history.leads)):
        for record in records:
            for number, said in enumerate(record.said, 1):
                yield said.at_ms, record_event(kind, record.id, said, number)


def _deal_events(deal: Deal) -> Iterator[tuple[int, Event]]:
    for number, change in enumerate(deal.changes, 1):
        if change.field in FIELDS_OUTSIDE_HUBSPOT:
            fields: dict[str, Any] = {change.field: change.value}
            if change.field in {"splits", "overlays"}:
                fields["complete"] = [change.field]
            yield change.at_ms, record_event("deal", deal.id, Said(change.at_ms, fields), number)


def record_event(kind: str, record: str, said: Said, number: int) -> Event:
    """A CloudEvent about a record. number: tells its statements apart."""
    return {
        "specversion": "1.0",
        "id": f"{kind}-{record.removeprefix(TENANT + ':')}-{number}",
        "source": CLOUDEVENTS_SOURCE,
        "type": f"attain.{kind}.v1",
        "subject": f"{kind}/{record}",
        "time": instant_text(said.at_ms),
        "datacontenttype": "application/json",
        "data": {name: _wire(name, value) for name, value in said.fields.items()},
    }


def _wire(name: str, value: object) -> object:
    """Instants as text; everything else is JSON already."""
    return instant_text(value) if name.endswith("_at") and isinstance(value, int) else value
