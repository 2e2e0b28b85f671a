"""What a statement's totals, hash, postings and rounding are made of, to the letter."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from services.commissions.domain.ledger import Account, wanted_balances
from services.commissions.domain.lines import LineKind
from services.commissions.domain.statement import Statement, fixed_by
from shared.errors import MoneyDisagrees
from shared.money import to_text
from tests.unit.commissions.test_rating import ASSIGNED, plan, sheet

D = Decimal
TENTH = {"method": "flat", "rate": "10%"}
DRAW = {"amount": 40, "recoverable": True, "from": "2025-01", "periods": 12}


def after_a_close(*, draw: bool = False) -> Statement:
    """February with 50 of its own, after January was closed at 100 and is 70 by now."""
    of = plan(TENTH, **({"draw": DRAW} if draw else {}))
    january = sheet(of, ("a", "2025-01-10", "1000")).statement("2025-01")
    assert january is not None
    found = sheet(
        of,
        ("a", "2025-01-10", "700"),
        ("b", "2025-02-10", "500"),
        fixed=[fixed_by(january)],
        closed_before=date(2025, 2, 1),
    ).statement("2025-02")
    assert found is not None
    return found


def balances(statement: Statement) -> dict[tuple[str, str], Decimal]:
    """(account, key of the line) → what has to stand there."""
    return {(p.account, p.key): amount for p, amount in wanted_balances(statement).items()}


def test_where_the_money_of_a_statement_stands() -> None:
    statement = after_a_close()
    (line,) = statement.lines
    assert balances(statement) == {
        (Account.EARNED, line.key): D(50),
        (Account.COMPANY, line.key): D(-50),
        (Account.EARNED, "difference"): D(-30),
        (Account.COMPANY, "difference"): D(30),
        (Account.EARNED, "settlement"): D(-20),
        (Account.PAYABLE, "settlement"): D(20),
    }


def test_a_difference_goes_into_the_balance_of_a_draw() -> None:
    statement = after_a_close(draw=True)
    found = balances(statement)
    assert found[Account.PAYABLE, "settlement"] == D(40)
    assert found[Account.DRAW, "settlement"] == D(-20)
    assert (Account.CARRY, "settlement") not in found
    assert sum(found.values()) == 0


def test_what_is_not_paid_off_is_carried() -> None:
    of = plan(TENTH)
    january = sheet(of, ("a", "2025-01-10", "1000")).statement("2025-01")
    assert january is not None
    found = sheet(
        of,
        ("b", "2025-02-10", "500"),
        fixed=[fixed_by(january)],
        closed_before=date(2025, 2, 1),
    ).statement("2025-02")
    assert found is not None
    assert balances(found)[Account.CARRY, "settlement"] == D(-50)


def test_a_statement_that_does_not_come_out_even_is_never_posted() -> None:
    broken = replace(after_a_close(), payable=D("20.01"))
    with pytest.raises(MoneyDisagrees, match=r"^statement ana 2025-02 does not come out even$"):
        wanted_balances(broken)


def _hash(statement: Statement, paid: str, draw: str = "") -> str:
    lines = [f"{x.key}\t{x.version_hash}\t{to_text(x.amount)}" for x in statement.lines]
    totals = [
        f"difference\t{to_text(statement.difference)}",
        f"carry\t{to_text(statement.carry_in)}\t{to_text(statement.carry_out)}",
        f"payable\t{to_text(statement.payable)}\t{paid}\t{statement.payout.currency}",
    ]
    told = "\n".join([*sorted(lines), *totals, *([draw] if draw else [])])
    return hashlib.sha256(told.encode()).hexdigest()


def test_the_hash_is_over_every_line_and_every_total() -> None:
    assert after_a_close().hash == _hash(after_a_close(), "20")
    drawn = after_a_close(draw=True)
    assert drawn.draw is not None
    assert drawn.hash == _hash(drawn, "40", f"draw\t0\t{to_text(drawn.draw.balance_out)}")


def test_a_statement_that_waits_for_a_rate_says_held_in_its_hash() -> None:
    of = plan(TENTH, fx={"payout": {"table": "ecb", "date": "period_end"}})
    found = sheet(
        of,
        ("a", "2025-01-10", "1000"),
        assigned=[replace(ASSIGNED[0], payout_currency="EUR")],
    ).statement("2025-01")
    assert found is not None
    assert found.payout.amount is None
    assert found.hash == _hash(found, "held")


def test_a_close_fixes_what_the_statement_says() -> None:
    drawn = after_a_close(draw=True)
    fixed = fixed_by(drawn)
    assert drawn.draw is not None
    assert (fixed.hash, fixed.payable, fixed.difference) == (drawn.hash, D(40), D(-30))
    assert (fixed.draw_in, fixed.draw_out) == (drawn.draw.balance_in, drawn.draw.balance_out)
    assert (fixed.carry_in, fixed.carry_out) == (D(0), D(0))
    owing = replace(drawn, draw=replace(drawn.draw, balance_in=D(7)))
    assert fixed_by(owing).draw_in == D(7)
    plain = fixed_by(after_a_close())
    assert (plain.draw_in, plain.draw_out) == (D(0), D(0))
    later = replace(after_a_close(), carry_in=D(-5))
    assert fixed_by(later).carry_in == D(-5)


def test_each_statement_is_rounded_once_in_its_currency_and_mode() -> None:
    found = sheet(
        plan({"method": "flat", "rate": "1%"}, currency="JPY",
             rounding={"mode": "half_even", "at": "statement"}),
        ("a", "2025-01-10", "125"),
        ("b", "2025-01-11", "125"),
        ("c", "2025-02-10", "150"),
        ("d", "2025-03-10", "250"),
        currency="JPY",
    )  # fmt: skip
    rounded = {}
    for label in ("2025-01", "2025-02", "2025-03"):
        statement = found.statement(label)
        assert statement is not None
        *_, line = statement.lines
        assert line.kind is LineKind.ROUNDING
        assert line.component_id == ""
        assert line.exact == line.amount
        assert line.basis is not None
        rounded[label] = (statement.own, line.amount, line.basis.sentence(line.amount, "JPY"))
    assert rounded["2025-01"][:2] == (D(2), D("-0.5"))
    assert rounded["2025-02"][:2] == (D(2), D("0.5"))
    assert rounded["2025-03"] == (
        D(2),
        D("-0.5"),
        (
            "The lines sum to 2.5 JPY; the plan rounds the statement once, "
            "which changes it by -0.5 JPY."
        ),
    )
