"""Money: exact decimals, and the few operations that are allowed on them."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction

from shared.errors import InvalidValue

STORED_QUANTUM = Decimal("1e-10")
"""Every quantity that is stored or added is first quantised to this step, so sums commute."""

MAX_DIGITS_BEFORE_POINT = 18
"""Larger amounts are refused at the edge: they are mistakes, and sums must stay exact."""

EXACT = decimal.Context(
    prec=60,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Inexact],
)
"""Adding stored quantities in this context raises instead of losing a digit."""

ROUNDING_MODES: Mapping[str, str] = {
    "half_up": decimal.ROUND_HALF_UP,
    "half_even": decimal.ROUND_HALF_EVEN,
}

MAX_SHARE_LENGTH = 40
"""Characters of a share; longer ones are mistakes, and exact fractions of them are slow."""

_SHARE = re.compile(r"-?[0-9]+(\.[0-9]+)?\s*%|-?[0-9]+\s*/\s*[0-9]+|-?[0-9]+", re.ASCII)
_ZERO_DECIMALS = frozenset(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split()  # noqa: SIM905
)
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
_WIDE = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN)


def parse_decimal(text: object) -> Decimal:
    """A finite decimal from text, int or Decimal; floats, NaN and infinities are refused.

    Raises InvalidValue, also for more than 18 digits before the point.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        msg = f"expected a decimal number as text, got {type(text).__name__}"
        raise InvalidValue(msg)
    try:
        number = Decimal(text)
    except decimal.InvalidOperation:
        msg = "this is not a decimal number"
        raise InvalidValue(msg) from None
    if not number.is_finite():
        msg = "the number must be finite"
        raise InvalidValue(msg)
    if number and number.adjusted() >= MAX_DIGITS_BEFORE_POINT:
        msg = f"the number has more than {MAX_DIGITS_BEFORE_POINT} digits before the point"
        raise InvalidValue(msg)
    return quantise(number)


def quantise(number: Decimal) -> Decimal:
    """`number` at the stored step, half-even, without trailing zeros' noise in equality."""
    return number.quantize(STORED_QUANTUM, context=_WIDE)


def to_text(number: Decimal) -> str:
    """Plain decimal text, without exponent and without trailing zeros: `1200.5`, `0`, `-3`."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """The sum of stored quantities; raises decimal.Inexact rather than lose a digit."""
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def minor_unit_exponent(currency: str) -> int:
    """Digits after the point in which `currency` is paid (ISO 4217): JPY 0, USD 2, KWD 3."""
    if currency in _ZERO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2


def round_to_minor(number: Decimal, currency: str, mode: str = "half_up") -> Decimal:
    """`number` rounded once to the currency's minor unit, symmetric for negatives."""
    step = Decimal(1).scaleb(-minor_unit_exponent(currency))
    return number.quantize(step, rounding=ROUNDING_MODES[mode], context=_WIDE)


def parse_share(text: str) -> Fraction:
    """An exact share: `25%`, `33.33%`, a fraction `1/3`, or a whole-number weight `2`.

    Raises InvalidValue for anything else, and for a negative share.
    """
    body = text.strip()
    try:
        if len(body) > MAX_SHARE_LENGTH or not _SHARE.fullmatch(body):
            raise ValueError  # noqa: TRY301 - one message for all forms; also keeps 1e999999999% from being written out
        if body.endswith("%"):
            share = Fraction(Decimal(body[:-1].strip())) / 100
        elif "/" in body:
            numerator, denominator = body.split("/", 1)
            share = Fraction(int(numerator), int(denominator))
        else:
            share = Fraction(int(body))
    except (ValueError, ArithmeticError, decimal.InvalidOperation):
        msg = "this is no share: write a percentage (25%), a fraction (1/3) or a weight"
        raise InvalidValue(msg) from None
    if share < 0:
        msg = "a share cannot be negative"
        raise InvalidValue(msg)
    return share


def allocate(amount: Decimal, shares: Mapping[str, Fraction], currency: str) -> dict[str, Decimal]:
    """Split `amount` by `shares` to the minor unit so that the parts sum to the whole.

    Largest remainder; ties go to the smaller member id. `shares` must sum to 1 exactly;
    a finer remainder of `amount` than the minor unit goes with the first member by that order.
    Raises InvalidValue when the shares do not sum to 1.
    """
    if sum(shares.values(), Fraction(0)) != 1:
        msg = "shares must sum to exactly 1"
        raise InvalidValue(msg)
    step = Fraction(Decimal(1).scaleb(-minor_unit_exponent(currency)))
    whole = Fraction(amount)
    units_total = whole // step if whole >= 0 else -((-whole) // step)
    finer = whole - units_total * step
    parts: dict[str, int] = {}
    remainders: list[tuple[Fraction, str]] = []
    sign = 1 if units_total >= 0 else -1
    for member, share in shares.items():
        exact = abs(units_total) * share
        parts[member] = int(exact)
        remainders.append((exact - int(exact), member))
    remainders.sort(key=lambda pair: (-pair[0], pair[1]))
    missing = abs(units_total) - sum(parts.values())
    for _, member in remainders[:missing]:
        parts[member] += 1
    result = {m: _to_decimal(sign * units * step) for m, units in parts.items()}
    if finer:
        first = remainders[0][1]
        result[first] = quantise(result[first] + _to_decimal(finer))
    return result


def _to_decimal(value: Fraction) -> Decimal:
    return quantise(_WIDE.divide(Decimal(value.numerator), Decimal(value.denominator)))
