from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.commissions.domain import schema
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import PlanInvalid
from tests.unit.commissions.history import EVERYTHING, golden_cases

COMMITTED = Path(schema.__file__).with_name("plan.schema.json")
VALIDATOR = jsonschema.Draft202012Validator(schema.plan_schema())
PLANS = {
    f"{name}/{plan}": documents[plan]
    for name, documents, _ in golden_cases(EVERYTHING)
    for plan in documents
}


def test_the_committed_schema_is_the_generated_one() -> None:
    generated = json.dumps(schema.plan_schema(), indent=1, ensure_ascii=False) + "\n"
    assert COMMITTED.read_text() == generated, "write plan_schema() to plan.schema.json again"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.plan_schema())


def test_every_golden_plan_is_valid() -> None:
    for name, document in PLANS.items():
        problems = [error.message for error in VALIDATOR.iter_errors(document)]
        assert not problems, name


@pytest.mark.parametrize(
    "changes",
    [
        {"cap": {"amount": 2.5, "per": "year"}},
        {"cap": {"amount": 1, "per": "deal"}},
        {"perod": "month"},
        {"draw": {"amount": 4000}},
        {"draw": {"amount": 4000, "recoverable": True, "periods": 0}},
        {"proration": "weeks"},
        {"max_recovery_pct": 0.5},
        {"components": []},
        {"components": [{"id": "c"}]},
        {"components": [{"id": "c", "credit": {"on": "deal.lost"}}]},
    ],
)
def test_what_the_schema_refuses_reading_refuses(changes: dict[str, Any]) -> None:
    document = next(iter(PLANS.values())) | changes
    assert list(VALIDATOR.iter_errors(document))
    with pytest.raises(PlanInvalid):
        parse_plan(document)
