"""Judges changes that were put aside: what they would move, and whether it is too much.

Those of one kind that came together are judged together, so that an import counts or is held as a
whole. One process judges at a time. What waited for the change and is now paid counts as nothing
moved: it was never anybody's pay before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog

from services.commissions import store
from services.commissions.held.changes import let_count, message_of, set_state
from services.commissions.rating import (
    QuotaRow,
    begin_account,
    fill_given,
    fill_statements,
    quotas_in,
)
from services.commissions.reference import Reference, ReferenceCache, with_facts
from services.commissions.store import AccountKey, canonical_json
from services.commissions.whatif.compare import AccountDifference, Range, compared
from services.commissions.whatif.differences import Question, compare, recalculating
from shared.events.journals import MovedData
from shared.events.targets import QuotaData
from shared.facts.fact import Fact
from shared.money import EXACT, exact_sum, to_text
from shared.runtime.consume import BROKEN, RETRIED
from shared.runtime.dead_letters import DeadLetter, bury
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool
    from shared.runtime.messages import Handler, Message, Reader
    from shared.telemetry.catalogue import Telemetry

WITHIN = timedelta(hours=1)
"""What changes move together within this time is judged together."""

PATIENCE = 100
"""So many looks in a row a judgement waits for facts that are being worked in."""

MOST_AT_ONCE = 2_000
ACCOUNTS_AT_ONCE = 50
JUDGING_LOCK = 0x0C0DE_12
"""Key of the advisory lock of whoever judges."""

ZERO = Decimal(0)
OFF = "off"

log = structlog.get_logger()


def share_of(hold_share: str) -> Decimal | None:
    """The setting as a fraction; None where nothing is held."""
    return None if hold_share == OFF else Decimal(hold_share)


@dataclass(frozen=True, slots=True)
class PeriodMoved:
    """What a change moves of one plan's pay in one statement period, in plan currency.

    before: what all payees earn without it. moved: Σ |difference| over payees, without what waited
    before. earlier: what was moved within the hour before.
    """

    plan_id: str
    period: str
    start: date
    currency: str
    before: Decimal
    moved: Decimal
    earlier: Decimal = ZERO

    def exceeds(self, share: Decimal) -> bool:
        """Whether more than a share of the period's pay moves; pay from nothing always does."""
        if self.moved == 0:
            return False
        return EXACT.add(self.moved, self.earlier) > share * abs(self.before)


@dataclass(frozen=True, slots=True)
class Moved:
    """Everything that a change moves, and whose pay that is."""

    periods: Sequence[PeriodMoved]
    payees: frozenset[str]

    @property
    def first_day(self) -> date | None:
        """Of the first period in which anything moves."""
        return min((p.start for p in self.periods if p.moved), default=None)

    def exceeds(self, share: Decimal) -> bool:
        """Whether it moves too much in any period."""
        return any(period.exceeds(share) for period in self.periods)

    def text(self) -> str:
        """JSON of what moves."""
        said = [
            MovedData(
                plan=p.plan_id,
                period=p.period,
                currency=p.currency,
                before=to_text(p.before),
                moved=to_text(p.moved),
                earlier=to_text(p.earlier),
            )
            for p in self.periods
            if p.moved
        ]
        return canonical_json(said)


