"""From folded payments to cash received: receipts, refunds and disputes, each at its instant."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from services.commissions.domain.credit import Cash
from services.commissions.domain.rates import ZERO
from shared.clock import from_epoch_ms, parse_instant
from shared.facts.record import Record, Statement
from shared.money import EXACT, parse_decimal


def cash_of(payment_id: str, payment: Record) -> list[Cash]:
    """What one payment moved; nothing while its amount, currency or instant is not known.

    Refunds count from when their total was last stated; a disputed payment is taken back whole
    until the dispute is over.
    """
    amount, currency = payment.value("amount"), payment.value("currency")
    received = payment.value("received_at")
    if amount is None or currency is None or received is None or payment.value("deleted") is True:
        return []
    found = [Cash(payment_id, parse_instant(received), parse_decimal(amount), currency)]
    refunded = ZERO
    refund = payment.latest("refunded_total")
    if refund is not None and refund.value is not None:
        refunded = parse_decimal(refund.value)
        if refunded:
            found.append(_taken(payment_id, "refund", refund, -refunded, currency))
    disputed = payment.latest("disputed")
    if disputed is not None and disputed.value is True:
        left = -EXACT.subtract(parse_decimal(amount), refunded)
        found.append(_taken(payment_id, "dispute", disputed, left, currency))
    return found


def _taken(payment_id: str, why: str, said: Statement, amount: Decimal, currency: str) -> Cash:
    at_ms = int(said.sequence[:15])
    return Cash(f"{payment_id}~{why}-{at_ms}", from_epoch_ms(at_ms), amount, currency)


def cash_for(
    payments: Iterable[tuple[str, Record]], invoice_id: str | None = None
) -> tuple[Cash, ...]:
    """Cash of all payments, or of those for one invoice, in order of time."""
    found = [
        entry
        for payment_id, payment in payments
        if invoice_id is None or payment.value("invoice") == invoice_id
        for entry in cash_of(payment_id, payment)
    ]
    return tuple(sorted(found, key=lambda entry: (entry.instant, entry.id)))
