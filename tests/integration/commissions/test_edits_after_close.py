"""5,000 late events and 200 plan edits after a close: what was fixed stays, the rest is carried.

What comes out is held against the second reading of the plan language (tests/oracle/plans), which
knows of no closes and recomputes every plan from the deals as they are at the end.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx

from shared.clock import to_text
from shared.events.envelope import Envelope
from shared.http.auth import Role
from tests.integration.commissions.system import System, deal, rows, running, won
from tests.oracle.plans.case import Assigned, Case, Deal
from tests.oracle.plans.statements import statements

MakeDatabase = Callable[[], Awaitable[str]]
Plan = dict[str, Any]

PLANS = 20
PAYEES_A_PLAN = 5
EDITS_A_PLAN = 10
DEALS = 600
LATE_EVENTS = 5_000
ROUNDS = 10
FORESIGHT_EVERY = 50
"""So many edits between two whose figure is compared with what then comes out."""

CLOSED = ("2025-01", "2025-02", "2025-03")
OPEN = "2025-04"
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
LATE = datetime(2025, 4, 25, tzinfo=UTC)
PREFIX = "crm:main:"


@dataclass
class Company:
    """What is true at the end, and the facts that have not been sent yet."""

    chance: random.Random
    plans: list[list[Plan]] = field(default_factory=list)
    deals: dict[str, Deal] = field(default_factory=dict)
    told: int = 0

    def payees(self, plan: int) -> list[str]:
        return [f"p{plan}-{number}" for number in range(PAYEES_A_PLAN)]

    def new_deal(self, until_day: int) -> Envelope:
        """A deal won on one of the first days of the year, whenever that is told."""
        payee = self.chance.choice(self.payees(self.chance.randrange(PLANS)))
        minutes = self.chance.randrange(until_day * 24 * 60)
        made = Deal(
            id=f"{PREFIX}d{len(self.deals)}",
            won_at=BEGIN + timedelta(minutes=minutes),
            amount=f"{self.chance.randrange(100_00, 30_000_00) / 100:.2f}",
            owner=payee,
        )
        self.deals[made.id] = made
        return won(made.id, to_text(made.won_at), made.amount, payee)

    def late_event(self) -> Envelope:
        """A deal nobody knew of, another amount, or a deal lost after all."""
        self.told += 1
        at = LATE + timedelta(seconds=self.told)
        kind = self.chance.random()
        known = self.chance.choice(list(self.deals.values()))
        if kind < 0.04 or known.cancelled_at is not None:
            return self.new_deal(90)
        if kind < 0.08:
            self.deals[known.id] = replace(known, cancelled_at=at)
            return deal(known.id, to_text(at), self.told, status="lost")
        amount = f"{self.chance.randrange(100_00, 30_000_00) / 100:.2f}"
        self.deals[known.id] = replace(known, amount=amount)
        return deal(known.id, to_text(at), self.told, amount=amount)

    def edit(self, plan: int) -> Plan:
        """Another version, with other rates, from a closed day on which none begins yet."""
        taken = {version["effective"]["from"] for version in self.plans[plan]}
        days = [(date(2025, 1, 2) + timedelta(days=n)).isoformat() for n in range(88)]
        first = self.chance.choice([day for day in days if day not in taken])
        (part,) = self.plans[plan][0]["components"]
        changed = {**part, "rates": rates(self.chance, plan)}
        return {**self.plans[plan][0], "effective": {"from": first}, "components": [changed]}

    def case(self, plan: int, versions: Sequence[Plan] | None = None) -> Case:
        """One plan as it is now, for the second reading."""
        payees = self.payees(plan)
        return Case(
            plans=self.plans[plan] if versions is None else versions,
            assigned=[Assigned(payee, date(2025, 1, 1)) for payee in payees],
            until=date(2025, 5, 1),
            deals=[d for d in self.deals.values() if d.owner in payees],
        )

    def recomputed(
        self, plan: int, versions: Sequence[Plan] | None = None
    ) -> dict[tuple[str, str], Fraction]:
        """(payee, month) → own pay, by the second reading."""
        return {key: found.own for key, found in statements(self.case(plan, versions)).items()}


def rates(chance: random.Random, plan: int) -> Plan:
    """A table of the plan's shape, with rates of its own."""

    def percent() -> str:
        return f"{chance.randrange(1, 2_000) / 100:.2f}%"

    if plan % 4 == 0:
        return {"method": "flat", "rate": percent()}
    method = "retroactive" if plan % 4 == 1 else "marginal"
    over, bounds = ("count", [0, 3, 8]) if plan % 4 == 2 else ("amount", ["0", "20000", "90000.50"])
    tiers = [{"from": bound, "rate": percent()} for bound in bounds]
    return {"method": method, "over": over, "tiers": tiers}


def first_version(chance: random.Random, plan: int) -> Plan:
    return {
        "id": f"plan-{plan}",
        "name": f"Plan {plan}",
        "currency": "USD",
        "time_zone": ["UTC", "America/New_York", "Asia/Tokyo"][plan % 3],
        "effective": {"from": "2025-01-01"},
        "period": "month",
        "components": [
            {
                "id": "new",
                "kind": "commission",
                "credit": {"on": "deal.won", "to": "owner"},
                "rates": rates(chance, plan),
            }
        ],
    }


