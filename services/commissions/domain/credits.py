"""From what happened to who is credited with how much: `credits_for`.

Split shares are parts of 100 % and exact to the minor unit before any conversion; overlays lie
outside the 100 % and are no part of bookings. What is not known holds its own credit only.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from services.commissions.domain.exchange import RateBook, RateRow, converted
from services.commissions.domain.expressions import Expression, FieldUnknown
from services.commissions.domain.plan import (
    Assignment,
    Component,
    CreditDate,
    CreditOn,
    CreditTo,
    Plan,
    PlanVersion,
)
from shared.clock import parse_instant
from shared.clock import to_text as instant_text
from shared.errors import InvalidValue
from shared.money import allocate, parse_share, quantise, round_to_minor, to_text

WHOLE = Fraction(1)
_WIDE = decimal.Context(prec=60)


class ExceptionKind(StrEnum):
    """Why an amount waits. A period does not close while one of its credits has such a reason."""

    OWNER = "owner"
    SPLITS = "splits"
    RATE = "rate"
    AMOUNT = "amount"
    CURRENCY = "currency"
    TYPE = "type"
    CLOSE_DATE = "close_date"
    QUOTA = "quota"
    PAYOUT_RATE = "payout_rate"


@dataclass(frozen=True, slots=True)
class CreditEvent:
    """What may be credited: one stay of a deal in won, or one issued invoice.

    key: names the stay or the invoice for ever; equal keys are one event.
    instant: the credit instant, aware; owner, splits and overlays are those in force then.
    amount: of the deal or invoice, in `currency`; below 0 for a credit note.
    splits, overlays: member → share as the CRM sent it (`25%`, `1/3`, a whole-number weight).
    fields: root (`deal`, `invoice`) → field → value, for the plan's formulas.
    source_ids: ids of the events this was read from, for the explanation.
    """

    key: str
    on: CreditOn
    deal_id: str
    instant: datetime
    amount: Decimal | None
    currency: str | None
    owner: str | None
    splits: tuple[tuple[str, str], ...] = ()
    overlays: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    close_date: date | None = None
    source_ids: tuple[str, ...] = ()

    @property
    def values(self) -> Mapping[str, Mapping[str, object]]:
        """What the plan's formulas see."""
        known = {"amount": self.amount, "currency": self.currency}
        deal = {**self.fields.get("deal", {}), "owner": self.owner}
        if self.on is CreditOn.DEAL_WON:
            return {"deal": {**deal, **known}}
        return {"deal": deal, "invoice": {**self.fields.get("invoice", {}), **known}}


def invoice_amount(amount: Decimal | None, *, credit_note: bool) -> Decimal | None:
    """An invoice's amount by its kind: sources send credit notes with either sign."""
    if amount is None or not credit_note:
        return amount
    return -abs(amount)


