"""Histories of pay: deals, invoices, rates, quotas and people, with plans decided among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from shared.events.targets import QuotaData
from tests.support.histories import (
    AMOUNTS,
    DEALS,
    PEOPLE,
    TIES,
    Decided,
    Said,
    changed,
    company,
    days,
    identity_moved,
    invoice,
    merged,
    removed,
    stages_changed,
    stories,
    zone_changed,
)

SALES: dict[str, Any] = {
    "id": "sales",
    "currency": "USD",
    "time_zone": "America/New_York",
    "effective": {"from": "2025-11-01"},
    "period": "month",
    "reopen_grace": "24h",
    "fx": {"credit": {"table": "plan", "date": "credit"}},
    "cap": {"amount": "2000", "per": "year", "excess": "lost"},
    "components": [
        {
            "id": "bookings",
            "kind": "commission",
            "credit": {"on": "deal.won", "to": "splits"},
            "quota": {"measure": "bookings", "period": "quarter"},
            "rates": {
                "method": "retroactive",
                "over": "attainment",
                "tiers": [{"from": "0%", "rate": "4%"}, {"from": "60%", "rate": "7.77%"}],
            },
        },
        {
            "id": "overlay",
            "kind": "commission",
            "credit": {"on": "deal.won", "to": "overlays", "when": 'deal.type == "new"'},
            "rates": {"method": "flat", "rate": "1%"},
        },
    ],
}
LATER_SALES: dict[str, Any] = {
    **SALES,
    "effective": {"from": "2026-01-01"},
    "reopen_grace": "240h",
    "components": [
        {**SALES["components"][0], "cap": {"amount": "900", "per": "measure"}},
        SALES["components"][1],
    ],
}
BILLING: dict[str, Any] = {
    "id": "billing",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "quarter",
    "components": [
        {
            "id": "invoiced",
            "kind": "commission",
            "credit": {"on": "invoice.issued", "to": "splits"},
            "rates": {
                "method": "marginal",
                "over": "amount",
                "tiers": [{"from": "0", "rate": "5%"}, {"from": "3000", "rate": "7.5%"}],
            },
        }
    ],
}


def _assigned(name: str, payee: str, plan: str, first: str, last: str | None = None) -> Decided:
    document = {"payee": payee, "plan": plan, "from": first, "to": last}
    return Decided("assignment", name, document)


FIRST_DECISIONS = (
    Decided("plan", "sales", SALES),
    Decided("plan", "billing", BILLING),
    *(_assigned(f"{person}-sales", person, "sales", "2025-11-01") for person in PEOPLE),
    *(_assigned(f"{person}-billing", person, "billing", "2025-11-01") for person in PEOPLE),
)
LATER_DECISIONS = (
    Decided("plan", "sales", LATER_SALES, number=2),
    _assigned("cem-sales", "cem", "sales", "2025-11-01", "2025-12-31"),
    _assigned("ben-billing", "ben", "billing", "2025-12-10"),
)


@st.composite
def decisions(draw: st.DrawFn) -> list[Sequence[Decided]]:
    """Plans and who is on them; some of it changes later."""
    later = [[decision] for decision in LATER_DECISIONS if draw(st.booleans())]
    return [FIRST_DECISIONS, *later]


@st.composite
def rate_revised(draw: st.DrawFn) -> list[Said]:
    """An exchange rate is stated, corrected, or taken back."""
    day = draw(st.sampled_from(["2025-11-01", "2025-12-10"]))
    fields = {
        "table": "plan",
        "from": "EUR",
        "to": "USD",
        "day": day,
        "rate": draw(st.sampled_from(["1.1", "1.0837", "0.1", None])),
    }
    return [Said("rate", f"plan:EUR:USD:{day}", draw(days()), fields, tie=draw(TIES))]


@st.composite
def quota_revised(draw: st.DrawFn) -> list[QuotaData]:
    """A quota as metrics publishes it: its revision tells what it is, the third that it is gone."""
    revision = draw(st.integers(1, 4))
    person = draw(st.sampled_from(PEOPLE))
    period, start, end = draw(
        st.sampled_from(
            [("2025-Q4", "2025-10-01", "2026-01-01"), ("2026-Q1", "2026-01-01", "2026-04-01")]
        )
    )
    return [
        QuotaData(
            quota=f"{person}-{period}",
            person=person,
            team=None,
            measure="bookings",
            period=period,
            start=start,
            end=end,
            amount=str(2_500 * revision),
            currency="USD",
            revision=revision,
            deleted=revision == 3,
        )
    ]


@st.composite
def paid(draw: st.DrawFn) -> list[Said]:
    """A payment: commissions keeps it, and pays nothing for it under these plans."""
    fields = {"amount": draw(AMOUNTS), "currency": "USD", "deal": draw(st.sampled_from(DEALS))}
    return [Said("payment", "crm:t:p1", draw(days()), fields, tie=draw(TIES))]


FOUNDING = (
    *company(),
    Said(
        "rate",
        "plan:EUR:USD:2025-11-01",
        0,
        {"table": "plan", "from": "EUR", "to": "USD", "day": "2025-11-01", "rate": "1.05"},
    ),
)
REMOVABLE = [*(("deal", deal) for deal in DEALS), ("invoice", "crm:t:i1"), ("invoice", "crm:t:i2")]
EPISODES = st.one_of(
    changed(),
    changed(),
    merged(),
    merged(),
    invoice(),
    invoice(),
    invoice(),
    removed(REMOVABLE),
    paid(),
    rate_revised(),
    quota_revised(),
    stages_changed(),
    identity_moved(),
    zone_changed(),
)
STORIES = stories(FOUNDING, EPISODES, decisions())
