"""The figure in force of a quota in the world as it is known: calendar, hiring and leaving days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec

from services.metrics.domain.quota_terms import (
    PRORATING,
    Change,
    Days,
    Method,
    Relief,
    Terms,
    check_terms,
    figure_in_force,
)
from services.metrics.quotas import Quota
from shared.errors import InvalidValue
from shared.events.planned import QuotaTermsData
from shared.money import parse_decimal, parse_share, to_text
from shared.org.calendar import Period
from shared.org.people import Org

_DAY = timedelta(days=1)


def figured(quota: Quota, said: QuotaTermsData, org: Org) -> Quota:
    """The quota with its figure by these terms. Raises InvalidValue, placed in the quota's body."""
    period = Period(quota.period, quota.start_day, quota.end_day)
    stated = _terms(said)
    check_terms(stated, period)
    terms = replace(stated, present=_present(org, quota.person, period, stated))
    figure = figure_in_force(terms, _reliefs(said), period, org.calendar, quota.currency)
    if terms.method is Method.STATED and not said.reliefs:
        return replace(quota, amount=figure.amount, terms=None)
    taken = [
        msgspec.structs.replace(relief, before=to_text(step.before), after=to_text(step.after))
        for relief, step in zip(said.reliefs, figure.steps, strict=True)
    ]
    told = msgspec.structs.replace(
        said,
        present_from=_text(terms.present.first),
        present_to=_text(terms.present.last),
        reliefs=taken,
    )
    return replace(quota, amount=figure.amount, terms=told)


def refigured(quota: Quota, org: Org) -> Quota:
    """The quota by the calendar and the people of now; itself where nothing moved.

    What can no longer be figured (a change day that the calendar moved out of the period) stays.
    """
    period = org.calendar.period(quota.period)
    moved = replace(quota, start_day=period.start_day, end_day=period.end_day)
    if quota.terms is None:
        return moved
    try:
        return figured(moved, quota.terms, org)
    except InvalidValue:
        return quota


def previews(quota: Quota, org: Org) -> Mapping[str, Decimal]:
    """Method → what the figure would be by it, reliefs included."""
    said = quota.terms or QuotaTermsData(amount=to_text(quota.amount), method="stated")
    period = Period(quota.period, quota.start_day, quota.end_day)
    found = {}
    for method in PRORATING:
        terms = replace(_terms(said), method=method)
        terms = replace(terms, present=_present(org, quota.person, period, terms))
        try:
            figure = figure_in_force(terms, _reliefs(said), period, org.calendar, quota.currency)
        except InvalidValue:  # a relief of more than this figure
            continue
        found[method.value] = figure.amount
    return found


def _terms(said: QuotaTermsData) -> Terms:
    return Terms(
        amount=parse_decimal(said.amount),
        method=Method(said.method),
        present=Days(_day(said.from_), _day(said.to)),
        changes=tuple(
            Change(date.fromisoformat(c.from_), parse_decimal(c.amount)) for c in said.changes
        ),
        ramp=tuple(parse_share(share) for share in said.ramp),
        ramp_from=_day(said.ramp_from),
        leave=tuple(Days(_day(away.from_), _day(away.to)) for away in said.leave),
    )


def _reliefs(said: QuotaTermsData) -> list[Relief]:
    return [
        Relief(
            None if relief.amount is None else parse_decimal(relief.amount),
            None if relief.share is None else Fraction(parse_share(relief.share)),
        )
        for relief in said.reliefs
    ]


def _present(org: Org, person: str | None, period: Period, terms: Terms) -> Days:
    """The stated days; where none is stated, the day of hiring and the last active one."""
    if person is None or terms.method is Method.STATED:
        return terms.present
    first, last = terms.present.first, terms.present.last
    known = org.person(person, period.last_day)
    if known is None:
        return terms.present
    if first is None and known.hired_on is not None and known.hired_on > period.start_day:
        first = known.hired_on
    if last is None and not known.active:
        last = _last_active(org, person, period)
    return Days(first, last)


def _last_active(org: Org, person: str, period: Period) -> date:
    """The last day of the period on which somebody, who is gone at its end, was there."""
    day = period.last_day
    while day >= period.start_day:
        known = org.person(person, day)
        if known is not None and known.active:
            break
        day -= _DAY
    return day


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
