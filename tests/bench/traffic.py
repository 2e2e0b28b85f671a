"""What is measured with: facts as ingest publishes them, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from shared.clock import from_epoch_ms, parse_instant, to_epoch_ms, to_text
from shared.events.catalogue import METRICS_TARGETS, RECORD_KIND_BY_TYPE, RECORD_KINDS
from shared.events.envelope import Envelope, encode, encode_data, sequence_of
from shared.events.targets import QUOTA
from tests.simulator import Company, setup_calls
from tests.simulator.emit import CLOUDEVENTS_SOURCE, record_event
from tests.simulator.history import Quota, Said
from tests.simulator.people import TENANT
from tests.simulator.reference import PIPELINE

YEAR = 2025
YEAR_END = datetime(YEAR, 12, 31, 18, 0, tzinfo=UTC)
DUPLICATES = 0.05
DISORDER = 0.1
LATE_MS = 6 * 3_600_000
COMPLETE = frozenset({"splits", "overlays"})
OF_METRICS = frozenset({"deal", "activity"})
OF_COMMISSIONS = frozenset({"deal"})

HOT_SHARE = 0.05
HOT_TRAFFIC = 0.9
DEALS_PER_REP = 400
OPEN_STAGES = ("appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "contractsent")


@dataclass(frozen=True, slots=True)
class Record:
    """One record for Kafka. topic: without prefix."""

    topic: str
    key: bytes
    value: bytes


def fact(kind: str, record_id: str, at_ms: int, fields: Mapping[str, Any], number: int) -> Record:
    """A fact about a record. number: tells its statements apart, and orders those of an instant."""
    return _record(
        Envelope(
            id=f"{kind}-{record_id}-{number}",
            source=CLOUDEVENTS_SOURCE,
            type=RECORD_KINDS[kind].type,
            subject=f"{kind}/{record_id}",
            time=to_text(from_epoch_ms(at_ms)),
            recordedtime=to_text(from_epoch_ms(at_ms + 5_000)),
            sequence=sequence_of(from_epoch_ms(at_ms), number),
            data=encode_data(dict(fields)),
        )
    )


def reference_facts(company: Company) -> Iterator[Record]:
    """Calendar, teams, people, rates and stage maps."""
    since_ms = to_epoch_ms(datetime(YEAR - 1, 1, 1, tzinfo=UTC))
    number = 0
    for call in setup_calls(company, secret="unused"):
        if call.service != "ingest" or call.path.startswith("/v1/sources"):
            continue
        for kind, record_id, body in _reference(call.path, call.body):
            number += 1
            yield fact(kind, record_id, since_ms, body, number)


def _reference(path: str, body: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if path == "/v1/rates":
        for row in body["rows"]:
            yield "rate", f"{row['table']}:{row['from']}:{row['to']}:{row['day']}", row
        return
    kinds = {"calendars": "calendar", "teams": "team", "people": "person"}
    _, _, collection, record_id = path.split("/", 3)
    yield kinds.get(collection, "stage_map"), record_id, body


def quota_facts(quotas: Iterable[Quota]) -> Iterator[Record]:
    """Quotas as metrics publishes them."""
    at = datetime(YEAR, 1, 1, tzinfo=UTC)
    names = ("person", "team", "measure", "period", "start", "end", "amount", "currency")
    for number, quota in enumerate(quotas, 1):
        data = {name: getattr(quota, name) for name in names}
        envelope = Envelope(
            id=f"quota-{quota.id}-1",
            source="/attain/metrics",
            type=QUOTA.type,
            subject=f"quota/{quota.id}",
            time=to_text(at),
            recordedtime=to_text(at),
            sequence=sequence_of(at, number),
            revision=1,
            data=encode_data({"quota": quota.id, "revision": 1, **data}),
        )
        yield Record(METRICS_TARGETS, envelope.subject.encode(), encode(envelope))


def company_facts(company: Company, kinds: frozenset[str], seed: int) -> list[Record]:
    """The year of a company: a twentieth comes twice, a tenth late, by six hours on average."""
    rng = Random(f"{seed}/network")
    arrivals: list[tuple[int, int, Record]] = []
    for at_ms, record in _told(company, kinds):
        late_ms = rng.expovariate(1 / LATE_MS) if rng.random() < DISORDER else 0.0
        arrivals.append((at_ms + int(late_ms), len(arrivals), record))
        if rng.random() < DUPLICATES:
            arrivals.append((at_ms + int(late_ms) + LATE_MS, len(arrivals), record))
    arrivals.sort(key=lambda arrival: arrival[:2])
    return [record for _, _, record in arrivals]


def _told(company: Company, kinds: frozenset[str]) -> Iterator[tuple[int, Record]]:
    history = company.history
    if "deal" in kinds:
        for deal in history.deals:
            for number, change in enumerate(deal.changes, 1):
                fields: dict[str, Any] = {change.field: change.value}
                if change.field in COMPLETE:
                    fields["complete"] = [change.field]
                said = Said(change.at_ms, fields)
                yield change.at_ms, _published(record_event("deal", deal.id, said, number), number)
    if "activity" in kinds:
        for activity in history.activities:
            for number, said in enumerate(activity.said, 1):
                event = record_event("activity", activity.id, said, number)
                yield said.at_ms, _published(event, number)


def _published(event: Mapping[str, Any], number: int) -> Record:
    at = parse_instant(event["time"])
    return _record(
        Envelope(
            id=event["id"],
            source=event["source"],
            type=event["type"],
            subject=event["subject"],
            time=to_text(at),
            recordedtime=to_text(at + timedelta(seconds=5)),
            sequence=sequence_of(at, number),
            data=encode_data(event["data"]),
        )
    )


def _record(envelope: Envelope) -> Record:
    topic = RECORD_KIND_BY_TYPE[envelope.type].topic
    return Record(topic, envelope.subject.encode(), encode(envelope))


@dataclass(slots=True)
class Base:
    """A company of any size: deals over a year, the most recent of them hot.

    reps: who own them, so that one rep has as many deals in a large company as in a small one.
    """

    deals: int
    reps: int
    seed: int

    @classmethod
    def of(cls, deals: int, seed: int) -> Base:
        """A company with a rep for every 400 deals."""
        return cls(deals, max(1, deals // DEALS_PER_REP), seed)

    def owner(self, number: int) -> str:
        """The person who owns a deal at first."""
        return f"rep-{self._rep(number)}"

    def _rep(self, number: int) -> int:
        return number * 7 % self.reps

    def latest(self, count: int, before: int, reps: int) -> list[int]:
        """So many deals with numbers below `before`, the latest, of the first so many reps."""
        found: list[int] = []
        for number in range(before - 1, -1, -1):
            if self._rep(number) < reps:
                found.append(number)
                if len(found) == count:
                    break
        return found

    def load(self, *, all_won: bool = False) -> Iterator[Record]:
        """A fact a deal, as an import of what a CRM holds: rep by rep.

        So a batch concerns few reps, and their pay is rated a few times and not in each batch.
        """
        rng = Random(f"{self.seed}/base")
        first_ms = to_epoch_ms(datetime(YEAR, 1, 3, tzinfo=UTC))
        span_ms = to_epoch_ms(datetime(YEAR, 12, 20, tzinfo=UTC)) - first_ms
        hot_from = self.deals - max(1, round(self.deals * HOT_SHARE))
        for number in sorted(range(self.deals), key=self._rep):
            at_ms = first_ms + span_ms * number // self.deals
            fields = self._new(number, at_ms, rng)
            fields["stage"] = "closedwon" if all_won else _stage(rng, hot=number >= hot_from)
            yield self._fact(number, at_ms, fields, 1)

    def _new(self, number: int, begins_ms: int, rng: Random) -> dict[str, Any]:
        return {
            "name": f"Deal {number}",
            "pipeline": PIPELINE,
            "amount": f"{rng.randrange(2_000, 90_000)}.{rng.randrange(100):02d}",
            "currency": "USD",
            "close_date": f"{from_epoch_ms(begins_ms + 5_000_000_000):%Y-%m-%d}",
            "owner": self.owner(number),
            "type": rng.choice(("new", "new", "expansion")),
            "created_at": to_text(from_epoch_ms(begins_ms)),
        }

    def updates(self, events: int, hot: Sequence[int], phase: int) -> Iterator[Record]:
        """Mixed changes of December: nine of ten to the deals that are `hot`."""
        rng = Random(f"{self.seed}/updates/{phase}")
        first_ms = to_epoch_ms(datetime(YEAR, 12, 21, tzinfo=UTC)) + phase * 86_400_000
        for place in range(events):
            number = rng.choice(hot) if rng.random() < HOT_TRAFFIC else rng.randrange(self.deals)
            tie = 10 + phase * 10_000_000 + place
            yield self._fact(number, first_ms + place, self._change(rng), tie)

    def _change(self, rng: Random) -> dict[str, Any]:
        draw = rng.random()
        if draw < 0.4:
            return {"stage": rng.choice((*OPEN_STAGES, "closedwon", "closedlost"))}
        if draw < 0.65:
            return {"amount": f"{rng.randrange(2_000, 90_000)}.{rng.randrange(100):02d}"}
        if draw < 0.85:
            return {"close_date": f"{YEAR}-12-{rng.randrange(10, 32)}"}
        if draw < 0.95:
            return {"next_step": rng.choice(("Call", "Demo", "Contract", "Review"))}
        return {"owner": f"rep-{rng.randrange(self.reps)}"}

    def _fact(self, number: int, at_ms: int, fields: Mapping[str, Any], tie: int) -> Record:
        return fact("deal", f"{TENANT}:{number}", at_ms, fields, tie)

    def people(self) -> Iterator[Record]:
        """A fact for each rep."""
        since_ms = to_epoch_ms(datetime(YEAR - 1, 1, 1, tzinfo=UTC))
        for number in range(self.reps):
            fields = {"effective_from": f"{YEAR - 1}-01-01", "name": f"Rep {number}", "role": "rep"}
            yield fact("person", f"rep-{number}", since_ms, fields, 100_000 + number)

    def quotas(self) -> Iterator[Quota]:
        """A quota a quarter for each rep."""
        for number in range(self.reps):
            for quarter, start in enumerate(("01-01", "04-01", "07-01", "10-01"), 1):
                end = f"{YEAR}-{3 * quarter + 1:02d}-01" if quarter < 4 else f"{YEAR + 1}-01-01"
                yield Quota(
                    id=f"{YEAR}-q{quarter}-rep-{number}",
                    person=f"rep-{number}",
                    team=None,
                    measure="bookings",
                    period=f"{YEAR}-Q{quarter}",
                    start=f"{YEAR}-{start}",
                    end=end,
                    amount="1500000",
                    currency="USD",
                )


def _stage(rng: Random, *, hot: bool) -> str:
    """Old deals are mostly decided, hot ones mostly open."""
    won, lost = (0.2, 0.25) if hot else (0.3, 0.8)
    draw = rng.random()
    if draw < won:
        return "closedwon"
    return "closedlost" if draw < lost else rng.choice(OPEN_STAGES)