async def test_what_was_closed_stays_and_the_difference_is_carried_once(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    company = Company(random.Random(5_000))
    url = await database_factory()
    # A look for what older plans made comes after several edits, not after each.
    async with running(url, kafka_bootstrap, topic_prefix, sweep_interval_s=5) as system:
        await begin(system, company)
        closed = await closed_as_stored(system)
        assert len(closed) > 2 * PLANS * PAYEES_A_PLAN
        mine = [row for row in closed if row["plan_id"] == "plan-1"]
        shown = await closed_as_shown(system, mine)
        fixed = {(row["payee"], row["period"]): row["own"] for row in closed}

        edited = 0
        async with (
            system.client(Role.COMP_ADMIN, person="cat") as cat,
            system.client(Role.FINANCE, person="fin") as finance,
        ):
            for number in range(ROUNDS):
                wanted = LATE_EVENTS * (number + 1) // ROUNDS - company.told
                await system.send(company.late_event() for _ in range(wanted))
                for _ in range(PLANS * EDITS_A_PLAN // ROUNDS):
                    plan = edited % PLANS
                    foresee = edited % FORESIGHT_EVERY == 0
                    if foresee:
                        await system.drain()
                    told = await edit(company, plan, cat, finance)
                    if foresee:
                        check_foresight(company, plan, told)
                    edited += 1
        await system.drain()

        assert (company.told, edited) == (LATE_EVENTS, PLANS * EDITS_A_PLAN)
        assert await closed_as_stored(system) == closed
        assert await closed_as_shown(system, mine) == shown
        await check_carried(system, company, fixed)


async def begin(system: System, company: Company) -> None:
    """Plans, payees and a first quarter, which is closed; April goes on."""
    for plan in range(PLANS):
        company.plans.append([first_version(company.chance, plan)])
        answer = await system.put_plan(company.plans[plan][0])
        assert answer.status_code == 201, answer.text
        for payee in company.payees(plan):
            answer = await system.assign(
                payee, payee=payee, plan=f"plan-{plan}", from_="2025-01-01"
            )
            assert answer.status_code == 201, answer.text
    await system.send(company.new_deal(110) for _ in range(DEALS))
    await system.drain()
    answer = await system.close("2025-Q1")
    assert answer.status_code == 200, answer.text
    await system.drain()


async def edit(
    company: Company, plan: int, cat: httpx.AsyncClient, finance: httpx.AsyncClient
) -> Mapping[str, Any]:
    """One edit, told what it moves and signed by a second person."""
    document = company.edit(plan)
    path = f"/v1/plans/plan-{plan}/versions/{len(company.plans[plan]) + 1}"
    asked = await cat.put(path, json=document)
    assert asked.status_code == 202, asked.text
    told: Mapping[str, Any] = asked.json()
    assert told["differences"] is not None
    (border,) = [f for f in told["findings"] if f["code"] == "closed_border"]
    assert border["figure"] == told["differences"]["difference"]
    signed = await finance.post(f"{path}/confirm", headers={"If-Match": asked.headers["etag"]})
    assert signed.status_code == 200, signed.text
    company.plans[plan].append(document)
    return told


def check_foresight(company: Company, plan: int, told: Mapping[str, Any]) -> None:
    """What an edit was said to move is what the second reading says it moves."""
    before = company.recomputed(plan, company.plans[plan][:-1])
    after = company.recomputed(plan)
    wanted = {
        key: after.get(key, Fraction(0)) - before.get(key, Fraction(0))
        for key in {*before, *after}
        if key[1] in CLOSED
    }
    found = {
        (row["payee"], row["period"]): Fraction(row["difference"])
        for row in told["differences"]["payees"]
    }
    assert found == {key: amount for key, amount in wanted.items() if amount}
    assert Fraction(told["differences"]["difference"]) == sum(wanted.values())
    assert not told["differences"]["recalculating"]


async def closed_as_stored(system: System) -> list[Mapping[str, Any]]:
    """Every fixed statement, byte for byte."""
    return [
        dict(row)
        for row in await rows(
            system,
            "SELECT payee, plan_id, period, own, hash, document::text, explanation::text "
            "FROM fixed_statement ORDER BY payee, period",
        )
    ]


async def closed_as_shown(system: System, closed: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """What readers are given of closed statements."""
    async with system.client(Role.AUDITOR) as auditor:
        answers = [
            await auditor.get(f"/v1/statements/{row['payee']}/{row['plan_id']}/{row['period']}")
            for row in closed
        ]
    assert all(answer.status_code == 200 for answer in answers)
    return [answer.content for answer in answers]


async def check_carried(
    system: System, company: Company, fixed: Mapping[tuple[str, str], Decimal]
) -> None:
    """One line in the open period: recomputation less what was fixed. Nothing elsewhere."""
    carried = {
        row["payee"]: row
        for row in await rows(
            system,
            "SELECT payee, period, own, difference, carry_out, payable FROM statement "
            "WHERE period = $1",
            OPEN,
        )
    }
    posted = await rows(
        system,
        "SELECT payee, period, sum(amount) AS amount FROM posting WHERE account = 'earned' "
        "AND line_key = 'difference' GROUP BY 1, 2 HAVING sum(amount) <> 0",
    )
    assert {row["period"] for row in posted} == {OPEN}
    ledger = {row["payee"]: row["amount"] for row in posted}
    moved = Fraction(0)
    for plan in range(PLANS):
        own = company.recomputed(plan)
        for payee in company.payees(plan):
            now = _sum(own.get((payee, period), Fraction(0)) for period in CLOSED)
            wanted = now - _sum(Fraction(fixed.get((payee, p), Decimal(0))) for p in CLOSED)
            row = carried[payee]
            assert Fraction(row["difference"]) == wanted, payee
            assert Fraction(ledger.get(payee, Decimal(0))) == wanted, payee
            assert Fraction(row["own"]) == own.get((payee, OPEN), Fraction(0)), payee
            whole = Fraction(row["own"]) + wanted
            assert Fraction(row["payable"]) + Fraction(row["carry_out"]) == whole, payee
            moved += abs(wanted)
    assert moved > 0


def _sum(parts: Iterable[Fraction]) -> Fraction:
    return sum(parts, Fraction(0))