@dataclass(slots=True)
class Judge:
    """Takes up what was put aside. handle: what a batch would do with it."""

    pool: Pool
    share: Decimal | None
    clock: str
    handle: Handler
    reader: Reader
    telemetry: Telemetry
    cache: ReferenceCache = field(default_factory=ReferenceCache)
    _looks: int = 0

    async def judge(self) -> bool:
        """Judge the changes of one kind that wait; whether there may be more at once."""
        row = await self.pool.fetchrow(
            "SELECT (SELECT count(*) FROM held_change WHERE state = 'held') AS held, "
            "EXISTS (SELECT FROM held_change WHERE state = 'judging') AS waiting"
        )
        if row is None:
            return False
        self.telemetry.held_changes.set(row["held"])
        if not row["waiting"]:
            return False
        self._looks += 1
        if self._looks < PATIENCE and await recalculating(self.pool):
            return False
        self._looks = 0
        async with self.pool.acquire() as holder:
            if not await holder.fetchval("SELECT pg_try_advisory_lock($1)", JUDGING_LOCK):
                return False
            try:
                await self._judge_some()
            finally:
                await holder.execute("SELECT pg_advisory_unlock($1)", JUDGING_LOCK)
        return True

    async def _judge_some(self) -> None:
        rows = await self.pool.fetch(
            "SELECT id, kind, topic, partition, message_offset, subject, value FROM held_change "
            "WHERE state = 'judging' AND kind = (SELECT kind FROM held_change "
            "WHERE state = 'judging' ORDER BY id LIMIT 1) ORDER BY id LIMIT $1",
            MOST_AT_ONCE,
        )
        if not rows:
            return
        try:
            await self._decide([row["id"] for row in rows], [self._message(row) for row in rows])
        except (*BROKEN, *RETRIED):
            raise
        except Exception:
            # Each alone, so that only what nobody can use is given up, as the consumer does.
            log.exception("change.unusable", changes=len(rows))
            for row in rows:
                try:
                    await self._decide([row["id"]], [self._message(row)])
                except (*BROKEN, *RETRIED):
                    raise
                except Exception as error:  # noqa: BLE001 - any fault of it is its own
                    await self._refuse(row, error)

    def _message(self, row: asyncpg.Record) -> Message:
        return message_of(row, self.reader)

    async def _decide(self, changes: Sequence[int], messages: Sequence[Message]) -> None:
        share = self.share
        moved = await self._moved(messages) if share is not None else Moved((), frozenset())
        now = await service_now(self.pool, clock=self.clock)
        moved = await self._with_earlier(moved, now)
        async with self.pool.acquire() as tx, tx.transaction():
            if share is None or not moved.exceeds(share):
                counted = await let_count(tx, changes, "judging", self.handle, self.reader)
                await set_state(tx, counted, "applied", now, moved=moved)
                return
            await set_state(tx, changes, "held", now, moved=moved)
        log.warning("change.held", changes=len(changes), subject=messages[0].envelope.subject)

    async def _refuse(self, row: asyncpg.Record, error: Exception) -> None:
        """Give up what nobody can use: a dead letter, listed and redriven."""
        letter = DeadLetter(
            topic=row["topic"],
            partition=row["partition"],
            message_offset=row["message_offset"],
            subject=row["subject"],
            cause="handler",
            detail=f"{type(error).__name__}: {error}",
            value=row["value"],
        )
        now = await service_now(self.pool, clock=self.clock)
        async with self.pool.acquire() as tx, tx.transaction():
            await bury(tx, [letter])
            await set_state(tx, [row["id"]], "refused", now)

    async def _moved(self, messages: Sequence[Message]) -> Moved:
        """What all of these would move together."""
        quotas = [m.body for m in messages if isinstance(m.body, QuotaData)]
        if quotas:
            return await quotas_move(self.pool, quotas, self.cache)
        facts = [m.body for m in messages if isinstance(m.body, Fact)]
        async with _snapshot(self.pool) as tx:
            present = await self.cache.at(tx)
            changed = await with_facts(tx, present, facts)
        found: list[AccountDifference] = []
        question = Question(changed, since=_first_day(facts), present=present, detail=True)
        await compare(self.pool, question, partial(_take, found), _untold)
        return moved_of(found, await _earned(self.pool))

    async def _with_earlier(self, moved: Moved, now: datetime) -> Moved:
        """With what other changes, that nobody had to release, moved within the hour before."""
        earlier: dict[tuple[str, str], Decimal] = {}
        # Those that were judged together tell the same figures.
        for row in await self.pool.fetch(
            "SELECT DISTINCT judged_at, kind, moved::text AS moved FROM held_change "
            "WHERE state = 'applied' AND judged_at > $1",
            now - WITHIN,
        ):
            for said in msgspec.json.decode(row["moved"], type=list[MovedData]):
                place = (said.plan, said.period)
                earlier[place] = EXACT.add(earlier.get(place, ZERO), Decimal(said.moved))
        periods = [
            replace(period, earlier=earlier.get((period.plan_id, period.period), ZERO))
            for period in moved.periods
        ]
        return Moved(periods, moved.payees)


async def quotas_move(pool: Pool, said: Sequence[QuotaData], cache: ReferenceCache) -> Moved:
    """What quotas would move: the accounts of whoever they are, or were, for."""
    greatest: dict[str, QuotaData] = {}
    for quota in said:
        known = greatest.get(quota.quota)
        if known is None or known.revision < quota.revision:
            greatest[quota.quota] = quota
    since = min(date.fromisoformat(quota.start) for quota in said)
    async with _snapshot(pool) as tx:
        rows = await tx.fetch(
            "SELECT person, start_day FROM quota_target WHERE quota_id = ANY($1::text[])",
            list(greatest),
        )
        people = {quota.person for quota in said} | {row["person"] for row in rows}
        since = min([since, *(row["start_day"] for row in rows)])
        accounts = await tx.fetch(
            "SELECT id, contribution::text AS contribution FROM root WHERE kind = 'account' "
            "AND split_part(id, '|', 1) = ANY($1::text[]) ORDER BY id",
            sorted(person for person in people if person is not None),
        )
    found: list[AccountDifference] = []
    for first in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        chunk = accounts[first : first + ACCOUNTS_AT_ONCE]
        async with _snapshot(pool) as tx:
            reference = await cache.at(tx)
            found += await _with_quotas(tx, chunk, greatest, since, reference)
    return moved_of(found, await _earned(pool))


