"""Credits and rates as JSON values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from services.commissions.domain.credit import Cash, Credit
from services.commissions.domain.exchange import RateRow
from services.commissions.domain.terms import CreditTo
from shared.clock import parse_instant
from shared.clock import to_text as instant_text
from shared.errors import InvalidValue
from shared.money import quantise, to_text


def credit_as_row(credit: Credit) -> dict[str, object]:
    """A credit as JSON values: decimals, fractions and times as text."""
    return _extras_as_row(credit) | {
        "key": credit.key,
        "event_key": credit.event_key,
        "deal_id": credit.deal_id,
        "payee": credit.payee,
        "plan_id": credit.plan_id,
        "version_hash": credit.version_hash,
        "component_id": credit.component_id,
        "to": credit.to.value,
        "instant": instant_text(credit.instant),
        "day": credit.day.isoformat(),
        "share": str(credit.share),
        "shares": [[member, str(share)] for member, share in credit.shares],
        "basis": to_text(credit.basis),
        "original": to_text(credit.original),
        "currency": credit.currency,
        "converted": None if credit.converted is None else to_text(credit.converted),
        "rate": None if credit.rate is None else rate_as_row(credit.rate),
        "source_ids": list(credit.source_ids),
    }


def _extras_as_row(credit: Credit) -> dict[str, object]:
    """What only some components ask for; left out where there is none."""
    row: dict[str, object] = {}
    if credit.event_amount is not None:
        row["event_amount"] = to_text(credit.event_amount)
    if credit.cash:
        row["cash"] = [
            [c.id, instant_text(c.instant), to_text(c.amount), c.currency] for c in credit.cash
        ]
    if credit.cancelled_at is not None:
        row["cancelled_at"] = instant_text(credit.cancelled_at)
    if credit.objective is not None:
        row["objective"] = credit.objective
    if credit.overlays:
        row["overlays"] = [[member, str(share)] for member, share in credit.overlays]
    if credit.reports:
        row["reports"] = list(credit.reports)
    if credit.inputs:
        row["inputs"] = [list(entry) for entry in credit.inputs]
    return row


def rate_as_row(row: RateRow) -> dict[str, str]:
    """A rate row as JSON values."""
    return {
        "id": row.id,
        "table": row.table,
        "from": row.from_currency,
        "to": row.to_currency,
        "date": row.day.isoformat(),
        "rate": to_text(row.rate),
        "source": row.source,
    }


def rate_from_row(row: Mapping[str, str]) -> RateRow:
    """The inverse of rate_as_row."""
    return RateRow(
        id=row["id"],
        table=row["table"],
        from_currency=row["from"],
        to_currency=row["to"],
        day=date.fromisoformat(row["date"]),
        rate=Decimal(row["rate"]),
        source=row["source"],
    )


def credit_from_row(row: Mapping[str, Any]) -> Credit:
    """The inverse of credit_as_row. Raises InvalidValue for what it never writes.

    Rating reads every credit of an account through it: what few have costs nothing here.
    """
    converted, rate = row["converted"], row["rate"]
    try:
        return Credit(
            row["key"],
            row["event_key"],
            row["deal_id"],
            row["payee"],
            row["plan_id"],
            row["version_hash"],
            row["component_id"],
            _TO[row["to"]],
            parse_instant(row["instant"]),
            _day(row["day"]),
            _fraction(row["share"]),
            _shares(row["shares"]),
            quantise(Decimal(row["basis"])),
            quantise(Decimal(row["original"])),
            row["currency"],
            None if converted is None else quantise(Decimal(converted)),
            None if rate is None else rate_from_row(rate),
            tuple(row["source_ids"]),
            **(_extras_from_row(row) if len(row) > _PLAIN_FIELDS else {}),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        msg = "this is no stored credit"
        raise InvalidValue(msg) from error


def _extras_from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of _extras_as_row."""
    amount, cancelled = row.get("event_amount"), row.get("cancelled_at")
    return {
        "event_amount": None if amount is None else quantise(Decimal(amount)),
        "cash": tuple(_cash(*entry) for entry in row.get("cash", ())),
        "cancelled_at": None if cancelled is None else parse_instant(cancelled),
        "objective": row.get("objective"),
        "overlays": _shares(row.get("overlays", ())),
        "reports": tuple(row.get("reports", ())),
        "inputs": tuple((name, kind, value) for name, kind, value in row.get("inputs", ())),
    }


_PLAIN_FIELDS = 18
"""Fields that every credit has."""

_TO = {to.value: to for to in CreditTo}

_day = lru_cache(maxsize=4_096)(date.fromisoformat)
_fraction = lru_cache(maxsize=4_096)(Fraction)
"""Shares of credits are few different texts; reading a fraction takes long."""


def _shares(rows: Iterable[Iterable[str]]) -> tuple[tuple[str, Fraction], ...]:
    return tuple([(member, _fraction(share)) for member, share in rows])


def _cash(identity: str, instant: str, amount: str, currency: str) -> Cash:
    return Cash(identity, parse_instant(instant), quantise(Decimal(amount)), currency)
