"""What differs between two plan documents, and on which day a change of an assignment begins."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from services.commissions.api.assignment_changes import AssignmentBody, AssignmentChange, Stored
from services.commissions.plans.sync import Edit, edits


def test_edits_are_told_by_pointer_and_components_by_their_id() -> None:
    before = {
        "id": "ae",
        "cap": {"amount": "12.10"},
        "components": [{"id": "a", "rates": {"rate": "8%"}}, {"id": "b"}],
    }
    after = {
        "id": "ae",
        "cap": {"amount": "12.1"},
        "components": [{"id": "b"}, {"id": "a", "rates": {"rate": "9%"}}, {"id": "c"}],
        "period": "month",
    }
    assert list(edits(before, after)) == [
        Edit("/cap/amount", "12.10", "12.1"),
        Edit("/components/a/rates/rate", "8%", "9%"),
        Edit("/components/c", None, {"id": "c"}),
        Edit("/period", None, "month"),
    ]


def test_tiers_have_no_ids_and_are_told_by_their_places() -> None:
    tiers = [{"from": "0%", "rate": "4%"}, {"from": "100%", "rate": "8%"}]
    changed = [tiers[0], {**tiers[1], "rate": "9%"}]
    assert list(edits({"tiers": tiers}, {"tiers": changed})) == [Edit("/tiers/1/rate", "8%", "9%")]
    assert list(edits({"amount": 5}, {"amount": 5})) == []


BODY = {"payee": "ana", "plan": "ae", "from": "2025-01-10", "to": "2025-06-30"}


def changed(before: dict[str, Any] | None, after: dict[str, Any] | None) -> AssignmentChange:
    def body(said: dict[str, Any] | None) -> AssignmentBody | None:
        return None if said is None else AssignmentBody.model_validate(said)

    known = body(before)
    return AssignmentChange("a", Stored("a", known, known, 1), body(after))


@pytest.mark.parametrize(
    ("before", "after", "since"),
    [
        (None, BODY, "2025-01-10"),
        (BODY, None, "2025-01-10"),
        (BODY, {**BODY, "to": "2025-05-31"}, "2025-06-01"),
        (BODY, {**BODY, "to": None}, "2025-07-01"),
        (BODY, {**BODY, "from": "2025-02-01"}, "2025-01-10"),
        (BODY, {**BODY, "to": None, "target_pay": "5"}, "2025-01-10"),
    ],
)
def test_the_first_day_on_which_an_assignment_changes(
    before: dict[str, Any] | None, after: dict[str, Any] | None, since: str
) -> None:
    assert changed(before, after).since == date.fromisoformat(since)