async def _with_quotas(
    tx: Connection,
    accounts: Sequence[asyncpg.Record],
    said: Mapping[str, QuotaData],
    since: date,
    reference: Reference,
) -> list[AccountDifference]:
    borders = await store.hold_borders(tx, lock=False)
    year = reference.year_of(since).start
    states = [
        begin_account(AccountKey.of(row["id"]), row["contribution"], year, reference, borders)
        for row in accounts
    ]
    await fill_given(tx, states, reference)
    await fill_statements(tx, states)
    rows = await tx.fetch(
        "SELECT quota_id, person, measure, start_day, amount, end_day, currency, revision, deleted "
        "FROM quota_target WHERE person = ANY($1::text[]) OR quota_id = ANY($2::text[])",
        sorted({state.account.payee for state in states}),
        list(said),
    )
    quotas: dict[str, QuotaRow] = {row["quota_id"]: row for row in rows}
    for quota_id, quota in said.items():
        if quota_id not in quotas or quotas[quota_id]["revision"] < quota.revision:
            quotas[quota_id] = _quota_row(quota)
    for state in states:
        if state.plan is not None:
            mine = [
                row
                for _, row in sorted(quotas.items())
                if row["person"] == state.account.payee and not row["deleted"]
            ]
            state.quotas = quotas_in(mine, state.plan, reference.fiscal_start_month)
    range_ = Range(since, None)
    return await asyncio.to_thread(
        lambda: [compared(s, reference, range_, None, None, detail=True) for s in states]
    )


def _quota_row(quota: QuotaData) -> QuotaRow:
    return {
        "person": quota.person,
        "measure": quota.measure,
        "start_day": date.fromisoformat(quota.start),
        "end_day": date.fromisoformat(quota.end),
        "amount": Decimal(quota.amount),
        "currency": quota.currency,
        "revision": quota.revision,
        "deleted": quota.deleted,
    }


def moved_of(
    accounts: Sequence[AccountDifference], earned: Mapping[tuple[str, str], Decimal]
) -> Moved:
    """What differences of accounts move, by plan and period. earned: what all payees have there.

    On a statement on which something waited, only lines that were there before count: the others
    are what waited, and was nobody's pay yet.
    """
    moved: dict[tuple[str, str], PeriodMoved] = {}
    payees: set[str] = set()
    for account in accounts:
        for statement in account.periods:
            amount = abs(EXACT.subtract(statement.after, statement.before))
            if statement.waited:
                amount = _of_known_lines(account, statement.period)
            if not amount:
                continue
            payees.add(account.account.payee)
            place = (account.account.plan_id, statement.period)
            known = moved.get(place) or PeriodMoved(
                *place, statement.start, account.currency, earned.get(place, ZERO), ZERO
            )
            moved[place] = replace(known, moved=EXACT.add(known.moved, amount))
    return Moved([moved[place] for place in sorted(moved)], frozenset(payees))


def _of_known_lines(account: AccountDifference, period: str) -> Decimal:
    return exact_sum(
        abs(EXACT.subtract(line.after or ZERO, line.before))
        for line in account.lines
        if line.period == period and line.before is not None
    )


async def _earned(pool: Pool) -> dict[tuple[str, str], Decimal]:
    """(plan, period) → what all payees earn, as stored."""
    rows = await pool.fetch(
        "SELECT plan_id, period, sum(own) AS own FROM statement GROUP BY plan_id, period"
    )
    return {(row["plan_id"], row["period"]): row["own"] for row in rows}


def _first_day(facts: Sequence[Fact]) -> date:
    """No earlier day is touched: a rate holds from its day on, everything else may reach back."""
    if any(fact.kind.name != "rate" for fact in facts):
        return date.min
    return min(date.fromisoformat(fact.fields["day"]) for fact in facts)


async def _take(found: list[AccountDifference], accounts: Sequence[AccountDifference]) -> None:
    found.extend(account for account in accounts if account.changes)


async def _untold(_phase: str, _done: int, _total: int) -> None:
    return


@asynccontextmanager
async def _snapshot(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        yield tx
