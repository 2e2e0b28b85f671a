"""What people wait for at a company of 1,000 reps: estimates, a long statement, a simulation.

Most reps win some deals a month; some have accounts of 1,000 lines, all on one statement.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import cycle
from random import Random
from typing import Any

import httpx

from services.commissions import store
from services.commissions.rating import begin_account, fill_given, rated_years
from services.commissions.reference import ReferenceCache
from services.commissions.store import AccountKey
from shared.clock import from_epoch_ms, to_epoch_ms, to_text
from shared.http.auth import Role
from tests.bench.lab import Bench, Crew, Lab, cpu_s
from tests.bench.report import Result, at_most, compared, percentile
from tests.bench.throughput import THIRD_COMPONENT, expect_lines, say
from tests.bench.traffic import YEAR, Base, Record, fact, quota_facts, reference_facts
from tests.bench.wire import request, wire
from tests.simulator import Company
from tests.simulator.people import TENANT
from tests.simulator.reference import PIPELINE

REPS, DEALS_A_REP = 1_000, 60
LONG_ACCOUNTS, DEALS_OF_LONG = 20, 510
"""Of plans of three components, so that an account has some 1,000 lines."""

LINES = 1_000
PLAN = "ae-2025"
WARM_UP = 20
MILLISECONDS, CPU, ELAPSED = "ms", "CPU-s", "s"
MEDIAN, HIGH, TAIL = 50, 95, 99
ESTIMATE_GOAL, STATEMENT_GOAL = at_most(50), at_most(50)
LOOK_S = 0.05
LONGEST_S = 900.0
ACCOUNTS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Payees:
    """A company's won deals, and who won them."""

    reps: int
    seed: int
    deals_a_rep: int = DEALS_A_REP
    long_accounts: int = LONG_ACCOUNTS
    deals_of_long: int = DEALS_OF_LONG

    @property
    def names(self) -> list[str]:
        """Everybody; the first ones have long accounts."""
        return [f"rep-{number}" for number in range(self.reps)]

    @property
    def long(self) -> list[str]:
        """Who has a long account."""
        return self.names[: self.long_accounts]

    def base(self) -> Base:
        """The same people, for facts about people and their quotas."""
        return Base(0, self.reps, self.seed)

    def deals(self) -> Iterator[Record]:
        """A fact a deal, rep by rep: won over the year, those of long accounts in November."""
        rng = Random(f"{self.seed}/payees")
        year_ms = to_epoch_ms(datetime(YEAR, 1, 3, tzinfo=UTC))
        november_ms = to_epoch_ms(datetime(YEAR, 11, 2, tzinfo=UTC))
        number = 0
        for place, rep in enumerate(self.names):
            long = place < self.long_accounts
            count = self.deals_of_long if long else self.deals_a_rep
            first_ms, days = (november_ms, 26) if long else (year_ms, 350)
            for won in range(count):
                at_ms = first_ms + days * 86_400_000 * won // count
                number += 1
                yield fact("deal", f"{TENANT}:{number}", at_ms, _deal(rep, at_ms, rng, number), 1)


def _deal(rep: str, at_ms: int, rng: Random, number: int) -> dict[str, Any]:
    return {
        "name": f"Deal {number}",
        "pipeline": PIPELINE,
        "amount": f"{rng.randrange(2_000, 90_000)}.{rng.randrange(100):02d}",
        "currency": "USD",
        "close_date": f"{from_epoch_ms(at_ms):%Y-%m-%d}",
        "owner": rep,
        "type": rng.choice(("new", "new", "expansion")),
        "created_at": to_text(from_epoch_ms(at_ms)),
        "stage": "closedwon",
    }


def plan_of(company: Company) -> dict[str, Any]:
    """The plan of the simulated company, with a third component, and a cap that not all reach."""
    plan = dict(company.history.plans[PLAN])
    bookings, *others = plan["components"]
    capped = {**bookings, "cap": {"amount": "60000", "per": "measure", "excess": "lost"}}
    return {**plan, "components": [capped, *others, dict(THIRD_COMPONENT)]}


