"""Who is credited with which part of an event: split shares, overlays, and managers' roll-up.

Splits are parts of 100 % and exact to the minor unit; overlays lie outside the 100 %. A manager is
credited once a deal with what direct reports are credited, and never with more than the deal.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.credit import CreditEvent, ExceptionKind, Waits
from services.commissions.domain.terms import CreditTo
from shared.errors import InvalidValue
from shared.money import allocate, exact_sum, parse_share, quantise, round_to_minor, to_text

WHOLE = Fraction(1)
_WIDE = decimal.Context(prec=60)

Shares = Mapping[str, Fraction]


@dataclass(frozen=True, slots=True)
class Division:
    """An event divided among members.

    shares: of those inside the 100 %, exact, sum 1. overlays: beside them. reports: manager →
    direct reports among both.
    """

    to: CreditTo
    shares: Shares
    overlays: Shares = field(default_factory=dict)
    reports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def share_of(self, member: str) -> Fraction:
        """What part of the event a member is credited with, a manager at most the whole."""
        if self.to is CreditTo.MANAGER:
            parts = (
                side.get(report, Fraction(0))
                for report in self.reports[member]
                for side in (self.shares, self.overlays)
            )
            return min(WHOLE, sum(parts, Fraction(0)))
        return (self.overlays if self.to is CreditTo.OVERLAYS else self.shares)[member]

    def amounts(self, basis: Decimal, currency: str) -> dict[str, Decimal]:
        """Member → credited amount, in `currency`."""
        if self.to is CreditTo.OVERLAYS:
            return {m: overlay_part(basis, share, currency) for m, share in self.overlays.items()}
        if len(self.shares) == 1:  # the common case: one member has all of it
            inside = dict.fromkeys(self.shares, basis)
        else:
            inside = allocate(basis, self.shares, currency)
        if self.to is not CreditTo.MANAGER:
            return inside
        beside = {m: overlay_part(basis, share, currency) for m, share in self.overlays.items()}
        found = {}
        for manager, reports in self.reports.items():
            parts = [side[m] for m in reports for side in (inside, beside) if m in side]
            found[manager] = _at_most(basis, exact_sum(parts))
        return found


def credited_members(event: CreditEvent, to: CreditTo) -> list[str]:
    """Who would be credited, by id; for splits without any, the owner."""
    if to is CreditTo.OVERLAYS:
        return sorted(member for member, _ in event.overlays)
    if to is CreditTo.MANAGER:
        return sorted(_reports(event, credited_members(event, CreditTo.SPLITS)))
    if to is CreditTo.SPLITS and event.splits:
        return sorted(member for member, _ in event.splits)
    return [event.owner] if event.owner is not None else []


def division(event: CreditEvent, to: CreditTo) -> Division:
    """The exact shares by the component's `to`. Raises Waits."""
    if to is CreditTo.OVERLAYS:
        return Division(to, {}, _overlay_shares(event.overlays))
    if to is not CreditTo.OWNER and event.splits:
        shares = _split_shares(event.splits)
    elif event.owner is not None:
        shares = {event.owner: WHOLE}
    else:
        msg = "the deal has no known owner; the credit waits until the source states one"
        raise Waits(ExceptionKind.OWNER, msg)
    if to is not CreditTo.MANAGER:
        return Division(to, shares)
    return Division(to, shares, _overlay_shares(event.overlays), _reports(event, shares))


def overlay_part(basis: Decimal, share: Fraction, currency: str) -> Decimal:
    """An overlay's credit: `share` of `basis`, to the minor unit, half up."""
    return round_to_minor(_decimal(Fraction(basis) * share), currency)


def _at_most(whole: Decimal, amount: Decimal) -> Decimal:
    """`amount`, but not further from 0 than `whole`."""
    return min(whole, amount) if whole >= 0 else max(whole, amount)


def _reports(event: CreditEvent, inside: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Manager → direct reports that the event credits."""
    manager_of = dict(event.managers)
    found: dict[str, list[str]] = {}
    for member in sorted({*inside, *(member for member, _ in event.overlays)}):
        manager = manager_of.get(member)
        if manager is not None:
            found.setdefault(manager, []).append(member)
    return {manager: tuple(reports) for manager, reports in sorted(found.items())}


def _split_shares(splits: Iterable[tuple[str, str]]) -> dict[str, Fraction]:
    """Exact shares that sum to 1; whole-number weights are divided by their sum."""
    stated = dict(splits)
    shares = {member: _share(text) for member, text in sorted(stated.items())}
    total = sum(shares.values(), Fraction(0))
    weights = not any("%" in text or "/" in text for text in stated.values())
    if weights and total > 0:
        return {member: share / total for member, share in shares.items()}
    if total != 1:
        msg = (
            f"the split shares sum to {_percent_text(total)}, not 100%; "
            "correct them in the CRM (a third is 1/3)"
        )
        raise Waits(ExceptionKind.SPLITS, msg)
    return shares


def _overlay_shares(overlays: Iterable[tuple[str, str]]) -> dict[str, Fraction]:
    shares = {member: _share(text) for member, text in sorted(overlays)}
    for member, share in shares.items():
        if share > 1:
            msg = f"the overlay share of {member} is above 100%; correct it in the CRM"
            raise Waits(ExceptionKind.SPLITS, msg)
    return shares


def _share(text: str) -> Fraction:
    try:
        return parse_share(text)
    except InvalidValue as error:
        raise Waits(ExceptionKind.SPLITS, error.message) from None


def _decimal(value: Fraction) -> Decimal:
    """`value` at the stored step, whatever the caller's decimal context is."""
    return quantise(_WIDE.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _percent_text(share: Fraction) -> str:
    hundredths = _decimal(share * 100)
    return f"{to_text(hundredths)}%"
