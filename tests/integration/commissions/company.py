"""A random company's history: deals that merge, vanish and come back, reference data that moves.

The facts of one seed are always the same; a test delivers them in orders of its own.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx

from shared.clock import to_text
from shared.events.envelope import Envelope
from tests.integration.commissions.system import System, deal, fact, quota_event

START = datetime(2025, 1, 2, 9, 0, tzinfo=UTC)
PEOPLE = [f"p{number}" for number in range(6)]
PREFIX = "crm:main:"
MEMBERS = [*PEOPLE, *(f"{PREFIX}u{number}" for number in range(6))]

Action = Callable[[System], Awaitable[httpx.Response]]


@dataclass
class History:
    """Facts in the order of their making, and what people decide meanwhile, in that order."""

    facts: list[Envelope] = field(default_factory=list)
    decisions: list[Action] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def history(seed: int, deals: int = 14, facts_a_deal: int = 9) -> History:
    """The company of a seed. `seen` names what happens in it, for coverage."""
    chance = random.Random(seed)
    made = History()
    _reference(chance, made)
    _quotas(chance, made)
    for number in range(deals):
        for place in range(facts_a_deal):
            fields = _deal_fields(chance, number, place, deals)
            made.seen |= {name if fields[name] else f"no {name}" for name in fields}
            at = START + timedelta(days=chance.randrange(330), minutes=chance.randrange(400))
            made.facts.append(deal(f"{PREFIX}d{number}", to_text(at), len(made.facts), **fields))
    for number in range(deals):
        for _ in range(4):
            at = START + timedelta(days=chance.randrange(330))
            fields = _invoice_fields(chance, deals)
            made.facts.append(fact("invoice", f"{PREFIX}i{number}", at, fields, len(made.facts)))
    _decisions(chance, made)
    return made


def _deal_fields(chance: random.Random, number: int, place: int, deals: int) -> dict[str, Any]:
    if place == 0:
        return {
            "amount": str(chance.randrange(1_000, 90_000)),
            "currency": chance.choice(["USD", "USD", "EUR"]),
            "owner": chance.choice(MEMBERS),
            "type": chance.choice(["new", "renewal"]),
            "stage": "open",
        }
    if place in {1, 2}:
        return {"stage": "won"}
    said: list[Callable[[], dict[str, Any]]] = [
        lambda: {"amount": f"{chance.randrange(1_000, 90_000)}.{chance.randrange(100):02d}"},
        lambda: {"owner": chance.choice([*MEMBERS, None])},
        lambda: {"stage": chance.choice(["open", "won", "won", "lost"])},
        lambda: {"deleted": chance.random() < 0.4},
        lambda: {"merged_into": chance.choice([f"{PREFIX}d{chance.randrange(deals)}", None])},
        lambda: {"splits": _shares(chance)},
        lambda: {"overlays": {chance.choice(MEMBERS): "20%"}},
        lambda: {"closed_at": to_text(START + timedelta(days=chance.randrange(330)))},
        lambda: {"currency": chance.choice(["USD", "EUR"])},
    ]
    fields = chance.choice(said)()
    if fields.get("merged_into") == f"{PREFIX}d{number}":
        return {"merged_into": None}
    return fields


def _shares(chance: random.Random) -> dict[str, str]:
    one, other = chance.sample(PEOPLE, 2)
    return chance.choice([{one: "60%", other: "40%"}, {one: "1/3", other: "2/3"}, {one: "99%"}])


def _invoice_fields(chance: random.Random, deals: int) -> dict[str, Any]:
    return {
        "amount": str(chance.randrange(100, 20_000)),
        "currency": "USD",
        "deal": f"{PREFIX}d{chance.randrange(deals)}",
        "status": chance.choice(["open", "paid", "void"]),
        "issued_at": to_text(START + timedelta(days=chance.randrange(330))),
        **({"credit_note_of": f"{PREFIX}i0"} if chance.random() < 0.2 else {}),
    }


def _reference(chance: random.Random, made: History) -> None:
    for day, won_is in (("2024-01-01", "won"), ("2025-06-01", "won")):
        stages = {
            "open": {"order": 1},
            "won": {"order": 2, "status": won_is},
            "lost": {"order": 3, "status": "lost" if day < "2025" else "open"},
        }
        said = {"effective_from": day, "stages": stages}
        made.facts.append(fact("stage_map", f"{PREFIX}default", START, said, len(made.facts)))
    for month, rate in ((1, "1.05"), (4, "1.08"), (9, "1.12")):
        row = {"table": "plan", "from": "EUR", "to": "USD", "day": f"2025-{month:02d}-01"}
        rate_id = f"plan:EUR:USD:2025-{month:02d}-01"
        for revised in (rate, f"{rate}5"):
            made.facts.append(
                fact("rate", rate_id, START, {**row, "rate": revised}, len(made.facts))
            )
    for number, person in enumerate(PEOPLE):
        first = {"effective_from": "2024-01-01", "identities": {f"{PREFIX}u{number}": True}}
        made.facts.append(fact("person", person, START, first, len(made.facts)))
    moved = {"effective_from": "2025-05-01", "identities": {f"{PREFIX}u0": False}}
    made.facts.append(fact("person", "p0", START, moved, len(made.facts)))
    taken = {"effective_from": "2025-05-01", "identities": {f"{PREFIX}u0": True}}
    made.facts.append(fact("person", "p5", START, taken, len(made.facts)))
    zone = {"effective_from": "2024-01-01", "time_zone": "Europe/Berlin"}
    made.facts.append(fact("calendar", "org", START, zone, len(made.facts)))
    chance.random()


def _quotas(chance: random.Random, made: History) -> None:
    starts = ["2025-01-01", "2025-04-01", "2025-07-01", "2025-10-01", "2026-01-01"]
    for person in PEOPLE[:4]:
        for number, (start, end) in enumerate(pairwise(starts), 1):
            for revision in (1, 2):
                made.facts.append(
                    quota_event(
                        f"{person}-q{number}",
                        revision,
                        {
                            "person": person,
                            "measure": "bookings",
                            "period": f"2025-Q{number}",
                            "start": start,
                            "end": end,
                            "amount": str(chance.randrange(20_000, 90_000)),
                            "deleted": revision == 2 and chance.random() < 0.1,
                        },
                    )
                )


def _decisions(chance: random.Random, made: History) -> None:
    decide = made.decisions
    decide.append(_plan(SALES_PLAN, 1))
    decide.append(_plan(BILLING_PLAN, 1))
    for person in PEOPLE[:4]:
        decide.append(_assignment(f"{person}-sales", person, "sales", "2025-01-01"))
    for person in PEOPLE[3:5]:
        decide.append(_assignment(f"{person}-billing", person, "billing", "2025-02-15"))
    decide.append(_plan(LATER_SALES_PLAN, 2))
    decide.append(_assignment("p1-sales", "p1", "sales", "2025-01-01", "2025-08-31"))
    chance.random()


def _plan(document: dict[str, Any], version: int) -> Action:
    async def put(system: System) -> httpx.Response:
        return await system.put_plan(document, version)

    return put


def _assignment(name: str, payee: str, plan: str, first: str, last: str | None = None) -> Action:
    async def put(system: System) -> httpx.Response:
        return await system.assign(name, payee=payee, plan=plan, from_=first, to=last)

    return put


SALES_PLAN: dict[str, Any] = {
    "id": "sales",
    "name": "Sales",
    "currency": "USD",
    "time_zone": "America/New_York",
    "effective": {"from": "2025-01-01"},
    "period": "month",
    "reopen_grace": "24h",
    "fx": {"credit": {"table": "plan", "date": "credit"}},
    "cap": {"amount": "40000", "per": "year", "excess": "lost"},
    "components": [
        {
            "id": "bookings",
            "kind": "commission",
            "credit": {"on": "deal.won", "to": "splits"},
            "quota": {"measure": "bookings", "period": "quarter"},
            "rates": {
                "method": "retroactive",
                "over": "attainment",
                "tiers": [
                    {"from": "0%", "rate": "4%"},
                    {"from": "50%", "rate": "8%"},
                    {"from": "100%", "rate": "12%"},
                ],
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
LATER_SALES_PLAN: dict[str, Any] = {
    **SALES_PLAN,
    "effective": {"from": "2025-07-01"},
    "reopen_grace": "72h",
    "components": [
        {**SALES_PLAN["components"][0], "cap": {"amount": "9000", "per": "measure"}},
        SALES_PLAN["components"][1],
    ],
}
BILLING_PLAN: dict[str, Any] = {
    "id": "billing",
    "name": "Billing",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "quarter",
    "components": [
        {
            "id": "invoiced",
            "kind": "commission",
            "credit": {"on": "invoice.issued", "to": "owner"},
            "rates": {
                "method": "marginal",
                "over": "amount",
                "tiers": [{"from": "0", "rate": "5%"}, {"from": "20000", "rate": "7.5%"}],
            },
        }
    ],
}