@dataclass(frozen=True, slots=True)
class Credit:
    """One payee's credit for one component.

    basis: the component's amount before the share; `original` after it, both in `currency`.
    converted: `original` in plan currency; None while its rate is missing (the credit is held).
    shares: all members and shares the basis was divided by, so that the split can be checked.
    """

    key: str
    event_key: str
    deal_id: str
    payee: str
    plan_id: str
    version_hash: str
    component_id: str
    to: CreditTo
    instant: datetime
    day: date
    share: Fraction
    shares: tuple[tuple[str, Fraction], ...]
    basis: Decimal
    original: Decimal
    currency: str
    converted: Decimal | None
    rate: RateRow | None
    source_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CreditException:
    """Something waits: what, for whom, and what to do about it, in one sentence."""

    kind: ExceptionKind
    event_key: str
    deal_id: str
    plan_id: str
    component_id: str
    payee: str | None
    day: date
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event gives under one plan.

    unassigned: members that would be credited and are not on this plan that day; it is an
    exception only where no other plan has them either, which the caller sees.
    """

    credits: tuple[Credit, ...] = ()
    exceptions: tuple[CreditException, ...] = ()
    unassigned: tuple[str, ...] = ()


class _Waits(Exception):
    """A credit cannot be made yet."""

    def __init__(self, kind: ExceptionKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def credits_for(
    event: CreditEvent, plan: Plan, assignments: Sequence[Assignment], rates: RateBook
) -> Outcome:
    """The credits, waiting reasons and unassigned members of `event` under `plan`.

    The version in force on the credit's day in the plan's zone decides, and each payee's
    assignment on that day. A pure function of its arguments: the same event gives the same
    credits, however often and in whatever order it is asked.
    """
    made: list[Credit] = []
    waiting: list[CreditException] = []
    unassigned: set[str] = set()
    instant, day, version = _placed(event, plan)
    if version is None:
        return Outcome()
    on_plan = {a.payee for a in assignments if a.plan_id == plan.id and day in a.days}
    for component in version.components:
        if component.credit.on is not event.on or day not in component.effective:
            continue
        members = _members(event, component.credit.to)
        if not members and (component.credit.to is CreditTo.OVERLAYS or not on_plan):
            continue
        if members and not on_plan.intersection(members):
            unassigned.update(members if _certain(event, component) else ())
            continue
        context = _Context(event, version, component, instant, day, rates)
        try:
            if component.credit.when and context.evaluate(component.credit.when) is not True:
                continue
            found = list(context.credits(on_plan))
        except _Waits as reason:
            affected: list[str | None] = [*sorted(on_plan.intersection(members))]
            waiting.extend(context.waiting(payee, reason) for payee in affected or [None])
            continue
        made.extend(found)
        waiting.extend(
            context.waiting(credit.payee, context.rate_missing())
            for credit in found
            if credit.converted is None
        )
        unassigned.update(member for member in members if member not in on_plan)
    return Outcome(tuple(made), tuple(waiting), tuple(sorted(unassigned)))


def _placed(event: CreditEvent, plan: Plan) -> tuple[datetime, date, PlanVersion | None]:
    """The credit's instant and day in the plan's zone, and the version in force then."""
    zone = plan.versions[0].zone
    day = event.instant.astimezone(zone).date()
    version = plan.version_on(day)
    by_close_date = any(v.credit_date is CreditDate.CLOSE_DATE for v in plan.versions)
    if not by_close_date or event.on is not CreditOn.DEAL_WON or event.close_date is None:
        return event.instant, day, version
    dated = plan.version_on(event.close_date)
    if dated is None or dated.credit_date is not CreditDate.CLOSE_DATE:
        return event.instant, day, version
    return datetime.combine(event.close_date, time(), zone), event.close_date, dated


def _members(event: CreditEvent, to: CreditTo) -> list[str]:
    """Who would be credited, by id; for splits without any, the owner."""
    if to is CreditTo.OVERLAYS:
        return sorted(member for member, _ in event.overlays)
    if to is CreditTo.SPLITS and event.splits:
        return sorted(member for member, _ in event.splits)
    return [event.owner] if event.owner is not None else []


def _certain(event: CreditEvent, component: Component) -> bool:
    """Whether `when` is known to hold, so that a missing assignment is worth a report."""
    if component.credit.when is None:
        return True
    try:
        return component.credit.when.evaluate(event.values) is True
    except (FieldUnknown, InvalidValue):
        return False


@dataclass(frozen=True, slots=True)
class _Context:
    """One event under one component."""

    event: CreditEvent
    version: PlanVersion
    component: Component
    instant: datetime
    day: date
    rates: RateBook

    def evaluate(self, formula: Expression) -> Decimal | bool | str:
        """A formula's value. Raises _Waits where it needs what is not known."""
        try:
            return formula.evaluate(self.event.values)
        except FieldUnknown as unknown:
            name = unknown.name.rsplit(".", 1)[1]
            message = f"{unknown.name} is not known; the credit waits until the source states it"
            raise _Waits(ExceptionKind(name), message) from None
        except InvalidValue as error:
            raise _Waits(ExceptionKind.AMOUNT, error.message) from None

    def credits(self, on_plan: set[str]) -> Iterator[Credit]:
        """The credits of members that are on the plan. Raises _Waits."""
        dated = self.version.credit_date is CreditDate.CLOSE_DATE
        if dated and self.event.on is CreditOn.DEAL_WON and self.event.close_date is None:
            msg = "the plan credits by close date, and the deal has none; set it in the CRM"
            raise _Waits(ExceptionKind.CLOSE_DATE, msg)
        basis = self.evaluate(self.component.credit.amount)
        if not isinstance(basis, Decimal):  # a formula for an amount is compiled as a number
            raise _Waits(ExceptionKind.AMOUNT, "the amount is no number")
        currency = self.event.currency
        if currency is None:
            msg = "the currency is not known; the credit waits until the source states it"
            raise _Waits(ExceptionKind.CURRENCY, msg)
        shares = self._shares()
        parts = self._parts(basis, shares, currency)
        row = self._rate(currency)
        for member, share in shares.items():
            if member in on_plan:
                yield self._credit(member, share, shares, basis, parts[member], row)

    def _shares(self) -> dict[str, Fraction]:
        """Member → exact share, by the component's `to`. Raises _Waits."""
        to, event = self.component.credit.to, self.event
        if to is CreditTo.OVERLAYS:
            return _overlay_shares(event.overlays)
        if to is CreditTo.SPLITS and event.splits:
            return _split_shares(event.splits)
        if event.owner is None:
            msg = "the deal has no known owner; the credit waits until the source states one"
            raise _Waits(ExceptionKind.OWNER, msg)
        return {event.owner: WHOLE}

    def _parts(
        self, basis: Decimal, shares: Mapping[str, Fraction], currency: str
    ) -> dict[str, Decimal]:
        if self.component.credit.to is CreditTo.OVERLAYS:
            return {
                member: overlay_part(basis, share, currency) for member, share in shares.items()
            }
        if len(shares) == 1:  # the common case: one member has all of it
            return dict.fromkeys(shares, basis)
        return allocate(basis, shares, currency)

    def _rate(self, currency: str) -> RateRow | None:
        if currency == self.version.currency or self.version.fx_credit is None:
            return None
        return self.rates.on(self.version.fx_credit, currency, self.version.currency, self.day)

    def _credit(  # noqa: PLR0913, PLR0917 - the six things that differ between members
        self,
        member: str,
        share: Fraction,
        shares: Mapping[str, Fraction],
        basis: Decimal,
        part: Decimal,
        row: RateRow | None,
    ) -> Credit:
        currency = self.event.currency or ""
        in_plan: Decimal | None = part if currency == self.version.currency else None
        if row is not None:
            in_plan = converted(part, row)
        return Credit(
            key=f"{self.event.key}/{self.version.id}/{self.component.id}/{member}",
            event_key=self.event.key,
            deal_id=self.event.deal_id,
            payee=member,
            plan_id=self.version.id,
            version_hash=self.version.hash,
            component_id=self.component.id,
            to=self.component.credit.to,
            instant=self.instant,
            day=self.day,
            share=share,
            shares=tuple(sorted(shares.items())),
            basis=basis,
            original=part,
            currency=currency,
            converted=in_plan,
            rate=row,
            source_ids=self.event.source_ids,
        )

    def rate_missing(self) -> _Waits:
        """Why a credit in a foreign currency is held."""
        currency, own = self.event.currency, self.version.currency
        if self.version.fx_credit is None:
            msg = f"the plan names no rate table for {currency} to {own}; add fx.credit to the plan"
        else:
            msg = (
                f"table {self.version.fx_credit} has no rate {currency} to {own} "
                f"on or before {self.day}; load one"
            )
        return _Waits(ExceptionKind.RATE, msg)

    def waiting(self, payee: str | None, reason: _Waits) -> CreditException:
        """The exception that lists `reason`."""
        return CreditException(
            kind=reason.kind,
            event_key=self.event.key,
            deal_id=self.event.deal_id,
            plan_id=self.version.id,
            component_id=self.component.id,
            payee=payee,
            day=self.day,
            message=reason.message,
        )


