"""Credits and rates as JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
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


def credit_from_row(row: Mapping[str, object]) -> Credit:
    """The inverse of credit_as_row. Raises InvalidValue for what it never writes."""
    converted_text, rate = row["converted"], row["rate"]
    cancelled, objective = row.get("cancelled_at"), row.get("objective")
    return Credit(
        key=str(row["key"]),
        event_key=str(row["event_key"]),
        deal_id=str(row["deal_id"]),
        payee=str(row["payee"]),
        plan_id=str(row["plan_id"]),
        version_hash=str(row["version_hash"]),
        component_id=str(row["component_id"]),
        to=CreditTo(str(row["to"])),
        instant=parse_instant(str(row["instant"])),
        day=date.fromisoformat(str(row["day"])),
        share=Fraction(str(row["share"])),
        shares=_shares(row, "shares"),
        basis=_number(row["basis"]),
        original=_number(row["original"]),
        currency=str(row["currency"]),
        converted=None if converted_text is None else _number(converted_text),
        rate=rate_from_row(rate) if isinstance(rate, Mapping) else None,
        source_ids=tuple(str(source) for source in _list(row, "source_ids")),
        event_amount=_number(row["event_amount"]) if "event_amount" in row else None,
        cash=tuple(_cash(*entry) for entry in _list(row, "cash")),
        cancelled_at=None if cancelled is None else parse_instant(str(cancelled)),
        objective=None if objective is None else str(objective),
        overlays=_shares(row, "overlays"),
        reports=tuple(str(member) for member in _list(row, "reports")),
        inputs=tuple((str(n), str(k), str(v)) for n, k, v in _list(row, "inputs")),
    )


def _list(row: Mapping[str, object], name: str) -> list[Any]:
    found = row.get(name, [])
    if not isinstance(found, list):
        msg = f"a stored credit has a list of {name}"
        raise InvalidValue(msg)
    return found


def _shares(row: Mapping[str, object], name: str) -> tuple[tuple[str, Fraction], ...]:
    return tuple((str(member), Fraction(str(share))) for member, share in _list(row, name))


def _cash(identity: str, instant: str, amount: str, currency: str) -> Cash:
    return Cash(identity, parse_instant(instant), _number(amount), currency)


def _number(text: object) -> Decimal:
    return quantise(Decimal(str(text)))
