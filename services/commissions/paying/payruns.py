"""Pay runs: closed statements are gathered, approved by a second person, paid, and nobody twice.

    draft → approved → paid          draft → cancelled, which frees its statements
    a paid line → returned, which makes the statement payable again

Locks: the pay run's row, then accounts in the order of their ids.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from services.commissions.closing.checklist import is_quiet
from services.commissions.domain.ledger import Account, Cause, Place, Posting, transaction
from services.commissions.domain.payrun import (
    Batch,
    PayLine,
    Template,
    batch_hash,
    control_totals,
    payroll_file,
)
from services.commissions.domain.periods import Period
from services.commissions.paying.payrun_store import (
    COLUMNS,
    FIRST,
    LINE_KEY,
    RETURNED,
    PayRun,
    ToldLine,
    insert_pay_run,
    line_of,
    move,
    pay_run_of,
    set_lines,
    tell,
    tell_lines,
)
from services.commissions.reference import Reference
from services.commissions.store import AccountKey, Entry, last_numbers, write_entries
from services.commissions.two_persons import check_second_person
from shared.errors import InvalidValue, Refused
from shared.events.journals import (
    PayRunState,
)
from shared.facts.store import load_kind
from shared.ids import derived_id

if TYPE_CHECKING:
    from shared.db.pool import Connection

TEMPLATES = Path(__file__).parent / "payroll"


@dataclass(frozen=True, slots=True)
class Request:
    """What a pay run is to take and how its file is to look.

    through: every closed statement up to its end that has not been paid. employees: the prefix of
    the identities that hold employee numbers, such as `adp:ABC`.
    """

    id: str
    through: Period
    pay_date: date
    template: str
    parameters: Mapping[str, str]
    employees: str | None


@cache
def templates() -> Mapping[str, Template]:
    """The forms that payrolls read, by name: one file each in `payroll/`."""
    return {
        path.stem: msgspec.convert({**tomllib.loads(path.read_text()), "name": path.stem}, Template)
        for path in sorted(TEMPLATES.glob("*.toml"))
    }


# ---- gathering --------------------------------------------------------------------------------


async def make_pay_run(
    tx: Connection, wanted: Request, reference: Reference, *, actor: str, now: datetime
) -> tuple[PayRun, bool]:
    """Gather what is closed and unpaid; the run, and whether it is new.

    The same request again is the same run, so a batch id can be sent until it is answered.
    Raises Refused (409): not closed, nothing to pay, an employee number missing, or the id is
    another run's. Raises InvalidValue for an unknown template or a missing parameter.
    """
    template = _checked_template(wanted)
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('pay_run', 4711))")
    known = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM pay_run WHERE pay_run_id = $1",  # noqa: S608 - constants
        wanted.id,
    )
    if known is not None:
        return _same_or_refused(PayRun.of(known), wanted), False
    if wanted.through.end > await tx.fetchval("SELECT day FROM closed_until FOR SHARE"):
        msg = f"period {wanted.through.label} is not closed; close it, then pay it"
        raise Refused("period-not-closed", msg)
    if not await is_quiet(tx):
        msg = "a change is still being worked in; try again when nothing says recalculating"
        raise Refused("recalculating", msg)
    lines = await _unpaid(tx, wanted, reference)
    if not lines:
        msg = f"nothing closed until {wanted.through.last_day} is left to pay"
        raise Refused("nothing-to-pay", msg)
    if template.needs_employee_numbers:
        _check_employee_numbers(lines, wanted.employees)
    run = _new_run(wanted, lines, actor, now)
    await insert_pay_run(tx, run, wanted.through.end, lines)
    await tell(tx, run, actor, now)
    await tell_lines(tx, run.id, [(line, "due", None, FIRST) for line in lines], actor, now)
    return run, True


def _checked_template(wanted: Request) -> Template:
    template = templates().get(wanted.template)
    if template is None:
        msg = f"there is no template {wanted.template}; there are {', '.join(templates())}"
        raise InvalidValue(msg, pointer="/template")
    if missing := sorted(template.parameters - wanted.parameters.keys()):
        msg = f"template {template.name} needs the parameters {', '.join(missing)}"
        raise InvalidValue(msg, pointer="/parameters")
    if template.needs_employee_numbers and wanted.employees is None:
        msg = f"template {template.name} needs employees: the identities with employee numbers"
        raise InvalidValue(msg, pointer="/employees")
    return template


def _same_or_refused(known: PayRun, wanted: Request) -> PayRun:
    same = (
        known.through == wanted.through.label
        and known.pay_date == wanted.pay_date
        and known.template == wanted.template
        and known.parameters == wanted.parameters
        and known.employees == wanted.employees
    )
    if not same:
        msg = f"pay run {known.id} exists and asks for something else; choose another id"
        raise Refused("pay-run-exists", msg)
    return known


async def _unpaid(tx: Connection, wanted: Request, reference: Reference) -> list[PayLine]:
    rows = await tx.fetch(
        "SELECT f.payee, f.plan_id, f.period, f.payable, f.currency, f.payout_amount, "
        "f.payout_currency, f.hash FROM fixed_statement f WHERE f.end_day <= $1 "
        "AND f.payout_amount > 0 AND NOT EXISTS (SELECT FROM pay_run_line l "
        "WHERE l.payee = f.payee AND l.plan_id = f.plan_id AND l.period = f.period "
        "AND l.state IN ('due', 'paid')) ORDER BY f.payee, f.plan_id, f.period",
        wanted.through.end,
    )
    numbers = {} if wanted.employees is None else await _employee_numbers(tx, wanted.employees)
    day = wanted.through.last_day
    names = {row["payee"]: reference.org.person(row["payee"], day) for row in rows}
    return [
        PayLine(
            payee=row["payee"],
            name=person.name if (person := names[row["payee"]]) else row["payee"],
            employee_number=numbers.get(row["payee"]),
            plan=row["plan_id"],
            period=row["period"],
            amount=row["payout_amount"],
            currency=row["payout_currency"],
            plan_amount=row["payable"],
            plan_currency=row["currency"],
            statement_hash=row["hash"],
        )
        for row in rows
    ]


async def _employee_numbers(tx: Connection, prefix: str) -> dict[str, str]:
    """Person → employee number: of several identities with this prefix the one stated last."""
    found: dict[str, str] = {}
    for person, record in (await load_kind(tx, "person")).items():
        stated = sorted(record.dated_members("identities"), key=lambda said: said[1])
        holds = {identity: is_theirs for identity, _, is_theirs in stated}
        for identity, _, _ in stated:
            if holds[identity] and identity.startswith(f"{prefix}:"):
                found[person] = identity.removeprefix(f"{prefix}:")
    return found


def _check_employee_numbers(lines: Iterable[PayLine], prefix: str | None) -> None:
    missing = sorted({line.payee for line in lines if line.employee_number is None})
    if missing:
        msg = (
            f"no employee number is known for {', '.join(missing)}: "
            f"give each an identity {prefix}:<number>"
        )
        raise Refused("employee-number-missing", msg)


def _new_run(wanted: Request, lines: Sequence[PayLine], actor: str, now: datetime) -> PayRun:
    return PayRun(
        id=wanted.id,
        through=wanted.through.label,
        pay_date=wanted.pay_date,
        template=wanted.template,
        parameters=wanted.parameters,
        employees=wanted.employees,
        state="draft",
        hash=batch_hash(lines),
        control=control_totals(lines),
        made_by=actor,
        made_at=now,
        approved_by=None,
        approved_at=None,
        paid_on=None,
        one_seat=False,
        revision=1,
    )


# ---- on the way to the bank -------------------------------------------------------------------


async def approve(  # noqa: PLR0913 - what is approved, by whom, under which rule
    tx: Connection, pay_run_id: str, *, hash_: str, actor: str, now: datetime, one_seat: bool
) -> PayRun:
    """Approve a draft as it was shown: `hash_` is the one on it.

    Raises Refused (409): by its maker, by somebody it pays, or of other lines than were shown.
    """
    run = await pay_run_of(tx, pay_run_id, lock=True)
    if run.state == "approved" and run.approved_by == actor:
        return run
    _must_be(run, "draft")
    if run.hash != hash_:
        msg = f"the lines of pay run {run.id} have hash {run.hash}; look at them again"
        raise Refused("pay-run-changed", msg)
    is_own_pay = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM pay_run_line WHERE pay_run_id = $1 AND payee = $2)",
        run.id,
        actor,
    )
    check_second_person(
        maker=run.made_by,
        checker=actor,
        is_own_pay=is_own_pay,
        of=f"pay run {run.id}",
        one_seat=one_seat,
    )
    return await move(
        tx,
        run,
        "state = 'approved', approved_by = $2, approved_at = $3, one_seat = $4",
        actor,
        now,
        run.made_by == actor,
        actor=actor,
        now=now,
    )


async def cancel(tx: Connection, pay_run_id: str, *, actor: str, now: datetime) -> PayRun:
    """Give a draft up; its statements can be paid by another run. Raises Refused (409)."""
    run = await pay_run_of(tx, pay_run_id, lock=True)
    if run.state == "cancelled":
        return run
    _must_be(run, "draft")
    await set_lines(tx, run, "cancelled", actor, now)
    return await move(tx, run, "state = 'cancelled'", actor=actor, now=now)


async def mark_paid(
    tx: Connection, pay_run_id: str, *, paid_on: date, actor: str, now: datetime
) -> PayRun:
    """The bank has paid all of it: every line moves from payable to paid. Raises Refused (409)."""
    run = await pay_run_of(tx, pay_run_id, lock=True)
    if run.state == "paid" and run.paid_on == paid_on:
        return run
    _must_be(run, "approved")
    rows = await set_lines(tx, run, "paid", actor, now)
    await _post(tx, run, rows, actor, Decimal(1))
    return await move(tx, run, "state = 'paid', paid_on = $2", paid_on, actor=actor, now=now)


async def return_line(  # noqa: PLR0913 - the name of one line, and who says what of it
    tx: Connection,
    pay_run_id: str,
    *,
    payee: str,
    plan: str,
    period: str,
    reason: str,
    actor: str,
    now: datetime,
) -> PayRun:
    """The bank sent one payment back: the statement is payable again, by a later run.

    Raises Refused: 409 before the run was paid, 404 for a line it has not.
    """
    run = await pay_run_of(tx, pay_run_id, lock=True)
    _must_be(run, "paid")
    rows = await tx.fetch(
        "UPDATE pay_run_line SET state = 'returned', reason = $5 WHERE pay_run_id = $1 "
        "AND payee = $2 AND plan_id = $3 AND period = $4 AND state = 'paid' RETURNING *",
        run.id,
        payee,
        plan,
        period,
        reason,
    )
    if not rows:
        msg = f"pay run {run.id} has no paid line for {payee}, {plan}, {period}"
        raise Refused("not-found", msg, status=404)
    await _post(tx, run, rows, actor, Decimal(-1))
    told: list[ToldLine] = [(line_of(row), "returned", reason, RETURNED) for row in rows]
    await tell_lines(tx, run.id, told, actor, now)
    return run


async def payroll_file_of(tx: Connection, pay_run_id: str) -> bytes:
    """The file for payroll: the same bytes whenever it is asked for.

    Lines that came back later stay in it. Raises Refused (409) before it was approved.
    """
    run = await pay_run_of(tx, pay_run_id)
    if run.state not in {"approved", "paid"}:
        msg = f"pay run {run.id} is {run.state}; only an approved one is exported"
        raise Refused("pay-run-not-approved", msg)
    rows = await tx.fetch("SELECT * FROM pay_run_line WHERE pay_run_id = $1", run.id)
    batch = Batch(run.id, run.pay_date, [line_of(row) for row in rows], run.parameters)
    return payroll_file(batch, templates()[run.template])


def _must_be(run: PayRun, state: PayRunState) -> None:
    if run.state != state:
        msg = f"pay run {run.id} is {run.state}, not {state}"
        raise Refused("pay-run-state", msg)


async def _post(
    tx: Connection, run: PayRun, rows: Sequence[asyncpg.Record], actor: str, sign: Decimal
) -> None:
    """Move lines from payable to paid; with `sign` -1 the mirrored way."""
    accounts = sorted({AccountKey(row["payee"], row["plan_id"]) for row in rows})
    await tx.execute(
        "SELECT FROM root WHERE kind = 'account' AND id = ANY($1::text[]) ORDER BY id FOR UPDATE",
        [account.root_id for account in accounts],
    )
    numbers = await last_numbers(tx, accounts)
    days = {
        (row["payee"], row["plan_id"], row["period"]): (row["start_day"], row["end_day"])
        for row in await tx.fetch(
            "SELECT f.payee, f.plan_id, f.period, f.start_day, f.end_day FROM fixed_statement f "
            "JOIN pay_run_line l USING (payee, plan_id, period) WHERE l.pay_run_id = $1",
            run.id,
        )
    }
    entries = []
    for row in rows:
        line = line_of(row)
        account = AccountKey(line.payee, line.plan)
        numbers[account] += 1
        cause = Cause((f"payrun/{run.id}",), "", actor)
        made = transaction(cause, _payment(run, line, sign))
        identity = derived_id(made.id, account.root_id, str(numbers[account]))
        span = {line.period: days[line.payee, line.plan, line.period]}
        entries.append(Entry(account, numbers[account], identity, made, span))
    await write_entries(tx, entries)


def _payment(run: PayRun, line: PayLine, sign: Decimal) -> list[Posting]:
    def place(account: Account) -> Place:
        key = f"{LINE_KEY}{run.id}"
        return Place(account, line.payee, line.plan, line.period, key, line.plan_currency)

    amount = line.plan_amount * sign
    return [Posting(place(Account.PAYABLE), -amount), Posting(place(Account.PAID), amount)]
