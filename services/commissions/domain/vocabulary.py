"""The names a plan formula may use, by the event it credits.

`amount`, `currency`, `owner` and `type` may stand alone: without them the credit waits. All other
fields are optional and need a default.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.commissions.domain.conditions import component_fields
from services.commissions.domain.expressions import Field, Symbols, ValueKind
from services.commissions.domain.terms import CreditOn

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
_DEAL_AMOUNT: Mapping[str, Field] = {**_DEAL, "amount": _AMOUNT}
_INVOICE: Mapping[str, Field] = {
    "amount": _AMOUNT,
    "currency": _KNOWN_TEXT,
    "amount_excluding_tax": _NUMBER,
    "number": _TEXT,
    "account": _TEXT,
    "status": _TEXT,
    "credit_note": _FLAG,
}
_PAYMENT: Mapping[str, Field] = {
    "amount": _AMOUNT,
    "currency": _KNOWN_TEXT,
    "invoice": _TEXT,
    "disputed": _FLAG,
}
_ACTIVITY: Mapping[str, Field] = {
    "owner": _KNOWN_TEXT,
    "kind": _TEXT,
    "direction": _TEXT,
    "outcome": _TEXT,
    "duration_s": _NUMBER,
    "account": _TEXT,
    "lead": _TEXT,
    "internal": _FLAG,
}
_OBJECTIVE: Mapping[str, Field] = {"id": _TEXT, "score": _AMOUNT}
_PAYEE: Mapping[str, Field] = {
    "id": _KNOWN_TEXT,
    "name": _TEXT,
    "role": _TEXT,
    "manager": _TEXT,
    "currency": _TEXT,
}
_OWN: Mapping[CreditOn, tuple[str, Mapping[str, Field]]] = {
    CreditOn.INVOICE_ISSUED: ("invoice", _INVOICE),
    CreditOn.PAYMENT_RECEIVED: ("payment", _PAYMENT),
    CreditOn.ACTIVITY_COMPLETED: ("activity", _ACTIVITY),
    CreditOn.OBJECTIVE_SCORED: ("objective", _OBJECTIVE),
}

DEFAULT_AMOUNT: Mapping[CreditOn, str] = {
    CreditOn.DEAL_WON: "deal.amount",
    CreditOn.INVOICE_ISSUED: "invoice.amount",
    CreditOn.PAYMENT_RECEIVED: "payment.amount",
    CreditOn.ACTIVITY_COMPLETED: "1",
    CreditOn.OBJECTIVE_SCORED: "objective.score",
}
"""What is credited where a plan does not say."""

DEAL_FIELDS = frozenset(_DEAL)
"""Fields of a deal, besides its amount, whose values a formula may ask for."""

INVOICE_FIELDS = frozenset(_INVOICE)
"""Fields of an invoice whose values a formula may ask for."""

PAYMENT_FIELDS = frozenset(_PAYMENT)
"""Fields of a payment whose values a formula may ask for."""

ACTIVITY_FIELDS = frozenset(_ACTIVITY)
"""Fields of an activity whose values a formula may ask for."""

PAYEE_FIELDS = frozenset(_PAYEE)
"""Fields of a person whose values a condition may ask for."""


def when_symbols(on: CreditOn, components: Mapping[str, bool] | None = None) -> Symbols:
    """Names for `when`. components: other components of the plan, id → whether it has a quota."""
    symbols: dict[str, Mapping[str, Field]] = {"payee": _PAYEE}
    if on is CreditOn.DEAL_WON:
        symbols["deal"] = _DEAL_AMOUNT
    elif on is CreditOn.ACTIVITY_COMPLETED:  # which may belong to no deal
        symbols["deal"] = {name: Field(known.kind) for name, known in _DEAL_AMOUNT.items()}
    elif on is not CreditOn.OBJECTIVE_SCORED:
        symbols["deal"] = _DEAL_AMOUNT
    if on in _OWN:
        root, fields = _OWN[on]
        symbols[root] = fields
    if components:
        symbols["component"] = component_fields(components)
    return symbols


def amount_symbols(on: CreditOn) -> Symbols:
    """Names for `amount`: only money in the credited event's own currency."""
    if on is CreditOn.DEAL_WON:
        return {"deal": _DEAL_AMOUNT}
    root, fields = _OWN[on]
    if on in {CreditOn.OBJECTIVE_SCORED, CreditOn.ACTIVITY_COMPLETED}:
        return {root: fields}
    return {"deal": _DEAL, root: fields}