@asynccontextmanager
async def paid(
    lab: Lab, payees: Payees
) -> AsyncIterator[tuple[Bench, Crew, httpx.AsyncClient, dict[str, Any]]]:
    """The service once it has rated everybody: its consumer, its API, and the plan."""
    company = Company.generate(payees.seed, 0.001)
    plan = plan_of(company)
    async with (
        lab.topics() as prefix,
        lab.service("commissions", prefix) as bench,
        bench.consumers() as crew,
        bench.api() as api,
    ):
        await say(api, lab, _plan_calls(plan, payees))
        base = payees.base()
        await crew.load([*reference_facts(company), *base.people(), *quota_facts(base.quotas())])
        await crew.load(payees.deals())
        await bench.connection.execute("VACUUM (ANALYZE)")
        await bench.connection.execute("CHECKPOINT")
        await expect_lines(bench)
        yield bench, crew, api, plan


def _plan_calls(plan: Mapping[str, Any], payees: Payees) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield f"/v1/plans/{PLAN}/versions/1", plan
    for name in payees.names:
        body = {"payee": name, "plan": PLAN, "from": f"{YEAR}-01-01", "payout_currency": "USD"}
        yield f"/v1/assignments/{name}-{YEAR}", body


# ---- estimates and long statements ------------------------------------------------------------


async def estimates(lab: Lab, *, seed: int, reps: int, count: int) -> list[Result]:
    """Latency of estimates for accounts of 1,000 lines, and of reading such a statement."""
    payees = Payees(reps, seed, long_accounts=min(reps, LONG_ACCOUNTS))
    async with paid(lab, payees) as (bench, _, api, _):
        port = api.base_url.port
        if port is None:
            msg = "the API has no port"
            raise RuntimeError(msg)
        headers = lab.token(Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE)
        asked = [_estimate(headers, {"owner": rep}) for rep in payees.long]
        known = [
            _estimate(headers, {"id": deal, "amount": "31000.50"})
            for deal in await _deals_of(bench, payees.long)
        ]
        nobody = [_estimate(headers, {"owner": "nobody"})]
        statements = await _long_statements(bench)
        read = [request("GET", path, headers) for path in statements]
        listed = [request("GET", "/v1/periods", headers)]
        results: list[Result] = []
        for name, sent, goal, share in (
            ("estimate, of nobody on a plan", nobody, None, HIGH),
            (f"estimate, {LINES:,} lines, a new deal", asked, ESTIMATE_GOAL, HIGH),
            (f"estimate, {LINES:,} lines, a deal that is won", known, ESTIMATE_GOAL, HIGH),
            ("read: a list of nothing", listed, None, TAIL),
            (f"statement of {LINES:,} lines", read, STATEMENT_GOAL, TAIL),
        ):
            took_ms = await _one_after_the_other(port, sent, count)
            for part in (MEDIAN, share):
                value = percentile(took_ms, part)
                full = f"{name}, p{part}"
                if goal is None:
                    results.append(Result(f"{full} (floor)", value, MILLISECONDS))
                    continue
                floor = next(r for r in reversed(results) if r.name.endswith(f"p{part} (floor)"))
                held = goal if part == share else None
                results.append(compared(full, value, MILLISECONDS, floor, goal=held))
        return results


def _estimate(headers: Mapping[str, str], deal: Mapping[str, Any]) -> bytes:
    said = {"closed_at": f"{YEAR}-11-29T10:00:00Z"}
    if "id" not in deal:
        said |= {"amount": "31000.50", "currency": "USD", "type": "new"}
    body = json.dumps({"deal": {**said, **deal}}).encode()
    return request("POST", "/v1/estimates", {**headers, "Content-Type": "application/json"}, body)


async def _deals_of(bench: Bench, payees: Sequence[str]) -> list[str]:
    rows = await bench.connection.fetch(
        "SELECT DISTINCT ON (payee) payee, deal_id FROM credit WHERE payee = ANY($1::text[]) "
        "ORDER BY payee, deal_id",
        payees,
    )
    return [row["deal_id"] for row in rows]


async def _long_statements(bench: Bench) -> list[str]:
    """Paths of the statements with the most lines. Raises where they are not long enough."""
    rows = await bench.connection.fetch(
        "SELECT payee, plan_id, period, json_array_length(document -> 'lines') AS lines "
        "FROM statement ORDER BY 4 DESC LIMIT $1",
        LONG_ACCOUNTS,
    )
    long = [row for row in rows if row["lines"] >= LINES * 0.9]
    if not long:
        msg = f"the longest statement has {rows[0]['lines']} lines"
        raise RuntimeError(msg)
    return [f"/v1/statements/{row['payee']}/{row['plan_id']}/{row['period']}" for row in long]


