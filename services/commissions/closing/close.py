"""Closing a period: wait for all facts, then fix its statements, for ever, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.commissions.closing.checklist import Item, is_quiet, open_items
from services.commissions.closing.periods import (
    StoredPeriod,
    check_approver,
    figures_hash,
    save_period,
    submitted_period,
)
from services.commissions.domain.explain import explain_statement
from services.commissions.domain.periods import Period
from services.commissions.drift import checked
from services.commissions.events import write_events
from services.commissions.held.deletions import note_fixed
from services.commissions.rating import AccountOutcome
from services.commissions.reference import ReferenceCache
from services.commissions.settings import CommissionsSettings
from services.commissions.sources import GROUP, TOPICS
from services.commissions.store import AccountKey, canonical_json
from shared.errors import Refused
from shared.events.journals import STATEMENT, FixedData, StatementData
from shared.kafka.clients import stop_quietly
from shared.kafka.security import client_options
from shared.money import to_text
from shared.runtime.failpoints import failpoint

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

POLL_S = 0.05
BROKER_TIMEOUT_S = 5.0

StatementKey = tuple[str, str, str]
"""Payee, plan, period."""


class OpenItems(Refused):
    """A period cannot be closed while something is open."""

    def __init__(self, items: Sequence[Item]) -> None:
        msg = f"{len(items)} matter(s) are open; see errors, and the period's checklist"
        super().__init__("period-has-open-items", msg)
        self.items = items


class NotReady(Refused):
    """Facts are still on their way. Nothing has happened; try again."""

    def __init__(self, message: str) -> None:
        super().__init__("close-not-ready", message, status=503)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is to be fixed: its version, and its explanation as JSON text."""

    version: int
    explanation: str


async def close_period(  # noqa: PLR0913 - a use case and what it works with
    pool: Pool,
    settings: CommissionsSettings,
    cache: ReferenceCache,
    *,
    period: Period,
    actor: str,
    now: datetime,
) -> StoredPeriod:
    """Close an approved period, or approve and close a submitted one at once.

    Raises Refused: 409 when it is not submitted, not approved by a second person, out of order,
    while something is open (OpenItems), or when figures changed since they were approved; 503
    (NotReady) while facts are still on their way.
    """
    deadline = asyncio.get_running_loop().time() + settings.close_wait_s
    await _check(pool, settings, period, actor)
    ends = await log_ends(settings.kafka, settings.topic_prefix)
    while True:
        await _wait(pool, ends, period.end, deadline)
        await failpoint("close.waited")
        prepared = await _prepare(pool, cache, period)
        if prepared is not None:
            try:
                async with pool.acquire() as tx, tx.transaction():
                    closed = await _fix(tx, settings, period, prepared, actor=actor, now=now)
            except asyncpg.LockNotAvailableError:
                closed = None
            if closed is not None:
                return closed
        if asyncio.get_running_loop().time() > deadline:
            msg = "statements kept changing while they were to be fixed; try again"
            raise NotReady(msg)
        await asyncio.sleep(POLL_S)


async def log_ends(bootstrap: str, topic_prefix: str) -> dict[tuple[str, int], int]:
    """(topic without prefix, partition) → end of the log, now. Raises NotReady without a broker."""
    names = [topic_prefix + topic for topic in TOPICS]
    # Named here and not assigned later: a consumer knows the partitions of its own topics only.
    consumer = AIOKafkaConsumer(
        *names,
        **client_options(bootstrap),
        client_id="commissions-close",
        enable_auto_commit=False,
    )
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            await consumer.start()
            found = {name: consumer.partitions_for_topic(name) for name in names}
            if not all(found.values()):
                msg = "the broker does not know all topics; start the consumer first"
                raise NotReady(msg)
            partitions = [
                TopicPartition(name, number)
                for name in names
                for number in sorted(found[name] or ())
            ]
            ends = await consumer.end_offsets(partitions)
    except (KafkaError, OSError, TimeoutError) as error:
        msg = "the broker does not answer, so it is not known which facts are on their way"
        raise NotReady(msg) from error
    finally:
        await stop_quietly(consumer)
    return {(tp.topic.removeprefix(topic_prefix), tp.partition): end for tp, end in ends.items()}


async def _wait(
    pool: Pool, ends: Mapping[tuple[str, int], int], end_day: date, deadline: float
) -> None:
    """Until the consumer has passed `ends`, knows that the period has begun, and is settled.

    Raises NotReady.
    """
    while not (
        await _has_passed(pool, ends)
        and await pool.fetchval("SELECT day FROM begun_until") >= end_day
        and await is_quiet(pool)
    ):
        if asyncio.get_running_loop().time() > deadline:
            msg = "facts are still being worked in; try again in a moment"
            raise NotReady(msg)
        await asyncio.sleep(POLL_S)


