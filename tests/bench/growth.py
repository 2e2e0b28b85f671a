"""What an event costs when there are few deals, and when there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.bench.lab import Crew, Lab, Span
from tests.bench.report import Result, compared, ratio_at_most
from tests.bench.throughput import THIRD_COMPONENT, expect_lines, say
from tests.bench.traffic import HOT_SHARE, Base, quota_facts, reference_facts
from tests.simulator import Company

ELAPSED = "s/1,000 events"
CPU = "CPU-s/1,000 events"
PLAN = "ae-2025"
LOADERS = 2
"""Consumer processes that take up what is there before anything is measured."""

LOADED_BY_ONE = 20_000
"""Deals for which starting another process costs more than it helps."""


def _elapsed(span: Span) -> float:
    return span.per_thousand_s


def _cpu(span: Span) -> float:
    return span.cpu_per_thousand_s


COSTS: Mapping[str, Callable[[Span], float]] = {ELAPSED: _elapsed, CPU: _cpu}
GOAL = ratio_at_most(1.3)


async def growth(  # noqa: PLR0913 - named at each call
    lab: Lab, *, service: str, seed: int, few: int, many: Sequence[int], events: int
) -> list[Result]:
    """Cost per event of `events` updates at a company of `few` deals, and at larger ones.

    Once on a twentieth of the deals, which are more deals of more reps the larger the company is;
    and once on as many deals of as many reps at both sizes, so that only the store differs and not
    how often a batch meets the same deal, or the same rep's pay, twice.
    """
    smallest = Base.of(few, seed)
    small = await _measured(lab, service, smallest, events, smallest)
    results: list[Result] = []
    spreads = ("5 % hot", f"{_hot(few):,} hot")
    floors = {}
    for spread, span in zip(spreads, small, strict=True):
        for unit, of in COSTS.items():
            floors[spread, unit] = Result(_name(service, few, spread), of(span), unit)
    results += floors.values()
    for deals in many:
        large = await _measured(lab, service, Base.of(deals, seed), events, smallest)
        for spread, span in zip(spreads, large, strict=True):
            for unit, of in COSTS.items():
                name, floor = _name(service, deals, spread), floors[spread, unit]
                results.append(compared(name, of(span), unit, floor, goal=GOAL))
    return results


def _name(service: str, deals: int, spread: str) -> str:
    return f"{service}: cost at {deals:,} deals, {spread}"


def _hot(deals: int) -> int:
    return max(1, round(deals * HOT_SHARE))


async def _measured(
    lab: Lab, service: str, base: Base, events: int, smallest: Base
) -> tuple[Span, Span]:
    async with lab.topics() as prefix, lab.service(service, prefix) as bench:
        if base.deals > LOADED_BY_ONE:
            async with bench.consumers(LOADERS) as loaders:
                await _load(loaders, base)
        # Two sets of deals that do not meet: what one phase says makes no deal of the other long.
        share_from = base.deals - _hot(base.deals)
        fixed = base.latest(_hot(smallest.deals), share_from, smallest.reps)
        async with bench.consumers() as crew:
            if base.deals <= LOADED_BY_ONE:
                await _load(crew, base)
            at_share = await crew.consume(base.updates(events, range(share_from, base.deals), 0))
            at_fixed = await crew.consume(base.updates(events, fixed, 1))
        if service == "commissions":
            await expect_lines(bench)
        return at_share, at_fixed


async def _load(crew: Crew, base: Base) -> None:
    bench = crew.bench
    company = Company.generate(base.seed, 0.001)
    reference = [*reference_facts(company), *base.people()]
    if bench.name == "commissions":
        async with bench.api() as api:
            await say(api, bench.lab, plan_calls(company, base))
        reference += quota_facts(base.quotas())
    await crew.load(reference)
    await crew.load(base.load())
    # As autovacuum and time would have done by now, had the base come in a year.
    await bench.connection.execute("VACUUM (ANALYZE)")
    await bench.connection.execute("CHECKPOINT")


def plan_calls(company: Company, base: Base) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A plan of three components, and everybody's assignment to it."""
    plan = dict(company.history.plans[PLAN])
    plan["components"] = [*plan["components"], dict(THIRD_COMPONENT)]
    yield f"/v1/plans/{PLAN}/versions/1", plan
    for number in range(base.reps):
        body = {
            "payee": f"rep-{number}",
            "plan": PLAN,
            "from": "2025-01-01",
            "to": None,
            "payout_currency": "USD",
        }
        yield f"/v1/assignments/rep-{number}-2025", body
