"""Pay runs as they are stored and told: every change is an event of the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from services.commissions.domain.payrun import ControlTotal, PayLine
from services.commissions.events import write_events
from services.commissions.store import canonical_json
from shared.errors import Refused
from shared.events.journals import (
    PAY_LINE,
    PAY_RUN,
    ControlTotalData,
    PayLineData,
    PayLineState,
    PayRunData,
    PayRunState,
)
from shared.money import to_text

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LINE_KEY = "payrun/"
"""Ledger lines of payments, and the journal's subjects, begin with it."""


@dataclass(frozen=True, slots=True)
class PayRun:
    """A pay run as stored."""

    id: str
    through: str
    pay_date: date
    template: str
    parameters: Mapping[str, str]
    employees: str | None
    state: PayRunState
    hash: str
    control: Sequence[ControlTotal]
    made_by: str
    made_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    paid_on: date | None
    one_seat: bool
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> PayRun:
        """From a row of `pay_run`, JSON columns as text."""
        control = [
            ControlTotal(entry["currency"], entry["lines"], Decimal(entry["amount"]))
            for entry in msgspec.json.decode(row["control"])
        ]
        return cls(
            id=row["pay_run_id"],
            parameters=msgspec.json.decode(row["parameters"]),
            control=control,
            **{name: row[name] for name in _PLAIN},
        )


_PLAIN = (
    "through",
    "pay_date",
    "template",
    "employees",
    "state",
    "hash",
    "made_by",
    "made_at",
    "approved_by",
    "approved_at",
    "paid_on",
    "one_seat",
    "revision",
)
COLUMNS = f"pay_run_id, parameters::text, control::text, {', '.join(_PLAIN)}"
"""What `PayRun.of` reads."""


async def pay_run_of(tx: Connection | Pool, pay_run_id: str, *, lock: bool = False) -> PayRun:
    """A pay run. Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM pay_run WHERE pay_run_id = $1"  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        pay_run_id,
    )
    if row is None:
        raise Refused("not-found", "There is no such pay run.", status=404)
    return PayRun.of(row)


def line_of(row: asyncpg.Record) -> PayLine:
    """The line in a row of `pay_run_line`."""
    return PayLine(
        payee=row["payee"],
        name=row["name"],
        employee_number=row["employee_number"],
        plan=row["plan_id"],
        period=row["period"],
        amount=row["amount"],
        currency=row["currency"],
        plan_amount=row["plan_amount"],
        plan_currency=row["plan_currency"],
        statement_hash=row["statement_hash"],
    )


async def insert_pay_run(
    tx: Connection, run: PayRun, through_day: date, lines: Sequence[PayLine]
) -> None:
    """Store a new run and its lines. through_day: the first day after what it takes."""
    control = [
        {"currency": total.currency, "lines": total.lines, "amount": to_text(total.amount)}
        for total in run.control
    ]
    await tx.execute(
        "INSERT INTO pay_run (pay_run_id, through, through_day, pay_date, template, parameters, "
        "employees, state, hash, control, made_by, made_at, revision) VALUES ($1, $2, $3, $4, $5, "
        "$6::text::json, $7, 'draft', $8, $9::text::json, $10, $11, 1)",
        run.id,
        run.through,
        through_day,
        run.pay_date,
        run.template,
        canonical_json(dict(run.parameters)),
        run.employees,
        run.hash,
        canonical_json(control),
        run.made_by,
        run.made_at,
    )
    await tx.execute(
        "INSERT INTO pay_run_line (pay_run_id, payee, plan_id, period, name, employee_number, "
        "amount, currency, plan_amount, plan_currency, statement_hash, state) "
        "SELECT $1, *, 'due' FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], "
        "$6::text[], $7::numeric[], $8::text[], $9::numeric[], $10::text[], $11::text[])",
        run.id,
        [line.payee for line in lines],
        [line.plan for line in lines],
        [line.period for line in lines],
        [line.name for line in lines],
        [line.employee_number for line in lines],
        [line.amount for line in lines],
        [line.currency for line in lines],
        [line.plan_amount for line in lines],
        [line.plan_currency for line in lines],
        [line.statement_hash for line in lines],
    )


ToldLine = tuple[PayLine, PayLineState, str | None, int]
"""A line, its state, the reason for it, and its revision."""

FIRST = 1
SETTLED = 2
RETURNED = 3
"""Revisions of a line: when it is gathered; then paid or cancelled; then returned."""


async def set_lines(
    tx: Connection, run: PayRun, state: PayLineState, actor: str, now: datetime
) -> list[asyncpg.Record]:
    """Move every line that is due to `state`, and tell; the rows that moved."""
    rows = await tx.fetch(
        "UPDATE pay_run_line SET state = $2 WHERE pay_run_id = $1 AND state = 'due' RETURNING *",
        run.id,
        state,
    )
    told = [(line_of(row), state, None, SETTLED) for row in rows]
    await tell_lines(tx, run.id, told, actor, now)
    return rows


async def move(
    tx: Connection, run: PayRun, change: str, *values: object, actor: str, now: datetime
) -> PayRun:
    """Change columns of a run (`$2` on are `values`), raise its revision, and tell."""
    row = await tx.fetchrow(
        f"UPDATE pay_run SET {change}, revision = revision + 1 WHERE pay_run_id = $1 "  # noqa: S608
        f"RETURNING {COLUMNS}",
        run.id,
        *values,
    )
    if row is None:
        msg = f"pay run {run.id} is gone, though it is locked"
        raise RuntimeError(msg)
    moved = PayRun.of(row)
    await tell(tx, moved, actor, now)
    return moved


async def tell(tx: Connection, run: PayRun, actor: str, now: datetime) -> None:
    """The run as it is now, to the journal."""
    data = PayRunData(
        pay_run=run.id,
        through=run.through,
        pay_date=run.pay_date.isoformat(),
        template=run.template,
        parameters=dict(run.parameters),
        employees=run.employees,
        state=run.state,
        hash=run.hash,
        control=[
            ControlTotalData(
                currency=total.currency, lines=total.lines, amount=to_text(total.amount)
            )
            for total in run.control
        ],
        made_by=run.made_by,
        approved_by=run.approved_by,
        paid_on=None if run.paid_on is None else run.paid_on.isoformat(),
        one_seat=run.one_seat,
        revision=run.revision,
        actor=actor,
    )
    await write_events(tx, PAY_RUN, [(f"{LINE_KEY}{run.id}", run.revision, data)], now)


async def tell_lines(
    tx: Connection,
    pay_run_id: str,
    lines: Sequence[ToldLine],
    actor: str,
    now: datetime,
) -> None:
    """Lines with their state, the reason for it, and their revision, to the journal."""
    said = [
        (
            f"{LINE_KEY}{pay_run_id}/{line.payee}|{line.plan}|{line.period}",
            revision,
            PayLineData(
                pay_run=pay_run_id,
                payee=line.payee,
                plan=line.plan,
                period=line.period,
                amount=to_text(line.amount),
                currency=line.currency,
                plan_amount=to_text(line.plan_amount),
                plan_currency=line.plan_currency,
                statement_hash=line.statement_hash,
                state=state,
                reason=reason,
                revision=revision,
                actor=actor,
            ),
        )
        for line, state, reason, revision in lines
    ]
    await write_events(tx, PAY_LINE, said, now)