async def _has_passed(pool: Pool, ends: Mapping[tuple[str, int], int]) -> bool:
    rows = await pool.fetch(
        "SELECT topic, partition, next_offset FROM consumer_offset WHERE consumer_group = $1", GROUP
    )
    read = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    return all(end == 0 or read.get(place, -1) >= end for place, end in ends.items())


async def _check(
    tx: Connection | Pool, settings: CommissionsSettings, period: Period, actor: str
) -> StoredPeriod:
    stored = await submitted_period(tx, period)
    closed_until: date = await tx.fetchval("SELECT day FROM closed_until")
    if period.end <= closed_until:
        msg = f"everything until {closed_until} is closed already"
        raise Refused("period-closed", msg)
    earlier = await tx.fetchval(
        "SELECT period FROM statement WHERE end_day > $1 AND end_day <= $2 "
        "ORDER BY end_day LIMIT 1",
        closed_until,
        period.start,
    )
    if earlier is not None:
        msg = f"period {earlier} is still open and comes first; close it before"
        raise Refused("earlier-period-open", msg)
    if stored.state == "reviewing":
        await check_approver(tx, stored, period, actor, one_seat=settings.one_seat)
    elif stored.approved_hash != await figures_hash(tx, period):
        msg = f"the figures of {period.label} have changed since {stored.approved_by} approved them"
        raise Refused("period-changed", f"{msg}; have them approved again")
    return stored


async def _prepare(
    pool: Pool, cache: ReferenceCache, period: Period
) -> dict[StatementKey, Prepared] | None:
    """Explain every statement that is to be fixed; None where one is not settled after all.

    Each account is rated again from all its credits, as the ledger's watch does it in turn. Raises
    OpenItems where anything differs by a cent from what is stored or posted. Done before anything
    is locked: it takes as long as rating everybody once.
    """
    prepared: dict[StatementKey, Prepared] = {}
    async with pool.acquire() as tx, tx.transaction(isolation="repeatable_read", readonly=True):
        reference = await cache.at(tx)
        if items := await open_items(tx, period.end):
            raise OpenItems(items)
        rows: dict[str, list[asyncpg.Record]] = {}
        years: dict[str, set[str]] = {}
        # What is posted without a statement would be fixed as well.
        for row in await tx.fetch(
            "SELECT payee, plan_id, period, start_day, version FROM statement "
            "WHERE end_day <= $1 AND end_day > (SELECT day FROM closed_until) UNION "
            "SELECT payee, plan_id, period, start_day, NULL FROM posting "
            "WHERE end_day <= $1 AND end_day > (SELECT day FROM closed_until) "
            "ORDER BY payee, plan_id, start_day, version",
            period.end,
        ):
            root_id = AccountKey(row["payee"], row["plan_id"]).root_id
            years.setdefault(root_id, set()).add(reference.year_of(row["start_day"]).label)
            if row["version"] is not None:
                rows.setdefault(root_id, []).append(row)
        wanted = {root_id: frozenset(labels) for root_id, labels in years.items()}
        drifting: list[Item] = []
        async for outcome in checked(tx, wanted, reference):
            if outcome.differs:
                drifting.append(_drift(outcome))
                continue
            for row in rows.get(outcome.account.root_id, ()):
                tree = _explained(outcome, row["period"])
                if tree is None:
                    return None
                prepared[*outcome.account, row["period"]] = Prepared(row["version"], tree)
        if drifting:
            raise OpenItems(drifting)
    return prepared


def _explained(outcome: AccountOutcome, period: str) -> str | None:
    """The explanation of a statement as JSON text; None where nothing makes it."""
    for sheet in outcome.sheets:
        if (statement := sheet.statement(period)) is not None:
            return canonical_json(explain_statement(statement, sheet.rater))
    return None


def _drift(outcome: AccountOutcome) -> Item:
    """An account that is stored, or posted, otherwise than rating it again gives."""
    account = outcome.account
    periods = {write.period for write in outcome.writes} | set(outcome.gone)
    periods |= {posting.place.period for posting in outcome.postings}
    message = (
        f"the ledger or the statements of {account.payee} under {account.plan_id} differ from "
        f"rating them again ({', '.join(sorted(periods))}); see the runbook of AttainLedgerDrift"
    )
    return Item("ledger_drift", None, account.payee, account.plan_id, min(periods), message)


