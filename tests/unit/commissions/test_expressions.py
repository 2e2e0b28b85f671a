from __future__ import annotations

import time
from decimal import Decimal

import pytest

from services.commissions.domain.expressions import (
    ExpressionInvalid,
    FieldUnknown,
    ValueKind,
    compile_expression,
)
from services.commissions.domain.plan import CreditOn
from services.commissions.domain.vocabulary import amount_symbols, when_symbols
from shared.errors import InvalidValue

SYMBOLS = when_symbols(CreditOn.DEAL_WON)
DEAL = {"amount": Decimal("100.10"), "type": "new", "owner": "ana", "product": "Edge"}


def flag(text: str, **deal: object) -> object:
    return compile_expression(text, SYMBOLS, ValueKind.FLAG).evaluate({"deal": {**DEAL, **deal}})


def number(text: str, **deal: object) -> object:
    expression = compile_expression(text, SYMBOLS, ValueKind.NUMBER)
    return expression.evaluate({"deal": {**DEAL, **deal}})


def test_formulas_compute() -> None:
    assert flag('deal.type == "new" and deal.amount > 0') is True
    assert flag('deal.type in ["expansion", "renewal"]') is False
    assert flag('(deal.product ?? "") == "Edge"') is True
    assert flag('(deal.product ?? "") == "Edge"', product=None) is False
    assert flag("not (deal.test ?? false)") is True
    assert number("deal.amount > 50 ? deal.amount / 2 : 0") == Decimal("50.05")


def test_numbers_are_exact_decimals() -> None:
    assert number("deal.amount * 0.1") == Decimal("10.01")
    assert number("0.1 + 0.2") == Decimal("0.3")
    assert number("deal.amount * 1.0000000001", amount=Decimal(123456789012345678)) == Decimal(
        "123456789024691356.9012345678"
    )
    assert number("deal.amount / 3", amount=Decimal(1)) == Decimal("0.3333333333")


def test_a_number_beyond_range_is_an_error_and_not_a_result() -> None:
    with pytest.raises(InvalidValue, match="18 digits"):
        number("deal.amount * deal.amount", amount=Decimal(10) ** 17)


def test_a_field_that_may_stand_alone_makes_the_formula_wait_only_when_it_is_needed() -> None:
    with pytest.raises(FieldUnknown, match=r"deal\.amount"):
        flag("deal.amount > 0", amount=None)
    assert flag('deal.type == "renewal" and deal.amount > 0', amount=None) is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deal.amont > 0", r"did you mean deal\.amount\? \(at character 1\)"),
        ("deal.type == deal.produt", r"did you mean deal\.product\? \(at character 14\)"),
        ('deal.product == "x"', r'write \(deal\.product \?\? ""\)'),
        ('deal.amount == "x"', "a number and a text"),
        ('deal.amount > "x"', "does not read"),
        ("deal.type == null", "unknown name null"),
        ("not deal.type", "yes or no"),
        ("deal.amount and true", "yes or no"),
        ('deal.type in ["new", 1]', "never alike"),
        ('"new" in deal.type', "needs a list"),
        ("deal.amount", "must give a flag"),
        ("deal.amount / 0 > 1", "divide only by a number other than zero"),
        ("deal.amount / 0.00 > 1", "divide only by a number other than zero"),
        ("deal.amount / deal.amount > 1", "divide only"),
        ("deal.amount > 0 and", r"ends too early \(at character 20\)"),
        ("deal.amount > 5 5", r"does not fit here \(at character 17\)"),
        ("", "empty"),
        ("deal.amount(1) > 0", "no function"),
        ("deal.amount.to_int > 0", "unknown name"),
        ('"a".length > 0', "not part of the formula language"),
        ("deal.__class__ == deal.type", "unknown name"),
        ('b"x" == b"x"', "cannot follow a name"),
        ("1e400 > 0", "no plain number"),
        ("0x10 > 0", "no plain number"),
        ("inf > 0", "unknown name inf"),
        ("nan > 0", "unknown name nan"),
        ("$now > 0", "not part"),
        ("deal.amount ** 2 > 0", "not part"),
        ("1 << 999999999 > 0", "not part"),
        ("deal.amount // 2 > 0", "not part"),
        ("deal.amount % 2 > 0", "not part"),
        ('deal.type =~ "(a+)+$"', "not part"),
        ('deal.type !~ "(a+)+$"', "not part"),
        ("[x for x in deal] == 1", "a list is allowed only after"),
        ("deal&.amount > 0", "not part"),
        ("deal.amount > 0 # yes", "not part"),
        ('deal.type == "a\\"', "not part"),
        ("deal.\uff41mount > 0", "not part"),
        ("(" * 60 + "true" + ")" * 60, "brackets"),
        ("true" + " and true" * 150, "at most 200"),
        ("true" + " " * 3000, "at most 2048"),
    ],
)
def test_everything_outside_the_language_is_refused_with_a_sentence(
    text: str, message: str
) -> None:
    before = time.monotonic()
    with pytest.raises(ExpressionInvalid, match=message):
        compile_expression(text, SYMBOLS, ValueKind.FLAG)
    assert time.monotonic() - before < 1


def test_an_invoice_cannot_be_credited_with_the_deals_amount() -> None:
    with pytest.raises(ExpressionInvalid, match=r"deal\.amount"):
        compile_expression("deal.amount", amount_symbols(CreditOn.INVOICE_ISSUED), ValueKind.NUMBER)
