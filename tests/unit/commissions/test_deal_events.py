"""Which events a folded deal gives: stays that ended, payments, and what is the invoice's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.commissions.domain.credit import CreditEvent
from services.commissions.domain.deal_events import DealFacts, credit_events
from services.commissions.domain.terms import CreditOn
from shared.clock import to_epoch_ms
from shared.facts.deal import project_deal
from shared.facts.record import Record, Statement
from shared.facts.reference import Identities, StageMaps

NOBODY = Identities.build({}, UTC)
MAPS = StageMaps.build({}, UTC)


def said(day: int, value: object, hour: int = 0) -> Statement:
    at_ms = to_epoch_ms(datetime(2025, 1, day, hour, tzinfo=UTC))
    return Statement(f"{at_ms:015d}", 1, value, f"e{day}", 0)


def events(
    *statuses: Statement, payments: tuple[tuple[str, Record], ...] = ()
) -> list[CreditEvent]:
    record = Record(
        fields={"currency": said(1, "USD")},
        history={
            "status": list(statuses),
            "amount": [said(1, "100"), said(20, "0")],
            "owner": [said(1, "ana")],
        },
    )
    timeline = project_deal("acme:main:1", record, MAPS, NOBODY, timedelta(hours=24))
    return credit_events(DealFacts("acme:main:1", record, timeline, [], payments), NOBODY)


def test_a_stay_that_ended_is_an_event_with_its_last_amount() -> None:
    ended, current = events(said(2, "won"), said(10, "lost"), said(25, "won"))
    assert (ended.key, ended.amount) == ("deal:acme:main:1", Decimal(100))
    assert ended.cancelled_at == datetime(2025, 1, 10, tzinfo=UTC)
    assert (current.key, current.amount) == ("deal:acme:main:1~2", Decimal(0))
    assert current.cancelled_at is None


def test_within_the_grace_it_is_one_stay() -> None:
    (one,) = events(said(2, "won"), said(10, "open"), said(10, "won", hour=2))
    assert one.cancelled_at is None


def test_payments_are_cash_of_the_deal_and_events_of_their_own() -> None:
    payment = Record(
        fields={
            "amount": said(12, "40"),
            "currency": said(12, "USD"),
            "received_at": said(12, "2025-01-12T00:00:00Z"),
        }
    )
    won, paid = events(said(2, "won"), payments=(("acme:main:p", payment),))
    assert [c.amount for c in won.cash] == [Decimal(40)]
    assert (paid.on, paid.key) == (CreditOn.PAYMENT_RECEIVED, "payment:acme:main:p")
    assert (paid.owner, paid.amount) == ("ana", Decimal(40))
