from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from services.commissions.domain.payrun import (
    Batch,
    Column,
    ControlTotal,
    LineValue,
    PayLine,
    Template,
    batch_hash,
    control_totals,
    payroll_file,
)
from services.commissions.paying.payruns import templates


def line(payee: str = "ana", amount: str = "100", currency: str = "USD", **changes: str) -> PayLine:
    return PayLine(
        payee=payee,
        name=changes.get("name", payee.title()),
        employee_number=changes.get("number", "17"),
        plan="flat",
        period=changes.get("period", "2025-01"),
        amount=Decimal(amount),
        currency=currency,
        plan_amount=Decimal(amount),
        plan_currency="USD",
        statement_hash="abc",
    )


def batch(*lines: PayLine, **parameters: str) -> Batch:
    return Batch("jan", date(2025, 2, 5), lines, parameters)


def test_unlike_currencies_are_never_added() -> None:
    assert control_totals([line(), line("ben", "0.10"), line("cem", "7", "EUR")]) == (
        ControlTotal("EUR", 1, Decimal(7)),
        ControlTotal("USD", 2, Decimal("100.10")),
    )


def test_the_hash_is_of_what_is_paid_and_of_no_order() -> None:
    lines = [line(), line("ben")]
    assert batch_hash(lines) == batch_hash(reversed(lines))
    assert batch_hash(lines) != batch_hash([line(), line("ben", "100.01")])
    assert batch_hash(lines) != batch_hash([line(), line("ben", period="2025-02")])


def test_the_generic_file_in_full() -> None:
    lines = [line("ben", "1234.5"), line("ana", "5000", "JPY", name='=cmd|"x"!A1')]
    assert payroll_file(batch(*lines), templates()["generic"]).decode() == (
        "batch,pay_date,payee,name,plan,period,amount,currency,statement_hash\r\n"
        'jan,2025-02-05,ana,"\'=cmd|""x""!A1",flat,2025-01,5000,JPY,abc\r\n'
        "jan,2025-02-05,ben,Ben,flat,2025-01,1234.50,USD,abc\r\n"
    )


def test_a_payrolls_own_form() -> None:
    template = templates()["adp-paydata"]
    assert template.parameters == {"company_code", "earnings_code"}
    found = payroll_file(batch(line(), company_code="ABC", earnings_code="COM"), template)
    assert found.decode() == (
        "Co Code,Batch ID,File #,Earnings 3 Code,Earnings 3 Amount\r\nABC,jan,17,COM,100.00\r\n"
    )


@pytest.mark.parametrize(("point", "amount"), [(".", "0.05"), (",", "0,05")])
def test_amounts_are_written_as_payroll_reads_them(point: str, amount: str) -> None:
    template = Template("t", (Column("a", LineValue.AMOUNT),), delimiter=";", decimal_point=point)
    assert payroll_file(batch(line(amount="0.05")), template).decode() == f"a\r\n{amount}\r\n"
