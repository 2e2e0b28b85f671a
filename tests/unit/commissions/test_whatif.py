"""What a change of reference data can touch, and how drafts stand beside saved versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from services.commissions.domain.credit import Credit
from services.commissions.domain.credit_rows import credit_as_row
from services.commissions.domain.exchange import RateBook
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Assignment, DayRange, Plan, PlanInvalid
from services.commissions.domain.terms import CreditTo
from services.commissions.reference import Reference
from services.commissions.store import AccountKey, canonical_json
from services.commissions.whatif.credits import Aside, overlaid, stamped
from services.commissions.whatif.differences import (
    AccountDifference,
    StatementDifference,
    with_versions,
)
from services.commissions.whatif.scope import Scope, credit_terms, scopes
from services.commissions.whatif.simulation_results import Summary
from shared.facts.reference import StageMaps
from shared.org.people import Org

JULY = date(2025, 7, 1)


def document(first: str = "2025-01-01", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    component = {
        "id": "new",
        "kind": "commission",
        "credit": {"on": "deal.won", "to": "owner"},
        "rates": {"method": "flat", "rate": "10%"},
    }
    plan = {
        "id": "flat",
        "name": "Flat",
        "currency": "USD",
        "time_zone": "UTC",
        "effective": {"from": first},
        "period": "month",
    }
    said = changes.pop("component", {})
    return {**plan, "components": [{**component, **said}], **changes}


def reference(*documents: Mapping[str, Any], assigned: Sequence[Assignment] = ()) -> Reference:
    plans: dict[str, list[Any]] = {}
    for said in documents:
        plans.setdefault(said["id"], []).append(parse_plan(dict(said)))
    return Reference(
        plans={name: Plan(name, tuple(versions)) for name, versions in plans.items()},
        assignments={"flat": list(assigned)},
        rates=RateBook(),
        stage_maps=StageMaps({}),
        org=Org.build({}, {}, {}),
    )


def first_days(found: Reference) -> list[date | None]:
    return [version.effective.first for version in found.plans["flat"].versions]


def draft(first: str, **changes: Any) -> Any:  # noqa: ANN401 - a plan version
    return parse_plan(document(first, **changes))


RATE = {"component": {"rates": {"method": "flat", "rate": "12%"}}}
WHEN = {"component": {"credit": {"on": "deal.won", "to": "owner", "when": "deal.amount > 5"}}}
CURRENCY: dict[str, Any] = {"fx": {"credit": {"table": "plan", "date": "credit"}}}


def test_a_draft_is_added_or_takes_the_place_of_the_version_of_its_day() -> None:
    present = reference(document(), document("2025-07-01", name="Later"))
    added = with_versions(present, [draft("2025-10-01", **RATE)])
    assert first_days(added) == [date(2025, 1, 1), JULY, date(2025, 10, 1)]
    instead = with_versions(present, [draft("2025-07-01", **RATE)])
    assert first_days(instead) == [date(2025, 1, 1), JULY]
    assert instead.plans["flat"].versions[1].hash != present.plans["flat"].versions[1].hash
    fresh = with_versions(present, [draft("2025-07-01", id="fresh")])
    assert sorted(fresh.plans) == ["flat", "fresh"]
    assert sorted(present.plans) == ["flat"]
    with pytest.raises(PlanInvalid):
        with_versions(present, [draft("2025-10-01", currency="EUR")])


def test_a_draft_can_be_tried_on_days_before_its_own() -> None:
    present = reference(document(), document("2025-07-01", name="Later"))
    tried = with_versions(present, [draft("2027-01-01", **RATE)], in_force_from=date(2025, 3, 1))
    assert first_days(tried) == [date(2025, 1, 1), date(2025, 3, 1)]
    assert tried.plans["flat"].versions[1].effective.last is None
    again = with_versions(present, [draft("2025-01-01")], in_force_from=date(2025, 3, 1))
    hashes = [version.hash for version in again.plans["flat"].versions]
    assert len(set(hashes)) == 2


def test_only_what_differs_is_looked_at() -> None:
    present = reference(document(), document(id="other"))
    assert scopes(present, present, None) == []
    rates = with_versions(present, [draft("2025-07-01", **RATE)])
    assert scopes(rates, present, None) == [Scope("flat", recredit=False, since=JULY)]
    credits_ = with_versions(present, [draft("2025-07-01", **WHEN)])
    assert scopes(credits_, present, None) == [Scope("flat", recredit=True, since=JULY)]
    assert scopes(credits_, present, ["other"]) == []
    assert [scope.plan_id for scope in scopes(present, None, None)] == ["flat", "other"]


def test_a_plan_that_ended_before_is_in_force_longer_than_it_was() -> None:
    """Pay is prorated by the days on which there is any version, those before included."""
    ended = {"from": "2025-01-01", "to": "2025-03-31"}
    present = reference(document(effective=ended))
    changed = with_versions(present, [draft("2025-07-01", **RATE)])
    (scope,) = scopes(changed, present, None)
    assert scope == Scope("flat", recredit=True, since=date(2025, 3, 31))


def test_quotas_leave_credits_alone_and_days_do_not() -> None:
    ana = Assignment("ana", "flat", DayRange(date(2025, 1, 1)))
    present = reference(document(), assigned=[ana])
    for other, recredit in (
        (replace(ana, quota=(("bookings", Decimal(9)),)), False),
        (replace(ana, days=DayRange(JULY)), True),
        (replace(ana, payee="ben"), True),
    ):
        changed = replace(present, assignments={"flat": [other]})
        assert scopes(changed, present, None) == [Scope("flat", recredit, date.min)]


def test_rates_recredit_those_plans_that_convert() -> None:
    present = reference(document(**CURRENCY), document(id="other"))
    changed = replace(present, rates=RateBook())
    assert scopes(changed, present, None) == [
        Scope("flat", recredit=True, since=date.min),
        Scope("other", recredit=False, since=date.min),
    ]


def test_equal_neighbours_credit_alike() -> None:
    """A version that changes rates only leaves one stretch of equal credit terms."""
    rates = reference(document(), document("2025-07-01", **RATE)).plans["flat"]
    assert credit_terms(rates) == credit_terms(reference(document()).plans["flat"])
    whom = reference(document(), document("2025-07-01", **WHEN)).plans["flat"]
    assert [first for first, _, _ in credit_terms(whom)] == [date(2025, 1, 1), JULY]


def credit(key: str, day: date, plan: Plan, component: str = "new") -> Credit:
    version = plan.versions[0]
    return Credit(
        key=key,
        event_key=key,
        deal_id="d1",
        payee="ana",
        plan_id=plan.id,
        version_hash=version.hash,
        component_id=component,
        to=CreditTo.OWNER,
        instant=datetime(day.year, day.month, day.day, tzinfo=UTC),
        day=day,
        share=Fraction(1),
        shares=(("ana", Fraction(1)),),
        basis=Decimal(5),
        original=Decimal(5),
        currency="USD",
        converted=Decimal(5),
        rate=None,
        source_ids=(),
    )


def test_a_credit_is_of_the_version_in_force_on_its_day() -> None:
    plan = reference(document(), document("2025-07-01", **RATE)).plans["flat"]
    early, late = credit("a", date(2025, 6, 30), plan), credit("b", JULY, plan)
    assert stamped(early, plan) is early
    moved = stamped(late, plan)
    assert moved is not None
    assert moved.version_hash == plan.versions[1].hash
    assert stamped(credit("c", JULY, plan, "gone"), plan) is None
    assert stamped(credit("d", date(2024, 1, 1), plan), plan) is None


def test_what_would_be_credited_goes_before_what_would_not() -> None:
    """A credit that moves to another deal is gone there and made here."""
    plan = reference(document()).plans["flat"]
    stored = credit("a", JULY, plan)
    other = replace(stored, deal_id="d2", original=Decimal(7), converted=Decimal(7))
    made = canonical_json(credit_as_row(other))
    rows = [
        Aside("flat", "ana", "credit", "d2", "a", JULY, made),
        Aside("flat", "ana", "credit", "d1", "a", JULY, None),
    ]
    assert overlaid([stored], rows, plan) == [other]
    assert overlaid([stored], rows[::-1], plan) == [other]
    assert overlaid([stored], rows[1:], plan) == []


def account(payee: str, before: str, after: str) -> AccountDifference:
    said = StatementDifference(
        "2025-07", JULY, date(2025, 8, 1), closed=False, waited=False,
        before=Decimal(before), after=Decimal(after),
        payable_before=Decimal(before), payable_after=Decimal(after),
    )  # fmt: skip
    return AccountDifference(AccountKey(payee, "flat"), "USD", (said,))


@pytest.mark.parametrize(
    ("before", "after", "group"),
    [
        ("100", "100", "same"),
        ("0", "0", "same"),
        ("0", "5", "new"),
        ("-5", "5", "new"),
        ("100", "49.99", 0),
        ("100", "50", 1),
        ("100", "99", 5),
        ("100", "100.99", 5),
        ("100", "101", 6),
        ("100", "150", 10),
        ("0.03", "0.04", 9),
    ],
)
def test_changes_are_grouped_by_their_share(before: str, after: str, group: int | str) -> None:
    summary = Summary(reference(document()))
    summary.add([account("ana", before, after)])
    assert summary.spread["flat"] == {group: 1}
    (cost,) = summary.cost.values()
    assert cost.moved == abs(Decimal(after) - Decimal(before))
