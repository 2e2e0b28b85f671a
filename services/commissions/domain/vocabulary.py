"""The names a plan formula may use, by the event it credits.

`amount`, `currency`, `owner` and `type` may stand alone: without them the credit waits. All other
fields are optional and need a default.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.commissions.domain.expressions import Field, Symbols, ValueKind
from services.commissions.domain.plan import CreditOn

_NUMBER, _TEXT, _FLAG = (
    Field(ValueKind.NUMBER),
    Field(ValueKind.TEXT),
    Field(ValueKind.FLAG),
)
_AMOUNT = Field(ValueKind.NUMBER, waits=True)
_KNOWN_TEXT = Field(ValueKind.TEXT, waits=True)

_DEAL: Mapping[str, Field] = {
    "currency": _KNOWN_TEXT,
    "owner": _KNOWN_TEXT,
    "type": _KNOWN_TEXT,
    "name": _TEXT,
    "amount_period": _TEXT,
    "pipeline": _TEXT,
    "stage": _TEXT,
    "account": _TEXT,
    "contact": _TEXT,
    "lead": _TEXT,
    "product": _TEXT,
    "forecast_category": _TEXT,
    "probability": _NUMBER,
    "test": _FLAG,
}
_INVOICE: Mapping[str, Field] = {
    "amount": _AMOUNT,
    "currency": _KNOWN_TEXT,
    "amount_excluding_tax": _NUMBER,
    "number": _TEXT,
    "account": _TEXT,
    "status": _TEXT,
    "credit_note": _FLAG,
}

DEAL_FIELDS = frozenset(_DEAL)
"""Fields of a deal, besides its amount, whose values a formula may ask for."""

INVOICE_FIELDS = frozenset(_INVOICE)
"""Fields of an invoice whose values a formula may ask for."""


def when_symbols(on: CreditOn) -> Symbols:
    """Names for `when`."""
    deal = {**_DEAL, "amount": _AMOUNT}
    return {"deal": deal} if on is CreditOn.DEAL_WON else {"deal": deal, "invoice": _INVOICE}


def amount_symbols(on: CreditOn) -> Symbols:
    """Names for `amount`: only money in the credited event's own currency."""
    if on is CreditOn.DEAL_WON:
        return when_symbols(on)
    return {"deal": _DEAL, "invoice": _INVOICE}
