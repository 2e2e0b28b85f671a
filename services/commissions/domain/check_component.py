"""What the keys of one component must be to one another."""

from __future__ import annotations

from collections.abc import Callable

from services.commissions.domain.documents import Reader
from services.commissions.domain.terms import (
    CapScope,
    ClawbackBasis,
    ClawbackTerms,
    Component,
    CreditOn,
    CreditTo,
    Kind,
    Method,
    Over,
)

_EARNS_BY = {
    Kind.COMMISSION: ("rates",),
    Kind.BONUS: ("rates", "pays"),
    Kind.SPIFF: ("pays",),
    Kind.OBJECTIVE: ("objectives",),
    Kind.OVERRIDE: ("rates",),
}
_COUNTED = frozenset({CreditOn.DEAL_WON, CreditOn.ACTIVITY_COMPLETED})
_PAID_FOR = frozenset({CreditOn.DEAL_WON, CreditOn.INVOICE_ISSUED})
_OF_ONE_PERSON = frozenset({CreditOn.ACTIVITY_COMPLETED, CreditOn.OBJECTIVE_SCORED})


def check_component(reader: Reader, component: Component) -> None:
    """Note every problem between keys."""
    checks: tuple[Callable[[Reader, Component], None], ...] = (
        _check_kind,
        _check_credit,
        _check_rates,
        _check_cap,
        _check_later_money,
    )
    for check in checks:
        check(reader, component)


def _check_kind(reader: Reader, component: Component) -> None:
    wanted = _EARNS_BY[component.kind]
    stated = [key for key in ("rates", "pays", "objectives") if reader.has(key)]
    for key in stated:
        if key not in wanted:
            msg = f"a component of kind {component.kind} earns by {' or '.join(wanted)}"
            reader.refuse(key, f"{msg}; remove {key}")
    if sum(key in wanted for key in stated) != 1:
        msg = f"a component of kind {component.kind} needs {' or '.join(wanted)}"
        reader.refuse(wanted[0], msg)
    if component.rates is None:
        for key in ("threshold", *(() if component.objectives else ("quota",))):
            if reader.has(key):
                reader.refuse(key, f"{key} goes with rates; remove it")


def _check_credit(reader: Reader, component: Component) -> None:
    on, to = component.credit.on, component.credit.to
    if (component.kind is Kind.OBJECTIVE) is not (on is CreditOn.OBJECTIVE_SCORED):
        msg = "objective.scored goes with kind objective, and no other event does"
        reader.refuse("credit/on", msg)
    if component.kind is Kind.OVERRIDE and to is not CreditTo.MANAGER:
        reader.refuse("credit/to", "an override credits managers; write to: manager")
    if on in _OF_ONE_PERSON and to is not CreditTo.OWNER:
        reader.refuse("credit/to", f"{on} has one owner and no splits; write to: owner")


def _check_rates(reader: Reader, component: Component) -> None:
    table = component.rates
    if table is None:
        return
    if component.quota is None and table.over is Over.ATTAINMENT:
        reader.refuse("quota", "rates over attainment need a quota: {measure, period}")
    elif component.quota is None and table.of_base:
        msg = "multiples are of target pay ÷ quota and need a quota: {measure, period}"
        reader.refuse("quota", msg)
    if component.quota is None and component.threshold is not None:
        reader.refuse("quota", "a threshold on attainment needs a quota: {measure, period}")
    if table.over is Over.COUNT and component.credit.on not in _COUNTED:
        msg = "count counts won deals or activities; credit on one of them, or use amount"
        reader.refuse("rates/over", msg)
    if table.over is Over.COUNT and component.threshold is not None:
        reader.refuse("threshold", "a threshold on attainment does not go with rates over count")
    if table.method is Method.CURVE and component.threshold is not None:
        reader.refuse("threshold", "a curve begins at its first point; remove threshold")


def _check_cap(reader: Reader, component: Component) -> None:
    if component.attainment_cap is not None:
        if component.rates is None or component.quota is None:
            msg = "a cap on attainment needs rates and a quota; use an amount"
            reader.refuse("cap/attainment", msg)
        elif component.rates.over is Over.COUNT:
            msg = "a cap on attainment does not go with rates over count; use an amount"
            reader.refuse("cap/attainment", msg)
    per_measure = component.cap is not None and component.cap.per is CapScope.MEASURE
    if component.pays is not None and per_measure:
        reader.refuse("cap/per", "fixed amounts have no measure; cap per statement, or a budget")


def _check_later_money(reader: Reader, component: Component) -> None:
    on = component.credit.on
    if component.release is not None and on not in _PAID_FOR:
        reader.refuse("release", "release follows the cash of won deals or issued invoices")
    if component.capitalised_months is not None and on not in _PAID_FOR:
        reader.refuse("capitalise", "only won deals and issued invoices are contracts with a cost")
    if component.clawback is not None:
        _check_clawback(reader, component, component.clawback)


def _check_clawback(reader: Reader, component: Component, clawback: ClawbackTerms) -> None:
    if component.credit.on is not CreditOn.DEAL_WON:
        reader.refuse("clawback", "clawback concerns cancelled deals; credit on deal.won")
    if clawback.basis is ClawbackBasis.LINE:
        return
    why = ""
    if component.rates is None:
        why = "fixed amounts are taken back by line"
    elif component.rates.over is Over.COUNT and component.rates.method is Method.MARGINAL:
        why = "marginal over count, each deal has the rate of its place"
    elif component.cap is not None and component.cap.per is CapScope.DEAL:
        why = "a cap per deal limits each line by itself"
    elif component.cap is not None and component.cap.carry:
        why = "a carried excess is no part of one measure"
    if why:
        reader.refuse("clawback/basis", f"{why}; use basis: line")
