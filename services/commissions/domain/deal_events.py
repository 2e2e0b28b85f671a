"""From a folded deal, its invoices and payments to what may be credited: `credit_events`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.commissions.domain.credit import Cash, CreditEvent, invoice_amount
from services.commissions.domain.payments import cash_for, cash_of
from services.commissions.domain.terms import CreditOn
from services.commissions.domain.vocabulary import DEAL_FIELDS, INVOICE_FIELDS, PAYMENT_FIELDS
from shared.clock import from_epoch_ms, parse_instant, to_epoch_ms
from shared.facts.deal import DealTimeline, Stay, Won, owner_at, shares_at
from shared.facts.record import Record, Statement
from shared.facts.reference import WON, Identities
from shared.money import parse_decimal

NOT_ISSUED = frozenset({"draft", "void"})
"""Invoices that say so are no revenue, whatever else they say."""

_NUMBERS = frozenset({"probability", "amount_excluding_tax"})
_MEANT = ("amount", "currency", "type", "product", "closed_at", "close_date")
_PLACED = ("stage", "status", "pipeline")


@dataclass(frozen=True, slots=True)
class DealFacts:
    """A deal, its timeline, and invoices and payments of it and of what was merged into it."""

    deal_id: str
    record: Record
    timeline: DealTimeline
    invoices: Sequence[tuple[str, Record]]
    payments: Sequence[tuple[str, Record]] = ()


def credit_events(deal: DealFacts, identities: Identities) -> list[CreditEvent]:
    """Stays in won, issued invoices and payments of a deal; none of a deleted or test deal.

    A stay that has ended is an event with `cancelled_at`, for components with a clawback.
    """
    timeline = deal.timeline
    if timeline.deleted or timeline.test:
        return []
    fields = deal_fields(deal.record)
    cash = cash_for(deal.payments)
    events = []
    for number, stay in enumerate(timeline.stays, start=1):
        won = timeline.won
        if stay.end_ms is not None:
            won = _ended(deal, stay, stay.end_ms, identities)
        if won is not None:
            events.append(_won(deal, won, fields, number, stay.end_ms, cash))
    for invoice_id, invoice in deal.invoices:
        event = _issued(deal, invoice_id, invoice, fields, identities)
        if event is not None:
            events.append(event)
    for payment_id, payment in deal.payments:
        events.extend(_received(deal, payment_id, payment, fields, identities))
    return events


def _won(  # noqa: PLR0913, PLR0917 - the pieces of one event
    deal: DealFacts,
    won: Won,
    fields: Mapping[str, object],
    number: int,
    ended_ms: int | None,
    cash: tuple[Cash, ...],
) -> CreditEvent:
    current = deal.timeline.current
    return CreditEvent(
        key=f"deal:{deal.deal_id}" if number == 1 else f"deal:{deal.deal_id}~{number}",
        on=CreditOn.DEAL_WON,
        deal_id=deal.deal_id,
        instant=won.instant,
        amount=won.amount,
        currency=won.currency,
        owner=won.owner,
        splits=stated_shares(won.splits),
        overlays=stated_shares(won.overlays),
        fields={"deal": fields},
        close_date=None if current is None else current.close_date,
        source_ids=_deal_sources(deal.record, won.instant_ms, won.stay_began_ms),
        cancelled_at=None if ended_ms is None else from_epoch_ms(ended_ms),
        cash=cash,
    )


def _ended(deal: DealFacts, stay: Stay, end_ms: int, identities: Identities) -> Won:
    """A stay in won that has ended, as it was then: the amount is the last one within it."""
    record = deal.record
    spans = [s for s in deal.timeline.spans if s.status == WON and s.start_ms < end_ms]
    closed_ms = deal.timeline.closed_ms
    within = closed_ms is not None and stay.start_ms <= closed_ms < end_ms
    instant_ms = closed_ms if within and closed_ms is not None else stay.start_ms
    return Won(
        instant_ms=instant_ms,
        stay_began_ms=stay.start_ms,
        amount=spans[-1].amount if spans else None,
        currency=deal.timeline.currency,
        owner=owner_at(record, instant_ms, identities),
        splits=shares_at(record, "splits", instant_ms, identities),
        overlays=shares_at(record, "overlays", instant_ms, identities),
    )


def _received(
    deal: DealFacts,
    payment_id: str,
    payment: Record,
    fields: Mapping[str, object],
    identities: Identities,
) -> Iterable[CreditEvent]:
    """Every movement of a payment; owner and splits are the deal's at its instant."""
    own: dict[str, object] = _fields(payment, PAYMENT_FIELDS - {"amount", "currency"})
    said = {s.event_id for s in _latest(payment, ("amount", "currency", "received_at", "deal"))}
    for entry in cash_of(payment_id, payment):
        at_ms = to_epoch_ms(entry.instant)
        yield CreditEvent(
            key=f"payment:{entry.id}",
            on=CreditOn.PAYMENT_RECEIVED,
            deal_id=deal.deal_id,
            instant=entry.instant,
            amount=entry.amount,
            currency=entry.currency,
            owner=owner_at(deal.record, at_ms, identities),
            splits=stated_shares(shares_at(deal.record, "splits", at_ms, identities)),
            overlays=stated_shares(shares_at(deal.record, "overlays", at_ms, identities)),
            fields={"deal": {**fields, "amount": deal.timeline.amount}, "payment": own},
            source_ids=tuple(sorted({*_deal_sources(deal.record, at_ms, None), *said})),
        )


