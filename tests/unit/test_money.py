from __future__ import annotations

from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

import pytest

from shared.errors import InvalidValue
from shared.money import (
    MAX_SHARE_LENGTH,
    allocate,
    minor_unit_exponent,
    parse_decimal,
    parse_share,
    quantise,
    round_to_minor,
    to_text,
)

THIRDS = {"ana": Fraction(1, 3), "ben": Fraction(1, 3), "cleo": Fraction(1, 3)}


@pytest.mark.parametrize(
    ("text", "number"),
    [("1200.50", "1200.5"), ("-0.01", "-0.01"), (7, "7"), (Decimal("0.1"), "0.1"), ("0E+30", "0")],
)
def test_a_decimal_is_read_exactly(text: object, number: str) -> None:
    assert parse_decimal(text) == Decimal(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (1.5, "expected a decimal number as text, got float"),
        (True, "expected a decimal number as text, got bool"),
        ("12,50", "this is not a decimal number"),
        ("NaN", "the number must be finite"),
        ("-Infinity", "the number must be finite"),
        ("1000000000000000000", "the number has more than 18 digits before the point"),
    ],
)
def test_what_is_no_amount_is_refused_in_words(text: object, message: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_decimal(text)
    assert refused.value.message == message


def test_eighteen_digits_before_the_point_are_read() -> None:
    assert parse_decimal("999999999999999999.99") == Decimal("999999999999999999.99")


@pytest.mark.parametrize(
    ("number", "text"),
    [("1200.50", "1200.5"), ("100", "100"), ("-0.0", "0"), ("0", "0"), ("-3.000", "-3"),
     ("1E+3", "1000"), ("0.0000000001", "0.0000000001")],
)  # fmt: skip
def test_text_has_no_exponent_and_no_trailing_zeros(number: str, text: str) -> None:
    assert to_text(Decimal(number)) == text


def test_the_callers_decimal_context_changes_nothing() -> None:
    number = Decimal("123456789012345678.12345678905")
    with localcontext() as context:
        context.prec = 5
        assert quantise(number) == Decimal("123456789012345678.1234567890")
        assert round_to_minor(number, "USD") == Decimal("123456789012345678.12")
        assert allocate(Decimal(1000), THIRDS, "USD")["ana"] == Decimal("333.34")
    assert getcontext().prec > 5


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("JPY", 0), ("KRW", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("TND", 3)],
)
def test_minor_units(currency: str, digits: int) -> None:
    assert minor_unit_exponent(currency) == digits


@pytest.mark.parametrize(
    ("number", "currency", "mode", "rounded"),
    [
        ("12.345", "USD", "half_up", "12.35"),
        ("-12.345", "USD", "half_up", "-12.35"),
        ("12.345", "USD", "half_even", "12.34"),
        ("12.355", "USD", "half_even", "12.36"),
        ("0.5", "JPY", "half_up", "1"),
        ("0.5", "JPY", "half_even", "0"),
        ("1.2345", "KWD", "half_up", "1.235"),
    ],
)
def test_rounding_to_the_minor_unit(number: str, currency: str, mode: str, rounded: str) -> None:
    assert str(round_to_minor(Decimal(number), currency, mode)) == rounded


def test_half_up_is_what_is_meant_without_a_mode() -> None:
    assert round_to_minor(Decimal("2.345"), "USD") == Decimal("2.35")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("25%", Fraction(1, 4)),
        ("33.33 %", Fraction(3333, 10000)),
        ("1/3", Fraction(1, 3)),
        (" 2 / 7 ", Fraction(2, 7)),
        ("3", Fraction(3)),
        ("0", Fraction(0)),
        ("0" * (MAX_SHARE_LENGTH - 1) + "1", Fraction(1)),
    ],
)
def test_a_share_is_exact(text: str, share: Fraction) -> None:
    assert parse_share(text) == share


NO_SHARE = "this is no share: write a percentage (25%), a fraction (1/3) or a weight"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a quarter", NO_SHARE),
        ("1/0", NO_SHARE),
        ("1/2/3", NO_SHARE),
        ("0.5", NO_SHARE),
        ("0" * MAX_SHARE_LENGTH + "1", NO_SHARE),
        ("-25%", "a share cannot be negative"),
        ("-1/3", "a share cannot be negative"),
    ],
)
def test_what_is_no_share_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_share(text)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("amount", "shares", "currency", "parts"),
    [
        ("1000", THIRDS, "USD", {"ana": "333.34", "ben": "333.33", "cleo": "333.33"}),
        ("-1000", THIRDS, "USD", {"ana": "-333.34", "ben": "-333.33", "cleo": "-333.33"}),
        ("1000", THIRDS, "JPY", {"ana": "334", "ben": "333", "cleo": "333"}),
        ("1", THIRDS, "KWD", {"ana": "0.334", "ben": "0.333", "cleo": "0.333"}),
        ("0", THIRDS, "USD", {"ana": "0", "ben": "0", "cleo": "0"}),
        ("0.01", THIRDS, "USD", {"ana": "0.01", "ben": "0", "cleo": "0"}),
        ("-0.01", THIRDS, "USD", {"ana": "-0.01", "ben": "0", "cleo": "0"}),
        # The larger remainder first, whatever the names: 3.33 and 6.67 of 10.00.
        ("10", {"a": Fraction(1, 3), "b": Fraction(2, 3)}, "USD", {"a": "3.33", "b": "6.67"}),
        # What is finer than the minor unit goes to the first by that order.
        ("10.005", {"a": Fraction(1, 3), "b": Fraction(2, 3)}, "USD", {"a": "3.33", "b": "6.675"}),
        ("-10.005", {"a": Fraction(1, 3), "b": Fraction(2, 3)}, "USD",
         {"a": "-3.33", "b": "-6.675"}),
        ("0.004", {"a": Fraction(1, 2), "b": Fraction(1, 2)}, "USD", {"a": "0.004", "b": "0"}),
        ("-0.004", {"a": Fraction(1, 2), "b": Fraction(1, 2)}, "USD", {"a": "-0.004", "b": "0"}),
    ],
)  # fmt: skip
def test_parts_sum_to_the_whole(
    amount: str, shares: dict[str, Fraction], currency: str, parts: dict[str, str]
) -> None:
    found = allocate(Decimal(amount), shares, currency)
    assert found == {member: Decimal(part) for member, part in parts.items()}
    assert sum(found.values()) == Decimal(amount)


@pytest.mark.parametrize("shares", [{}, {"ana": Fraction(1, 2)}, {**THIRDS, "dan": Fraction(1)}])
def test_shares_that_are_no_whole_are_refused(shares: dict[str, Fraction]) -> None:
    with pytest.raises(InvalidValue, match=r"^shares must sum to exactly 1$"):
        allocate(Decimal(1), shares, "USD")