def overlay_part(basis: Decimal, share: Fraction, currency: str) -> Decimal:
    """An overlay's credit: `share` of `basis`, to the minor unit, half up."""
    exact = Fraction(basis) * share
    near = _decimal(exact)
    return round_to_minor(near, currency)


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
        raise _Waits(ExceptionKind.SPLITS, msg)
    return shares


def _overlay_shares(overlays: Iterable[tuple[str, str]]) -> dict[str, Fraction]:
    shares = {member: _share(text) for member, text in sorted(overlays)}
    for member, share in shares.items():
        if share > 1:
            msg = f"the overlay share of {member} is above 100%; correct it in the CRM"
            raise _Waits(ExceptionKind.SPLITS, msg)
    return shares


def _share(text: str) -> Fraction:
    try:
        return parse_share(text)
    except InvalidValue as error:
        raise _Waits(ExceptionKind.SPLITS, error.message) from None


def _decimal(value: Fraction) -> Decimal:
    """`value` at the stored step, whatever the caller's decimal context is."""
    return quantise(_WIDE.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _percent_text(share: Fraction) -> str:
    hundredths = _decimal(share * 100)
    return f"{to_text(hundredths)}%"


def credit_as_row(credit: Credit) -> dict[str, object]:
    """A credit as JSON values: decimals, fractions and times as text."""
    return {
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
    """The inverse of credit_as_row."""
    stated: Mapping[str, object] = row
    converted_text, rate = stated["converted"], stated["rate"]
    shares = stated["shares"]
    sources = stated["source_ids"]
    if not isinstance(shares, list) or not isinstance(sources, list):
        msg = "a stored credit has lists of shares and sources"
        raise InvalidValue(msg)
    return Credit(
        key=str(stated["key"]),
        event_key=str(stated["event_key"]),
        deal_id=str(stated["deal_id"]),
        payee=str(stated["payee"]),
        plan_id=str(stated["plan_id"]),
        version_hash=str(stated["version_hash"]),
        component_id=str(stated["component_id"]),
        to=CreditTo(str(stated["to"])),
        instant=parse_instant(str(stated["instant"])),
        day=date.fromisoformat(str(stated["day"])),
        share=Fraction(str(stated["share"])),
        shares=tuple((str(member), Fraction(str(share))) for member, share in shares),
        basis=quantise(Decimal(str(stated["basis"]))),
        original=quantise(Decimal(str(stated["original"]))),
        currency=str(stated["currency"]),
        converted=None if converted_text is None else quantise(Decimal(str(converted_text))),
        rate=rate_from_row(rate) if isinstance(rate, Mapping) else None,
        source_ids=tuple(str(source) for source in sources),
    )
