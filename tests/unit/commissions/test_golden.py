from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.capitalised import month_label, schedule, totals
from services.commissions.domain.explain import explain_statement
from services.commissions.domain.ledger import Cause, difference, transaction, wanted_balances
from services.commissions.domain.lint import LintContext, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.rating import Line
from services.commissions.domain.sheet import Sheet
from services.commissions.domain.statement import Statement
from tests.unit.commissions.checker import check_statement
from tests.unit.commissions.history import EVERYTHING, Step, World, arrivals, golden_cases

CASES = list(golden_cases(EVERYTHING))
FALLS = {"negative_rate", "falling_rate", "falling_border"}
"""What the linter finds where more sales may pay less."""

WANTED_RULES = [f"G{number:02}" for number in range(1, 35)]


def test_every_rule_has_its_file() -> None:
    assert sorted({name[:3] for name, _, _ in CASES if name[0] == "G"}) == WANTED_RULES


@pytest.mark.parametrize(("documents", "case"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_golden(documents: dict[str, Any], case: Step) -> None:
    for steps in arrivals(case):
        world = World.of(documents, case)
        for step in steps:
            if "expect" in step:
                _expect(world, step["expect"])
                _same_lint(documents, step["expect"].get("lint", []))
            else:
                world.arrive(step)


def _expect(world: World, wanted: Step) -> None:
    for entry in wanted.get("statements", []):
        statement, sheet = world.statement(entry["payee"], entry["plan"], entry["period"])
        _same_statement(world, statement, sheet, entry)
    for entry in wanted.get("capitalised", []):
        _same_cost(world, entry)
    if "credits" in wanted:
        _same_credits(world, wanted["credits"])
    if "bookings" in wanted:
        assert world.bookings() == {d: Decimal(a) for d, a in wanted["bookings"].items()}
    if "exceptions" in wanted:
        found = {(str(e.kind), e.deal_id, e.payee) for e in world.exceptions()}
        assert found == {
            (e["kind"], e.get("deal", ""), e.get("payee")) for e in wanted["exceptions"]
        }


def _same_lint(documents: dict[str, Any], wanted: list[Step]) -> None:
    for entry in wanted:
        findings = lint(parse_plan(documents[entry["plan"]]), LintContext())
        found = [f for f in findings if f.code in FALLS]
        assert [f.code for f in found] == entry["falls"]
        if "figure" in entry:
            assert found[0].figure == Decimal(entry["figure"])


def _same_statement(world: World, found: Statement, sheet: Sheet, wanted: Step) -> None:
    place = (wanted["payee"], wanted["plan"], wanted["period"])
    if "lines" in wanted:
        assert [_line(line) for line in found.lines] == [
            (
                entry.get("deal"),
                entry.get("kind", "credit"),
                Decimal(entry["amount"]),
            )
            for entry in wanted["lines"]
        ]
        _same_true_ups(found, sheet, wanted["lines"])
    amounts = {
        "total": found.own,
        "difference": found.difference,
        "carry": found.carry_out,
        "payable": found.payable,
        "held_pay": found.held_pay,
        "draw_balance": found.draw.balance_out if found.draw else Decimal(0),
        "change": found.own - world.totals.get(place, Decimal(0)),
    }
    for name, amount in amounts.items():
        if name in wanted:
            assert amount == Decimal(wanted[name]), name
    if "corrects" in wanted:
        assert sorted({c.period for c in found.corrections}) == wanted["corrects"]
    if "payout" in wanted:
        amount_text = wanted["payout"]["amount"]
        assert found.payout.currency == wanted["payout"]["currency"]
        assert found.payout.amount == (None if amount_text is None else Decimal(amount_text))
    if "held" in wanted:
        assert [(c.deal_id, c.original, c.currency) for c in found.held] == [
            (h["deal"], Decimal(h["amount"]), h["currency"]) for h in wanted["held"]
        ]
    if "as_closed" in wanted:
        assert found.fixed is not None
        assert found.fixed.own == Decimal(wanted["as_closed"]["total"])
        assert found.fixed.payable == Decimal(wanted["as_closed"]["payable"])
    world.totals[place] = found.own
    _books_balance(found)
    if not found.closed:
        check_statement(json.loads(json.dumps(explain_statement(found, sheet.rater))))


def _same_cost(world: World, wanted: Step) -> None:
    (contract,) = world.contracts(wanted["payee"], wanted["plan"])
    months = schedule(contract)
    assert (contract.deal_id, contract.cost) == (wanted["deal"], Decimal(wanted["cost"]))
    assert len(months) == wanted["months"]
    for name, place in (("first", 0), ("last", -1)):
        assert month_label(months[place].month) == wanted[name]["month"]
        assert months[place].amortised == Decimal(wanted[name]["amortised"])
    assert sum(one.written_off for one in months) == Decimal(wanted["written_off"])
    assert sum(one.amortised + one.written_off for one in months) == contract.cost
    *_, last = totals([contract])
    assert last.remaining == 0


def _line(line: Line) -> tuple[str | None, str, Decimal]:
    return line.deal_id, str(line.kind), line.amount


def _same_true_ups(found: Statement, sheet: Sheet, wanted: list[Step]) -> None:
    tree: dict[str, Any] = json.loads(json.dumps(explain_statement(found, sheet.rater)))
    for entry, line in zip(wanted, tree["lines"], strict=True):
        if "true_up" in entry:
            assert Decimal(line["rates"]["true_up"]) == Decimal(entry["true_up"])


def _books_balance(statement: Statement) -> None:
    """Posting a statement sums to zero, and posting it again posts nothing."""
    if statement.closed:
        return
    wanted = wanted_balances(statement)
    posted = transaction(Cause(("test",), "hash", "engine"), difference({}, wanted))
    held = {posting.place: posting.amount for posting in posted.postings}
    assert difference(held, wanted) == ()


def _same_credits(world: World, wanted: list[Step]) -> None:
    found, _ = world.credited()
    assert len(found) == len(wanted)
    by_place = {(c.payee, c.deal_id, c.component_id): c for c in found}
    for entry in wanted:
        credit = next(
            c
            for (payee, deal, component), c in by_place.items()
            if (payee, deal) == (entry["payee"], entry["deal"])
            and entry.get("component", component) == component
        )
        assert credit.original == Decimal(entry["amount"])
        assert credit.currency == entry["currency"]
        if "credited" in entry:
            assert credit.converted == Decimal(entry["credited"])
