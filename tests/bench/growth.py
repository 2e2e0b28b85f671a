"""What an event costs when there are few deals, and when there are many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.bench.lab import Bench, Lab, Span
from tests.bench.report import Result, compared
from tests.bench.throughput import THIRD_COMPONENT, expect_lines, say
from tests.bench.traffic import HOT_SHARE, Base, quota_facts, reference_facts
from tests.simulator import Company

ELAPSED = "s/1,000 events"
CPU = "CPU-s/1,000 events"
PLAN = "ae-2025"


async def growth(  # noqa: PLR0913 - named at each call
    lab: Lab, *, service: str, seed: int, few: int, many: int, events: int
) -> list[Result]:
    """Cost per event of `events` updates at both sizes.

    Once on a twentieth of the deals, which are more deals the larger the company is; and once on
    as many deals at both sizes, so that only the store differs and not how often a batch meets the
    same deal twice.
    """
    small = await _measured(lab, service, Base.of(few, seed), events, hot_fixed=_hot(few))
    large = await _measured(lab, service, Base.of(many, seed), events, hot_fixed=_hot(few))
    results = []
    for spread, at_few, at_many in zip(
        ("5 % hot", f"{_hot(few):,} hot"), small, large, strict=True
    ):
        for unit, of in ((ELAPSED, _elapsed), (CPU, _cpu)):
            name = f"{service}: cost at {{}} deals, {spread}"
            floor = Result(name.format(f"{few:,}"), of(at_few), unit)
            results += [floor, compared(name.format(f"{many:,}"), of(at_many), unit, floor)]
    return results


def _elapsed(span: Span) -> float:
    return span.per_thousand_s


def _cpu(span: Span) -> float:
    return span.cpu_per_thousand_s


def _hot(deals: int) -> int:
    return max(1, round(deals * HOT_SHARE))


async def _measured(
    lab: Lab, service: str, base: Base, events: int, *, hot_fixed: int
) -> tuple[Span, Span]:
    async with lab.topics() as prefix, lab.service(service, prefix) as bench:
        await _load(bench, base)
        # Two sets of deals that do not meet: what one phase says makes no deal of the other long.
        share_from = base.deals - _hot(base.deals)
        at_share = await bench.consume(base.updates(events, range(share_from, base.deals), 0))
        fixed = range(share_from - hot_fixed, share_from)
        at_fixed = await bench.consume(base.updates(events, fixed, 1))
        if service == "commissions":
            await expect_lines(bench)
        return at_share, at_fixed


async def _load(bench: Bench, base: Base) -> None:
    company = Company.generate(base.seed, 0.001)
    reference = [*reference_facts(company), *base.people()]
    if bench.name == "commissions":
        async with bench.api() as api:
            await say(api, bench.lab, _plan_calls(company, base))
        reference += quota_facts(base.quotas())
    await bench.consume(reference)
    await bench.consume(base.load())
    # As autovacuum would have done by now, had the base come in a year and not in a minute.
    await bench.connection.execute("VACUUM (ANALYZE)")


def _plan_calls(company: Company, base: Base) -> Iterator[tuple[str, Mapping[str, Any]]]:
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
