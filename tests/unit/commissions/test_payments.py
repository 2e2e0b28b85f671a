from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from services.commissions.domain.payments import cash_for, cash_of
from shared.clock import to_epoch_ms
from shared.facts.record import Record, Statement


def at_ms(day: int) -> int:
    return to_epoch_ms(datetime(2025, 1, day, tzinfo=UTC))


def payment(**stated: tuple[int, object]) -> Record:
    """Field → (day of January, value)."""
    fields = {
        name: Statement(f"{at_ms(day):015d}", 1, value, f"e-{name}", 0)
        for name, (day, value) in stated.items()
    }
    return Record(fields=fields)


RECEIVED = {
    "amount": (10, "100"),
    "currency": (10, "USD"),
    "received_at": (10, "2025-01-10T00:00:00Z"),
}


def moves(record: Record) -> list[tuple[int, Decimal]]:
    return [(entry.instant.day, entry.amount) for entry in cash_of("P", record)]


def test_a_payment_counts_when_it_was_received() -> None:
    assert moves(payment(**RECEIVED)) == [(10, Decimal(100))]


def test_a_refund_and_a_dispute_take_back_when_they_were_stated() -> None:
    refunded = payment(**RECEIVED, refunded_total=(12, "30"))
    assert moves(refunded) == [(10, Decimal(100)), (12, Decimal(-30))]
    disputed = payment(**RECEIVED, refunded_total=(12, "30"), disputed=(14, True))
    assert moves(disputed)[-1] == (14, Decimal(-70))
    assert moves(payment(**RECEIVED, disputed=(14, False))) == [(10, Decimal(100))]


def test_what_is_not_known_or_deleted_moves_nothing() -> None:
    assert moves(payment(amount=(10, "100"), currency=(10, "USD"))) == []
    assert moves(payment(**RECEIVED, deleted=(11, True))) == []


def test_cash_of_one_invoice() -> None:
    mine = payment(**RECEIVED, invoice=(10, "inv-1"))
    other = payment(**RECEIVED, invoice=(10, "inv-2"))
    assert [c.id for c in cash_for([("b", other), ("a", mine)])] == ["a", "b"]
    assert [c.id for c in cash_for([("b", other), ("a", mine)], "inv-2")] == ["b"]
