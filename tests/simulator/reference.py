"""What deals are judged by: stage maps, exchange rates, quotas, plans and who is paid by them."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Any

from tests.simulator.history import Assignment, Calendar, Quota, RateRow, StageMap, StageRow
from tests.simulator.people import EMEA, Staff
from tests.simulator.worktime import ORG_ZONE, holidays

PIPELINE = "default"
OPEN_STAGES = (
    "appointmentscheduled",
    "qualifiedtobuy",
    "presentationscheduled",
    "decisionmakerboughtin",
    "contractsent",
)
LEGAL = "legalreview"
WON = "closedwon"
LOST = "closedlost"

LEGAL_FROM_MONTH = 7
"""From July the map has a stage for legal review; its age does not make a deal stalled."""

QUARTER_MONTHS = (1, 4, 7, 10)
REP_QUOTA = 170_000
"""USD a quarter at scale 1, for a rep of average strength."""


def calendar(year: int) -> Calendar:
    """The organisation's calendar."""
    free = {**holidays(year - 1), **holidays(year), **holidays(year + 1)}
    named = {day.isoformat(): name for day, name in sorted(free.items())}
    return Calendar(ORG_ZONE, 1, (1, 2, 3, 4, 5), named, "USD")


def stage_maps(year: int) -> list[StageMap]:
    """HubSpot's default pipeline, and the same with a stage for legal review from July."""
    stages = {
        OPEN_STAGES[0]: StageRow(10, "open", "0.1", "Appointment scheduled", 14),
        OPEN_STAGES[1]: StageRow(20, "open", "0.2", "Qualified to buy", 21),
        OPEN_STAGES[2]: StageRow(30, "open", "0.4", "Presentation scheduled", 21),
        OPEN_STAGES[3]: StageRow(40, "open", "0.6", "Decision maker bought in", 28),
        OPEN_STAGES[4]: StageRow(50, "open", "0.8", "Contract sent", 28),
        WON: StageRow(90, "won", "1", "Closed won"),
        LOST: StageRow(99, "lost", "0", "Closed lost"),
    }
    legal = StageRow(60, "open", "0.9", "Legal review", None, exempt=True)
    return [
        StageMap(f"{year - 1}-01-01", stages),
        StageMap(f"{year}-{LEGAL_FROM_MONTH:02d}-01", {**stages, LEGAL: legal}),
    ]


def plan_table(year: int) -> str:
    """The name of the year's fixed rates."""
    return f"plan-{year}"


def rates(rng: Random, year: int) -> list[RateRow]:
    """Three tables. `org`: the first of each month. `plan-…`: the year's. `spot`: month ends."""
    rows = []
    value = 1.07
    for month in range(-2, 13):
        first = _first(year, month)
        value = min(1.18, max(1.01, value + rng.uniform(-0.018, 0.02)))
        rows.append(RateRow("org", "EUR", "USD", first.isoformat(), f"{value:.4f}"))
        spot = value + rng.uniform(-0.01, 0.01)
        last = (_first(year, month + 1) - timedelta(days=1)).isoformat()
        rows.append(RateRow("spot", "EUR", "USD", last, f"{spot:.4f}"))
        rows.append(RateRow("spot", "USD", "EUR", last, f"{1 / spot:.4f}"))
    rows.append(RateRow(plan_table(year), "EUR", "USD", f"{year}-01-01", "1.0800"))
    rows.append(RateRow(plan_table(year), "USD", "EUR", f"{year}-01-01", "0.9250"))
    return rows


def _first(year: int, month: int) -> date:
    """The first day of a month, counted from this January as 1; 0 is last December."""
    years, index = divmod(month - 1, 12)
    return date(year + years, index + 1, 1)


def quarters(year: int) -> list[tuple[str, date, date]]:
    """(name, first day, first day of the next) of the four quarters."""
    return [
        (f"{year}-Q{number}", date(year, month, 1), _first(year, month + 3))
        for number, month in enumerate(QUARTER_MONTHS, 1)
    ]