async def _one_after_the_other(port: int, sent: Sequence[bytes], count: int) -> list[float]:
    """How long each of `count` requests took, in milliseconds."""
    took_ms = []
    asked = cycle(sent)
    async with wire(port) as connection:
        for number in range(count + WARM_UP):
            began = time.perf_counter()
            await connection.exchange(next(asked))
            if number >= WARM_UP:
                took_ms.append(1_000 * (time.perf_counter() - began))
    return took_ms


# ---- simulations ------------------------------------------------------------------------------


async def simulation(lab: Lab, *, seed: int, reps: int) -> list[Result]:
    """A draft over a year: once with other rates, once with other credit rules.

    The floor is what rating all accounts takes by itself, once they are read.
    """
    payees = Payees(reps, seed, long_accounts=0)
    async with paid(lab, payees) as (bench, crew, api, plan):
        lines = await bench.connection.fetchval("SELECT count(*) FROM credit")
        name = f"simulation of {reps:,} reps, {round(lines, -3):,} credits"
        floor = Result(f"{name}: rating alone (floor)", await _rating_cpu_s(bench), CPU)
        results = [floor]
        first, *others = plan["components"]
        drafts = {
            "other rates": [{**first, "rates": {"method": "flat", "rate": "3%"}}, *others],
            "other credit rules": [
                {**first, "credit": {**first["credit"], "when": "deal.amount > 5000"}},
                *others,
            ],
        }
        for what, components in drafts.items():
            draft = {**plan, "name": what, "components": components}
            before, began = cpu_s(crew.pids[0]), time.monotonic()
            await _simulated(api, lab, draft)
            took_s, cpu = time.monotonic() - began, cpu_s(crew.pids[0]) - before
            results += [
                Result(f"{name}: {what}", took_s, ELAPSED),
                compared(f"{name}: {what}, its process", cpu, CPU, floor),
            ]
        return results


async def _simulated(api: httpx.AsyncClient, lab: Lab, draft: Mapping[str, Any]) -> None:
    key = draft["name"].replace(" ", "-")
    headers = {**lab.token(Role.ADMIN, Role.COMP_ADMIN), "Idempotency-Key": key}
    body = {"from": f"{YEAR}-01", "to": f"{YEAR}-12", "plans": [draft]}
    answer = await api.post("/v1/simulations", json=body, headers=headers)
    if not answer.is_success:
        raise RuntimeError(answer.text)
    place = f"/v1/simulations/{answer.json()['id']}"
    deadline = time.monotonic() + LONGEST_S
    while True:
        shown = (await api.get(place, headers=headers)).json()
        if shown["state"] not in {"queued", "running"}:
            break
        if time.monotonic() > deadline:
            msg = f"the simulation stands at {shown['phase']} {shown['done']}/{shown['total']}"
            raise RuntimeError(msg)
        await asyncio.sleep(LOOK_S)
    plans = (shown["outcome"] or {"plans": []})["plans"]
    if not any(plan["winners"] + plan["losers"] for plan in plans):
        msg = f"the simulation came to nothing: {shown['state']} {shown['problem']}"
        raise RuntimeError(msg)


async def _rating_cpu_s(bench: Bench) -> float:
    """Processor seconds of this process in rating every account, reading left out."""
    tx = bench.connection
    reference = await ReferenceCache().at(tx)
    rows = await tx.fetch("SELECT id, contribution::text FROM root WHERE kind = 'account'")
    borders = await store.hold_borders(tx, lock=False)
    spent_s = 0.0
    for first in range(0, len(rows), ACCOUNTS_AT_ONCE):
        states = [
            begin_account(
                AccountKey.of(row["id"]), row["contribution"], date.min, reference, borders
            )
            for row in rows[first : first + ACCOUNTS_AT_ONCE]
        ]
        await fill_given(tx, states, reference)
        began = time.process_time()
        for state in states:
            rated_years(state, reference)
        spent_s += time.process_time() - began
    return spent_s
