"""How long it takes until all credits of a company are rated again."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

import httpx

from tests.bench.growth import PLAN, plan_calls
from tests.bench.lab import Bench, Lab
from tests.bench.report import Result, at_most, compared
from tests.bench.throughput import expect_lines, say
from tests.bench.traffic import Base, quota_facts, reference_facts
from tests.simulator import Company

MILLION = 1_000_000
DEALS_EACH = 500
"""Deals of one rep, all won; two of the plan's three components credit each."""

CONSUMERS = 2
UNIT = "s/1,000,000 credits"
CPU = "CPU-s/1,000,000 credits"
GOAL = at_most(120)


async def recompute(lab: Lab, *, seed: int, accounts: int) -> list[Result]:
    """A year of `accounts` reps, made again as it is; then with another rate on every line."""
    base = Base(accounts * DEALS_EACH, accounts, seed)
    company = Company.generate(seed, 0.001)
    async with (
        lab.topics() as prefix,
        lab.service("commissions", prefix) as bench,
        bench.api() as api,
        bench.consumers(CONSUMERS) as crew,
    ):
        await say(api, lab, plan_calls(company, base))
        known = [*reference_facts(company), *base.people(), *quota_facts(base.quotas())]
        await crew.load(known)
        await crew.load(base.load(all_won=True))
        await bench.connection.execute("VACUUM (ANALYZE)")
        await expect_lines(bench)
        credits_ = await bench.connection.fetchval("SELECT count(*) FROM credit")
        same = await crew.settle(_announced(bench), credits_)
        changed = await crew.settle(_another_rate(api, lab, company), credits_)
    scale = MILLION / credits_
    told = f"{accounts:,} accounts, {credits_:,} credits"
    floor = Result(f"recomputation: the same again, {told}", same.elapsed_s * scale, UNIT)
    cpu = Result(f"recomputation: the same again, {told}", same.cpu_s * scale, CPU)
    name = f"recomputation: another rate on every line, {told}"
    return [
        Result(floor.name, floor.value, UNIT, goal=GOAL),
        cpu,
        compared(name, changed.elapsed_s * scale, UNIT, floor, goal=GOAL),
        compared(name, changed.cpu_s * scale, CPU, cpu),
    ]


def _announced(bench: Bench) -> Callable[[], Awaitable[None]]:
    """That reference data changed, which in the end it did not."""

    async def announce() -> None:
        await bench.connection.execute("UPDATE reference_version SET version = version + 1")

    return announce


def _another_rate(
    api: httpx.AsyncClient, lab: Lab, company: Company
) -> Callable[[], Awaitable[None]]:
    """A version from the year's second day on, with higher rates."""

    async def put() -> None:
        (_, first), *_ = plan_calls(company, Base(1, 1, 1))
        plan = copy.deepcopy(dict(first))
        plan["effective"] = {"from": "2025-01-02"}
        for component in plan["components"]:
            rates = component["rates"]
            if "rate" in rates:
                rates["rate"] = "0.6%"
            for tier in rates.get("tiers", ()):
                tier["rate"] = tier["rate"].removesuffix("%") + ".5%"
        await say(api, lab, [(f"/v1/plans/{PLAN}/versions/2", plan)])

    return put