def quotas(staff: Staff, year: int, scale: float) -> list[Quota]:
    """A quota a quarter for each rep who is there when it begins, and their sum for each team."""
    left = {person.id: person.left_on for person in staff.people}
    rows = []
    for period, start, end in quarters(year):
        of_team = dict.fromkeys((team.id for team in staff.teams), 0)
        span = (period, start.isoformat(), end.isoformat())
        for rep in staff.reps:
            leaves = left[rep.person]
            if leaves is not None and leaves <= span[1]:
                continue
            amount = max(5_000, round(REP_QUOTA * scale * (0.4 + 0.6 * rep.strength), -3))
            of_team[rep.team] += int(amount)
            rows.append(_quota(rep.person, None, span, int(amount)))
        rows.extend(_quota(None, team, span, amount) for team, amount in of_team.items())
    return rows


def _quota(person: str | None, team: str | None, span: tuple[str, str, str], amount: int) -> Quota:
    period, start, end = span
    name = f"{period.lower()}-{person or team}"
    return Quota(name, person, team, "bookings", period, start, end, str(amount), "USD")


def plans(year: int, scale: float) -> dict[str, dict[str, Any]]:
    """Two plans: marginal over attainment, paid in dollars; retroactive over amount, in euros."""
    common: dict[str, Any] = {
        "currency": "USD",
        "time_zone": ORG_ZONE,
        "effective": {"from": f"{year}-01-01"},
        "period": "month",
        "rounding": {"mode": "half_up", "at": "line"},
        "credit_date": "closed_at",
        "reopen_grace": "24h",
        "fx": {
            "credit": {"table": plan_table(year), "date": "credit"},
            "payout": {"table": "spot", "date": "period_end"},
        },
    }
    americas = {
        "id": f"ae-{year}",
        "name": f"Account executive {year}",
        **common,
        "components": [_bookings_component(scale), _overlay_component()],
    }
    emea = {
        "id": f"emea-{year}",
        "name": f"Account executive EMEA {year}",
        **common,
        "components": [_retroactive_component(scale), _overlay_component()],
    }
    return {f"ae-{year}": americas, f"emea-{year}": emea}


def _bookings_component(scale: float) -> dict[str, Any]:
    tiers = (("0%", "4%"), ("50%", "8%"), ("100%", "12%"), ("125%", "15%"))
    return {
        "id": "bookings",
        "kind": "commission",
        "credit": {"on": "deal.won", "amount": "deal.amount", "to": "splits"},
        "quota": {"measure": "bookings", "period": "quarter"},
        "rates": {
            "method": "marginal",
            "over": "attainment",
            "tiers": [{"from": at, "rate": rate} for at, rate in tiers],
        },
        "threshold": {"attainment": "20%", "pays": "first_dollar"},
        "cap": {"amount": str(max(500, round(24_000 * scale))), "per": "measure", "excess": "lost"},
    }


def _retroactive_component(scale: float) -> dict[str, Any]:
    step = max(2_000, round(60_000 * scale))
    tiers = ((0, "4%"), (step, "6%"), (step * 3, "9%"))
    return {
        "id": "bookings",
        "kind": "commission",
        "credit": {"on": "deal.won", "amount": "deal.amount", "to": "splits"},
        "quota": {"measure": "bookings", "period": "quarter"},
        "rates": {
            "method": "retroactive",
            "over": "amount",
            "tiers": [{"from": str(at), "rate": rate} for at, rate in tiers],
        },
    }


def _overlay_component() -> dict[str, Any]:
    return {
        "id": "overlay",
        "kind": "commission",
        "credit": {"on": "deal.won", "amount": "deal.amount", "to": "overlays"},
        "rates": {"method": "flat", "rate": "1.5%"},
        "cap": {"amount": "400", "per": "deal", "excess": "lost"},
    }


def assignments(staff: Staff, year: int) -> list[Assignment]:
    """Every rep from January; the leaver until the last day."""
    left = {person.id: person.left_on for person in staff.people}
    rows = []
    for rep in staff.reps:
        plan, currency = (f"emea-{year}", "EUR") if rep.team == EMEA else (f"ae-{year}", "USD")
        leaves = left[rep.person]
        to = None if leaves is None else str(date.fromisoformat(leaves) - timedelta(days=1))
        rows.append(
            Assignment(f"{rep.person}-{year}", rep.person, plan, f"{year}-01-01", to, currency)
        )
    return rows
