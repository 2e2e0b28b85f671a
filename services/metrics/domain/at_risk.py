"""Quotas at risk: judged on pace, once a fifth of the working days has passed.

The ratio is K2, pace: K1 attainment (booked ÷ quota) ÷ the share of the quota period's working
days that are over before today. On plan it is 1. Below 0.80 an episode opens; it goes on until the
ratio is 0.85 or more, so that a quota on the edge does not open and close every day. A period that
has not begun, or is over, has no quota at risk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from services.metrics.domain.episodes import Detector, Evidence, JsonValue, Verdict
from services.metrics.domain.kpis import to_decimal
from shared.money import to_text
from shared.org.calendar import FiscalCalendar, Period

RULE = "pace"


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """One version of dated configuration. All are fractions.

    judged_from: of the working days elapsed. opens_below, clears_at: of the expected pace.
    """

    judged_from: Decimal = Decimal("0.20")
    opens_below: Decimal = Decimal("0.80")
    clears_at: Decimal = Decimal("0.85")


@dataclass(frozen=True, slots=True)
class QuotaStanding:
    """A quota and what has been booked against it, in the quota's currency.

    name: of the person or team, for the title. projected: K3's first form, None when unknown.
    """

    quota: str
    name: str
    person: str | None
    team: str | None
    measure: str
    period: Period
    amount: Decimal
    currency: str
    booked: Decimal
    projected: Decimal | None = None
    deleted: bool = False


def quota_at_risk(
    standing: QuotaStanding,
    limits: RiskLimits,
    calendar: FiscalCalendar,
    today: date,
    *,
    was_at_risk: bool,
) -> Verdict:
    """Whether a quota is at risk on `today`, and when to look again.

    was_at_risk: whether an episode is open, which raises the bar to `clears_at`.
    """
    period = standing.period
    total = calendar.working_days(period.start_day, period.end_day)
    elapsed = calendar.elapsed(period, today)
    share = Fraction(elapsed, total) if total else Fraction(0)
    judged = (
        not standing.deleted
        and standing.amount > 0
        and today in period
        and elapsed > 0
        and share >= Fraction(limits.judged_from)
    )
    attained = Fraction(standing.booked) / Fraction(standing.amount) if standing.amount else None
    evidence: tuple[Evidence, ...] = ()
    if judged and attained is not None:
        pace = attained / share
        limit = limits.clears_at if was_at_risk else limits.opens_below
        if pace < Fraction(limit):
            evidence = (_evidence(standing, pace, limit, elapsed, total),)
    return Verdict(
        detector=Detector.QUOTA_AT_RISK,
        subject=f"quota/{standing.quota}",
        title=f"{standing.name}: {standing.measure} quota {period.id} is at risk",
        person=standing.person,
        team=standing.team,
        evidence=evidence,
        facts=_facts(standing, attained, share, total - elapsed),
        next_due_ms=next_due_ms(standing, limits, calendar, today),
    )


def next_due_ms(
    standing: QuotaStanding, limits: RiskLimits, calendar: FiscalCalendar, today: date
) -> int | None:
    """The beginning of the next day on which time alone can change the verdict.

    That is the day on which a fifth of the working days is over, then each day after a working
    day, then the period's end; None once it is over.
    """
    period = standing.period
    if standing.deleted or standing.amount <= 0 or today >= period.end_day:
        return None
    total = calendar.working_days(period.start_day, period.end_day)
    needed = -((-Fraction(limits.judged_from) * total) // 1)
    more = max(int(needed) - calendar.elapsed(period, today), 1)
    from_day = max(today, period.start_day)
    if more > calendar.working_days(from_day, period.end_day):
        return calendar.start_ms(period.end_day)
    day = calendar.nth_working_day(from_day, more) + timedelta(days=1)
    return calendar.start_ms(min(day, period.end_day))


def _evidence(
    standing: QuotaStanding, pace: Fraction, limit: Decimal, elapsed: int, total: int
) -> Evidence:
    text = (
        f"Booked at {to_decimal(pace * 100):.1f} % of the expected pace "
        f"after {elapsed} of {total} working days"
    )
    return Evidence(
        RULE,
        text,
        {
            "pace": to_text(to_decimal(pace)),
            "limit": to_text(limit),
            "booked": to_text(standing.booked),
            "quota": to_text(standing.amount),
            "currency": standing.currency,
            "working_days_elapsed": str(elapsed),
            "working_days": str(total),
            "projected": None if standing.projected is None else to_text(standing.projected),
        },
    )


def _facts(
    standing: QuotaStanding, attained: Fraction | None, share: Fraction, days_left: int
) -> Mapping[str, JsonValue]:
    facts: dict[str, JsonValue] = {
        "quota": {"amount": to_text(standing.amount), "currency": standing.currency},
        "booked": {"amount": to_text(standing.booked), "currency": standing.currency},
        "days_left": days_left,
        "owner": standing.person or standing.team,
        "period": standing.period.id,
    }
    if attained is not None:
        facts["attainment"] = to_text(to_decimal(attained))
        if share:
            facts["pace"] = to_text(to_decimal(attained / share))
    return facts