async def _fix(  # noqa: PLR0913 - a use case and what it works with
    tx: Connection,
    settings: CommissionsSettings,
    period: Period,
    prepared: Mapping[StatementKey, Prepared],
    *,
    actor: str,
    now: datetime,
) -> StoredPeriod | None:
    """Fix what was prepared; None when a statement changed meanwhile."""
    # From here to the commit nothing is rated: whoever rates holds this row FOR SHARE.
    closed_until: date = await tx.fetchval("SELECT day FROM closed_until FOR UPDATE")
    await tx.execute("SELECT FROM period WHERE period = $1 FOR UPDATE", period.label)
    await failpoint("close.locked")
    stored = await _check(tx, settings, period, actor)
    rows = await tx.fetch(
        "SELECT *, document::text AS text FROM statement "
        "WHERE end_day <= $1 AND end_day > $2 ORDER BY payee, plan_id, start_day",
        period.end,
        closed_until,
    )
    found = {(row["payee"], row["plan_id"], row["period"]): row["version"] for row in rows}
    if found != {key: entry.version for key, entry in prepared.items()}:
        return None
    if stored.state == "reviewing":
        stored = stored.approved(actor, now, await figures_hash(tx, period))
    closed = stored.closed(actor, now)
    await save_period(tx, closed, actor, now, statements=_fixed_data(rows))
    await _store_fixed(tx, rows, prepared, closed)
    await note_fixed(tx, closed.period)
    await tx.execute("UPDATE closed_until SET day = $1", period.end)
    # Every account is rated again: what changes from now on lands in its first open period.
    await tx.execute(
        "INSERT INTO mark (kind, root_id, part) SELECT kind, id, '' FROM root "
        "WHERE kind = 'account' ORDER BY id"
    )
    await _tell(tx, rows, closed, now)
    return closed


def _fixed_document(row: asyncpg.Record, closed: StoredPeriod) -> str:
    document = msgspec.json.decode(row["text"])
    return canonical_json(
        {
            **document,
            "state": "closed",
            "closed_with": closed.period,
            "one_seat": closed.one_seat,
        }
    )


async def _store_fixed(
    tx: Connection,
    rows: Sequence[asyncpg.Record],
    prepared: Mapping[StatementKey, Prepared],
    closed: StoredPeriod,
) -> None:
    await tx.executemany(
        "INSERT INTO fixed_statement (payee, plan_id, period, start_day, end_day, currency, own, "
        "difference, carry_in, carry_out, payable, payout_currency, payout_amount, hash, "
        "closed_with, document, explanation, draw_in, draw_out, held_pay) VALUES ($1, $2, $3, $4, "
        "$5, $6, $7, $8, $9::text::numeric, $10, $11, $12, $13, $14, $15, $16::text::json, "
        "$17::text::json, $18::text::numeric, $19, $20)",
        [
            (
                row["payee"],
                row["plan_id"],
                row["period"],
                row["start_day"],
                row["end_day"],
                row["currency"],
                row["own"],
                row["difference"],
                msgspec.json.decode(row["text"])["carry_in"],
                row["carry_out"],
                row["payable"],
                row["payout_currency"],
                row["payout_amount"],
                row["hash"],
                closed.period,
                _fixed_document(row, closed),
                prepared[row["payee"], row["plan_id"], row["period"]].explanation,
                _draw_in(row),
                row["draw_balance"],
                row["held_pay"],
            )
            for row in rows
        ],
    )


def _draw_in(row: asyncpg.Record) -> str:
    """What a recoverable draw had to get back before the statement."""
    draw: dict[str, str] | None = msgspec.json.decode(row["text"])["draw"]
    return "0" if draw is None else draw["balance_in"]


def _fixed_data(rows: Sequence[asyncpg.Record]) -> list[FixedData]:
    """What the close says of each statement that it fixes."""
    return [
        FixedData(
            payee=row["payee"],
            plan=row["plan_id"],
            period=row["period"],
            hash=row["hash"],
            payable=to_text(row["payable"]),
            currency=row["currency"],
        )
        for row in rows
    ]


async def _tell(
    tx: Connection, rows: Sequence[asyncpg.Record], closed: StoredPeriod, now: datetime
) -> None:
    """Each statement to whoever follows them; fixed again after a reopening, as a new revision."""
    statements = [
        (
            f"statement/{row['payee']}|{row['plan_id']}|{row['period']}",
            closed.revision,
            StatementData(
                statement=msgspec.json.decode(_fixed_document(row, closed)),
                closed_with=closed.period,
            ),
        )
        for row in rows
    ]
    await write_events(tx, STATEMENT, statements, now)
