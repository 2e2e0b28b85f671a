"""Whether anything was lost, doubled or different: every figure against the recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import asyncpg

from deploy.demo.figures import MONEY, Difference, Name, Value, What, differences, expected
from deploy.demo.read import office, read_figures
from shared.facts.record import Record, decode_record
from tests.chaos.arena import Arena
from tests.chaos.closing import Closer
from tests.chaos.pay import ZERO, Wrong, wrong_pay
from tests.chaos.script import Script
from tests.oracle import recompute
from tests.simulator.history import History

COUNTS = frozenset({What.WON, What.LOST, What.ACTIVITIES})
PAY = frozenset({What.EARNED, What.PAYABLE})
STATED = ("stage", "owner", "amount", "close_date", "pipeline")
"""Fields of a deal of which every statement is kept."""

FOLDING = ("metrics", "commissions")
_UNEVEN = """
    SELECT transaction_id, currency, sum(amount) AS total FROM commissions.posting
    GROUP BY transaction_id, currency HAVING sum(amount) <> 0
"""


@dataclass(slots=True)
class Verdict:
    """lost, doubled: statements, records and counted deals. difference: of all amounts, summed."""

    compared: int = 0
    lost: int = 0
    doubled: int = 0
    difference: Decimal = Decimal(0)
    complaints: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.difference or self.complaints)


async def judge(arena: Arena, script: Script, closer: Closer) -> Verdict:
    """Compare everything, once all is settled."""
    verdict = Verdict()
    async with office(arena.stage, script.history) as desk:
        found = await read_figures(desk, script.history)
        rows = await desk.pages("commissions", "/v1/statements")
    wanted = expected(recompute(script.history), script.history)
    _judge_figures(verdict, _without_pay(wanted), _without_pay(found))
    _judge_pay(verdict, wrong_pay(script, closer.closed, rows), len(rows))
    changed = await closer.changed()
    verdict.complaints += [f"a closed statement changed: {name}" for name in changed]
    connection = await asyncpg.connect(arena.stage.stack.endpoints.database_url)
    try:
        await _judge_records(verdict, connection, script.history)
        for row in await connection.fetch(_UNEVEN):
            verdict.complaints.append(f"transaction {row['transaction_id']} sums to {row['total']}")
    finally:
        await connection.close()
    return verdict


def _without_pay(figures: Mapping[Name, Value]) -> dict[Name, Value]:
    return {name: value for name, value in figures.items() if name.what not in PAY}


def _judge_figures(
    verdict: Verdict, wanted: Mapping[Name, Value], found: Mapping[Name, Value]
) -> None:
    verdict.compared += len(wanted)
    for one in differences(wanted, found):
        verdict.complaints.append(f"{one.name}: should be {one.expected}, is {one.found}")
        gap = _gap(one)
        if one.name.what in MONEY:
            verdict.difference += abs(gap)
        elif one.name.what in COUNTS:
            verdict.lost += int(max(gap, ZERO))
            verdict.doubled += int(max(-gap, ZERO))


def _gap(one: Difference) -> Decimal:
    """How much is missing; below 0, how much is too much."""
    sides = [
        side if isinstance(side, Decimal) else Decimal(0) for side in (one.expected, one.found)
    ]
    return sides[0] - sides[1]


def _judge_pay(verdict: Verdict, wrong: Sequence[Wrong], compared: int) -> None:
    verdict.compared += compared
    for one in wrong:
        verdict.complaints.append(str(one))
        verdict.difference += one.by


async def _judge_records(
    verdict: Verdict, connection: asyncpg.Connection[asyncpg.Record], history: History
) -> None:
    """Every statement about a deal once, in each service that folds it; every activity once."""
    for service in FOLDING:
        rows = await connection.fetch(
            f"SELECT id, document::text AS document FROM {service}.record WHERE kind = 'deal'"  # noqa: S608 - names of ours
        )
        known = {row["id"]: decode_record(row["document"]) for row in rows}
        for name, lack in _lacking(history, known):
            verdict.compared += 1
            if lack:
                verdict.complaints.append(f"{service}: {name}: {lack:+d} statement(s) missing")
                verdict.lost += max(lack, 0)
                verdict.doubled += max(-lack, 0)
    rows = await connection.fetch("SELECT id FROM metrics.record WHERE kind = 'activity'")
    stored, told = {row["id"] for row in rows}, {record.id for record in history.activities}
    verdict.compared += len(told)
    verdict.lost += len(told - stored)
    verdict.doubled += len(stored - told)
    verdict.complaints += [f"activity {name} is missing" for name in sorted(told - stored)]
    verdict.complaints += [f"activity {name} is nobody's" for name in sorted(stored - told)]


def _lacking(history: History, known: Mapping[str, Record]) -> Iterator[tuple[str, int]]:
    """(deal and field, statements that are missing) of everything that was said."""
    for deal in history.deals:
        record = known.get(deal.id, Record())
        for name in STATED:
            said = len({change.at_ms for change in deal.changes if change.field == name})
            yield f"{deal.id} {name}", said - len(record.timeline(name))
