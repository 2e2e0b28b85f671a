"""What KPIs of the pipeline cost at a company with many open deals, read through the API.

The rows are made in the database itself, as settling a quarter of facts would leave them: every
deal three of them, of which a fifth changed within the last thirty days, and as many closed deals
as open ones. What is measured is whole answers, one reader at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import httpx

from shared.clock import to_epoch_ms, to_text
from shared.http.auth import Role
from tests.bench.lab import Bench, Lab
from tests.bench.report import Goal, Result, at_most, percentile
from tests.bench.traffic import YEAR_END

WARM_UP = 3
MILLISECONDS = "ms"
REPS = 400
FLOW_GOAL = at_most(300)
MEDIAN, TAIL = 50, 99

_ROWS = """
    INSERT INTO deal_span (
        deal_id, valid_from_ms, valid_to_ms, status, stage, stage_name, pipeline, owner, seen_by,
        amount, currency, close_date, probability, stage_entered_ms, created_ms, outcome,
        closed_ms, closed_owner, closed_amount, deal_type, name, stage_order, qualified)
    SELECT 'crm:t:' || n, began_ms, CASE WHEN row < 3 THEN next_ms END,
           status, stage, stage, 'default', owner, owner,
           1000 + n % 900 + row * 10, 'USD',
           $4::date + (n % 90)::integer - CASE WHEN row = 1 AND n % 7 = 0 THEN 60 ELSE 0 END, 0.4,
           began_ms, $1::bigint - 120 * 86400000::bigint,
           CASE WHEN status = 'won' THEN 'won' END, CASE WHEN status = 'won' THEN began_ms END,
           CASE WHEN status = 'won' THEN owner END, CASE WHEN status = 'won' THEN 1000 END,
           'new', 'Deal ' || n, row, true
    FROM (
        SELECT n, row, 'rep-' || n % $3 AS owner,
               CASE WHEN row = 3 AND n > $2 THEN 'won' ELSE 'open' END AS status,
               CASE WHEN row = 3 AND n > $2 THEN 'won' ELSE 'stage-' || row END AS stage,
               $1::bigint - ((4 - row) * 40 - CASE WHEN n % 5 = 0 THEN 35 ELSE 0 END)
                   * 86400000::bigint + n AS began_ms,
               $1::bigint - ((3 - row) * 40 - CASE WHEN n % 5 = 0 THEN 35 ELSE 0 END)
                   * 86400000::bigint + n AS next_ms
        FROM generate_series(1, 2 * $2::bigint) AS n, generate_series(1, 3) AS row) AS made
"""


async def flow(lab: Lab, *, deals: int, count: int) -> list[Result]:
    """Latency of pipeline flow and what is read like it, with `deals` open deals."""
    results: list[Result] = []
    async with lab.topics() as prefix, lab.service("metrics", prefix) as bench:
        await _fill(bench, deals)
        async with bench.api() as client:
            for name, asked in _asked().items():
                took_ms = await _timed(lab, client, asked, count)
                full = f"reads: {name}, {deals:,} open deals"
                for share in (MEDIAN, TAIL):
                    goal = asked.goal if share == TAIL else None
                    value = percentile(took_ms, share)
                    results.append(Result(f"{full}, p{share}", value, MILLISECONDS, goal=goal))
    return results


async def _fill(bench: Bench, deals: int) -> None:
    now_ms = to_epoch_ms(YEAR_END)
    await bench.connection.execute(_ROWS, now_ms, deals, REPS, YEAR_END.date())
    await bench.connection.execute("ANALYZE deal_span")


@dataclass(frozen=True, slots=True)
class Asked:
    """One sort of answer."""

    kpi: str
    params: Mapping[str, str]
    goal: Goal | None = None


def _asked() -> Mapping[str, Asked]:
    then = {"since": to_text(YEAR_END - timedelta(days=30))}
    past = {**then, "as_of": to_text(YEAR_END - timedelta(days=10))}
    quarter = {"period": f"{YEAR_END.year}-Q4"}
    return {
        "pipeline flow of 30 days": Asked("K22", then, FLOW_GOAL),
        "pipeline flow in the past": Asked("K22", past, FLOW_GOAL),
        "pipeline flow of a rep": Asked("K22", {**then, "rep": "rep-7"}),
        "pipeline value": Asked("K9", {}),
        "stage conversion of a quarter": Asked("K8", quarter),
        "pushes of a quarter": Asked("K19", quarter),
        "hygiene score": Asked("K35", {}),
    }


async def _timed(lab: Lab, client: httpx.AsyncClient, asked: Asked, count: int) -> list[float]:
    headers = lab.token(Role.ADMIN)
    took_ms = []
    for _ in range(count + WARM_UP):
        began = time.perf_counter()
        answer = await client.get(
            f"/v1/kpis/{asked.kpi}", params=dict(asked.params), headers=headers
        )
        took_ms.append((time.perf_counter() - began) * 1_000)
        if answer.status_code != HTTPStatus.OK:
            msg = f"{asked.kpi} was answered {answer.status_code}: {answer.text}"
            raise RuntimeError(msg)
    return took_ms[WARM_UP:]
