"""From a folded deal and its invoices to what may be credited: `credit_events`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.commissions.domain.credits import CreditEvent, invoice_amount
from services.commissions.domain.plan import CreditOn
from services.commissions.domain.vocabulary import DEAL_FIELDS, INVOICE_FIELDS
from shared.clock import from_epoch_ms, parse_instant, to_epoch_ms
from shared.facts.deal import DealTimeline, Won, owner_at, shares_at
from shared.facts.record import Record, Statement
from shared.facts.reference import Identities
from shared.money import parse_decimal

NOT_ISSUED = frozenset({"draft", "void"})
"""Invoices that say so are no revenue, whatever else they say."""

_NUMBERS = frozenset({"probability", "amount_excluding_tax"})
_MEANT = ("amount", "currency", "type", "product", "closed_at", "close_date")
_PLACED = ("stage", "status", "pipeline")


@dataclass(frozen=True, slots=True)
class DealFacts:
    """A deal, its timeline, and the invoices of it and of what was merged into it."""

    deal_id: str
    record: Record
    timeline: DealTimeline
    invoices: Sequence[tuple[str, Record]]


def credit_events(deal: DealFacts, identities: Identities) -> list[CreditEvent]:
    """The won stay and the issued invoices of a deal; none of a deleted or test deal."""
    timeline = deal.timeline
    if timeline.deleted or timeline.test:
        return []
    fields = deal_fields(deal.record)
    events = []
    if timeline.won is not None:
        events.append(_won(deal, timeline.won, fields))
    for invoice_id, invoice in deal.invoices:
        event = _issued(deal, invoice_id, invoice, fields, identities)
        if event is not None:
            events.append(event)
    return events


def _won(deal: DealFacts, won: Won, fields: Mapping[str, object]) -> CreditEvent:
    current = deal.timeline.current
    return CreditEvent(
        key=f"deal:{deal.deal_id}",
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
        fields={"deal": fields, "invoice": own},
        source_ids=tuple(sorted(sources)),
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
