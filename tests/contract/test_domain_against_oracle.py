"""The pure cores of the services, put together without any server, against the oracle.

Deliveries of a simulated company are translated, folded and projected in one process; every deal,
cell, activity, stalled deal and statement must be what the independent recomputation says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from services.commissions.domain.credits import Credit, CreditEvent, credits_for
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import PeriodKind, period_of
from services.commissions.domain.plan import Assignment, CreditOn, DayRange, Plan
from services.commissions.domain.sheet import SheetInput, rate_sheet
from services.ingest.adapters.hubspot import HubSpot
from services.ingest.domain.cloudevents import read_events
from services.ingest.domain.reference import reference_fact
from services.ingest.domain.translation import Connection, RawRequest
from services.ingest.domain.translation import Delivery as Received
from services.metrics.domain.contributions import project, project_activity
from services.metrics.domain.stalled import Circumstances, Thresholds, stalled
from shared.events.envelope import Envelope
from shared.facts.deal import DealTimeline, merge_edges, project_deal, resolve_redirects
from shared.facts.fact import read_fact
from shared.facts.record import Record
from shared.facts.reference import Identities, StageMaps
from shared.org.calendar import FiscalCalendar
from tests.oracle import OracleResult, recompute
from tests.oracle.dates import quarter_of, rate_on
from tests.oracle.deals import shares_at
from tests.simulator import Company, Delivery, deliveries, setup_calls
from tests.simulator.emit import CLOUDEVENTS_BATCH
from tests.simulator.history import History
from tests.simulator.people import PORTAL
from tests.simulator.setup import HOOK_PATH, PUBLIC_URL
from tests.simulator.worktime import from_ms

SECRET = "s"
SCALE = 0.06
STATED_AT = datetime(2026, 1, 5, tzinfo=UTC)
CONNECTION = Connection("hubspot", "hubspot", frozenset({PORTAL}), (SECRET,), public_url=PUBLIC_URL)
REFERENCE = {
    "/v1/people/": "person",
    "/v1/teams/": "team",
    "/v1/calendars/": "calendar",
    "/v1/stage-maps/": "stage_map",
}


@dataclass
class Folded:
    """Everything a company said, folded in this process."""

    company: Company
    oracle: OracleResult
    records: dict[str, dict[str, Record]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Record))
    )

    def fold(self, envelope: Envelope) -> None:
        fact = read_fact(envelope)
        kind, _, record_id = fact.subject.partition("/")
        self.records[kind][record_id].fold(fact)

    @property
    def history(self) -> History:
        return self.company.history

    @property
    def calendar(self) -> FiscalCalendar:
        return FiscalCalendar.build(self.records["calendar"], "org")

    @property
    def identities(self) -> Identities:
        return Identities.build(self.records["person"], self.calendar.zone)

    def timelines(self) -> dict[str, DealTimeline]:
        maps = StageMaps.build(self.records["stage_map"], self.calendar.zone)
        identities = self.identities
        return {
            deal_id: project_deal(deal_id, record, maps, identities)
            for deal_id, record in self.records["deal"].items()
        }


@pytest.fixture(scope="module", params=[1, 2])
def folded(request: pytest.FixtureRequest) -> Folded:
    company = Company.generate(request.param, SCALE)
    found = Folded(company, recompute(company.history))
    for delivery in deliveries(company, duplicates=0.1, disorder=0.2):
        for envelope in translated(delivery):
            found.fold(envelope)
    for call in setup_calls(company, secret=SECRET):
        for path, kind in REFERENCE.items():
            if call.path.startswith(path):
                body = json.dumps(call.body).encode()
                found.fold(reference_fact(kind, call.path.removeprefix(path), body, now=STATED_AT))
    return found


def translated(delivery: Delivery) -> tuple[Envelope, ...]:
    """What ingest makes of a delivery, its signature checked."""
    at = from_ms(delivery.at_ms)
    if delivery.kind == "events":
        return tuple(
            read_events(
                {"content-type": CLOUDEVENTS_BATCH}, delivery.body, received_at=at, raw_id="raw"
            )
        )
    signed = delivery.headers(secret=SECRET, url=PUBLIC_URL, now_ms=delivery.at_ms)
    headers = {name.lower(): value for name, value in signed.items()}
    adapter = HubSpot()
    adapter.verify(RawRequest("POST", HOOK_PATH, headers, delivery.body), CONNECTION, at)
    made = adapter.translate(Received("raw", at, headers, delivery.body), CONNECTION)
    assert made.rejects == ()
    return tuple(made.facts)


def test_every_deal_is_what_truly_happened(folded: Folded) -> None:
    timelines = folded.timelines()
    assert timelines.keys() == folded.oracle.deals.keys()
    for deal_id, timeline in timelines.items():
        view = folded.oracle.deals[deal_id]
        found = (
            timeline.status if timeline.spans else None,
            timeline.won.instant_ms if timeline.won else None,
            not timeline.counts,
            timeline.created_ms,
            timeline.amount,
        )
        amount = view.latest("amount")
        stated = None if amount is None else Decimal(amount)
        assert found == (view.status, view.credit_ms, view.gone, view.created_ms, stated), deal_id
        if timeline.won and view.credit_ms is not None:
            assert dict(timeline.won.credited) == shares_at(view, folded.history, view.credit_ms)


def test_closed_deals_add_up_to_the_kpis_of_every_quarter(folded: Folded) -> None:
    sums: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    rates = folded.history.rates
    for timeline in folded.timelines().values():
        for cell in project(timeline, folded.calendar, folded.identities).cells:
            key = (cell.key.measure, cell.key.people, quarter_of(cell.key.day))
            if cell.key.currency:
                rate = rate_on(rates, "org", cell.key.currency, "USD", cell.key.day)
                sums[key] += Fraction(cell.amount) * rate
            counts[key] += cell.number
    reps = {assignment.payee for assignment in folded.history.assignments}
    compared = 0
    for (person, quarter), closed in folded.oracle.closed.items():
        if person in reps:
            compared += 1
            found = (
                sums["booked", person, quarter],
                counts["won", person, quarter],
                counts["lost", person, quarter],
                sums["won", person, quarter],
                sums["lost", person, quarter],
            )
            wanted = (
                closed.bookings,
                closed.won,
                closed.lost,
                sum(closed.sizes),
                sum(closed.lost_sizes),
            )
            assert found == wanted, (person, quarter)
    assert compared >= 90


def test_activities_are_counted_once_for_each_who_took_part(folded: Folded) -> None:
    found: dict[tuple[str, str, date], int] = defaultdict(int)
    for activity_id, record in folded.records["activity"].items():
        activity = project_activity(activity_id, record, folded.identities)
        if activity.counts and activity.done_ms is not None:
            for person in activity.people:
                found[person, str(activity.kind), folded.calendar.day_of_ms(activity.done_ms)] += 1
    people = {person.id for person in folded.history.people}
    wanted = {key: n for key, n in folded.oracle.activities.items() if key[0] in people}
    assert found == wanted


def test_the_same_deals_are_stalled_for_the_same_reasons(folded: Folded) -> None:
    """But for missing next steps, of which the oracle knows nothing."""
    touched = last_activities(folded)
    found = set()
    for deal_id, timeline in folded.timelines().items():
        around = Circumstances(last_activity_ms=touched.get(deal_id))
        verdict = stalled(timeline, around, Thresholds(), folded.calendar, folded.history.ends_ms)
        reasons = tuple(sorted(set(verdict.rules) - {"next_step"}))
        if reasons:
            found.add((deal_id, reasons))
    assert found == {(deal.deal, deal.reasons) for deal in folded.oracle.stalled}


def last_activities(folded: Folded) -> Mapping[str, int]:
    survivors = resolve_redirects(merge_edges(folded.records["deal"].items()))
    latest: dict[str, int] = {}
    for activity_id, record in folded.records["activity"].items():
        activity = project_activity(activity_id, record, folded.identities)
        if activity.counts and activity.deal and activity.done_ms is not None:
            deal = survivors.get(activity.deal, activity.deal)
            latest[deal] = max(latest.get(deal, 0), activity.done_ms)
    return latest


def test_every_statement_agrees_to_the_cent(folded: Folded) -> None:
    history = folded.history
    book = RateBook(
        RateRow(
            f"{r.table}:{r.source}:{r.target}:{r.day}",
            r.table,
            r.source,
            r.target,
            date.fromisoformat(r.day),
            Decimal(r.rate),
        )
        for r in history.rates
    )
    plans = {name: Plan(name, (parse_plan(body),)) for name, body in history.plans.items()}
    earned_somewhere = 0
    made = set()
    for assignment in assignments(history):
        plan = plans[assignment.plan_id]
        quotas = {
            ("bookings", PeriodKind.QUARTER, date.fromisoformat(q.start)): Decimal(q.amount)
            for q in history.quotas
            if q.person == assignment.payee
        }
        sheet = rate_sheet(
            SheetInput(
                assignment.payee,
                plan,
                period_of(date(history.year, 6, 1), PeriodKind.YEAR),
                list(credited(folded, plan, assignment, book)),
                [assignment],
                quotas,
                book,
            )
        )
        for statement in sheet.statements:
            assert not statement.held
            assert not statement.exceptions
            made.add((assignment.payee, statement.period.label))
            wanted = folded.oracle.statements.get((assignment.payee, statement.period.label))
            assert statement.own == (wanted.earned if wanted else 0)
            assert statement.payout.amount == (wanted.payable if wanted else 0)
            earned_somewhere += bool(statement.own)
    assert earned_somewhere >= 10
    assert {key for key, s in folded.oracle.statements.items() if s.earned} <= made


def assignments(history: History) -> Iterator[Assignment]:
    for row in history.assignments:
        to = date.fromisoformat(row.to) if row.to else None
        days = DayRange(date.fromisoformat(row.start), to)
        yield Assignment(row.payee, row.plan, days, (), row.payout_currency)


def credited(
    folded: Folded, plan: Plan, assignment: Assignment, book: RateBook
) -> Iterator[Credit]:
    for deal_id, timeline in folded.timelines().items():
        won = timeline.won
        if won is None or not timeline.counts:
            continue
        event = CreditEvent(
            f"{deal_id}:{won.stay_began_ms}",
            CreditOn.DEAL_WON,
            deal_id,
            won.instant,
            won.amount,
            won.currency,
            won.owner,
            shares_text(won.splits),
            shares_text(won.overlays),
        )
        outcome = credits_for(event, plan, [assignment], book)
        assert not outcome.exceptions
        yield from (credit for credit in outcome.credits if credit.payee == assignment.payee)


def shares_text(shares: Mapping[str, Fraction]) -> tuple[tuple[str, str], ...]:
    return tuple((who, f"{share.numerator}/{share.denominator}") for who, share in shares.items())