def _issued(
    deal: DealFacts,
    invoice_id: str,
    invoice: Record,
    fields: Mapping[str, object],
    identities: Identities,
) -> CreditEvent | None:
    """An issued invoice; None for one that is not, or not yet. Owner and splits are the deal's."""
    at_ms = _issued_ms(invoice)
    if at_ms is None or invoice.value("deleted") is True:
        return None
    amount = invoice.value("amount")
    note = invoice.value("credit_note_of") is not None
    own: dict[str, object] = {**_fields(invoice, INVOICE_FIELDS), "credit_note": note}
    sources = {
        *_deal_sources(deal.record, at_ms, None),
        *(said.event_id for said in _latest(invoice, ("amount", "currency", "deal", "issued_at"))),
        *(said.event_id for said in _latest(invoice, ("status", "credit_note_of"))),
    }
    return CreditEvent(
        key=f"invoice:{invoice_id}",
        on=CreditOn.INVOICE_ISSUED,
        deal_id=deal.deal_id,
        instant=from_epoch_ms(at_ms),
        amount=invoice_amount(None if amount is None else parse_decimal(amount), credit_note=note),
        currency=invoice.value("currency"),
        owner=owner_at(deal.record, at_ms, identities),
        splits=stated_shares(shares_at(deal.record, "splits", at_ms, identities)),
        overlays=stated_shares(shares_at(deal.record, "overlays", at_ms, identities)),
        fields={"deal": {**fields, "amount": deal.timeline.amount}, "invoice": own},
        source_ids=tuple(sorted(sources)),
        cash=cash_for(deal.payments, invoice_id),
    )


def _issued_ms(invoice: Record) -> int | None:
    """When an invoice was issued: as it says, else when it first was more than a draft."""
    if invoice.value("status") in NOT_ISSUED:
        return None
    issued_at = invoice.value("issued_at")
    if issued_at is not None:
        return to_epoch_ms(parse_instant(issued_at))
    for said in invoice.timeline("status"):
        if said.value is not None and said.value not in NOT_ISSUED:
            return int(said.sequence[:15])
    return None


def stated_shares(shares: Mapping[str, Fraction]) -> tuple[tuple[str, str], ...]:
    """Exact shares as texts. Always a fraction: a bare number would be read as a weight."""
    return tuple((m, f"{s.numerator}/{s.denominator}") for m, s in shares.items())


def deal_fields(record: Record) -> dict[str, object]:
    """What formulas may ask of a deal, as far as it is known."""
    return _fields(record, DEAL_FIELDS - {"owner"})


def _fields(record: Record, names: Iterable[str]) -> dict[str, object]:
    """What is known of `names`, as formulas want it: exact numbers, flags, texts."""
    found: dict[str, object] = {}
    for name in sorted(names):
        value = record.value(name)
        if value is not None:
            found[name] = parse_decimal(value) if name in _NUMBERS else value
    return found


def _deal_sources(record: Record, instant_ms: int, stay_began_ms: int | None) -> tuple[str, ...]:
    """Ids of the events a credit rests on: what it is worth, when it was won, whose it was then."""
    found = {said.event_id for said in _latest(record, _MEANT)}
    if stay_began_ms is not None:
        for name in _PLACED:
            for said in record.history.get(name, ()):
                if int(said.sequence[:15]) == stay_began_ms:
                    found.add(said.event_id)
    for name, kept in record.history.items():
        if kept and (name == "owner" or name.startswith(("splits:", "overlays:"))):
            held = [said for said in kept if int(said.sequence[:15]) <= instant_ms]
            found.add((held[-1] if held else kept[0]).event_id)
    return tuple(sorted(found))


def _latest(record: Record, names: Iterable[str]) -> list[Statement]:
    return [said for name in names if (said := record.latest(name)) is not None]
