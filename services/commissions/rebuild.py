"""Rebuild: everything derived is made anew from the topics, beside what is in use, and swapped in.

It works on a connection of its own whose temporary tables stand in front of the live ones, so that
the very same handler and SQL fill them. Readers and consumers go on meanwhile; the swap is one
transaction in which both have read exactly the same facts. The ledger is only ever added to: what
comes out otherwise than before is posted as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.commissions import store
from services.commissions.agreements.agreed import mark_adjusted
from services.commissions.begun import add_activity_roots, mark_uncredited
from services.commissions.closing.close import log_ends
from services.commissions.consumer import SUBSCRIPTION
from services.commissions.domain.ledger import Account, Cause, Place, Posting, transaction
from services.commissions.handlers import asks_for_activities, handler_for
from services.commissions.held.changes import not_counting
from services.commissions.held.deletions import mark_gone
from services.commissions.projector import CommissionsProjector
from services.commissions.settings import CommissionsSettings
from services.commissions.sources import GROUP, TOPICS
from services.commissions.store import AccountKey, Entry
from shared.db.pool import create_pool
from shared.errors import InvalidValue, Misconfigured
from shared.events.envelope import decode
from shared.facts.marks import RootKey, Touched, count_marks, marked_roots
from shared.facts.settle import Settler
from shared.ids import derived_id
from shared.kafka.clients import stop_quietly
from shared.kafka.security import client_options
from shared.runtime.consume import Message
from shared.runtime.service import Parts

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from shared.db.pool import Connection

DERIVED = (
    "record",
    "root",
    "quota_target",
    "kpi_fact",
    "objective_score",
    "credit",
    "budget_grant",
    "credit_exception",
    "statement",
)
"""Tables that are exchanged. Marks are not: afterwards nothing waits."""

SHADOWED = (*DERIVED, "mark", "posting", "ledger_transaction", "outbox", "reference_version")
"""Tables of which the rebuild has its own: postings are compared, events are not sent again."""

COMPARED: Mapping[str, str] = {
    "credit": "deal_id || ' ' || key, document::text",
    "budget_grant": "concat_ws(' ', plan_id, component_id, key), "
    "concat_ws(' ', trim_scale(asked), trim_scale(granted), trim_scale(spent_before))",
    "credit_exception": "concat_ws(' ', deal_id, kind, event_key, plan_id, component_id, payee), "
    "message",
    "statement": "concat_ws(' ', payee, plan_id, period), document::text",
}
"""Tables whose content is compared before it is exchanged: key, content."""

BATCH_RECORDS = 5_000
NEAR_RECORDS = 500
SETTLE_LIMIT = 500
SHOWN = 100
ACTOR = "rebuild"

log = structlog.get_logger()

Positions = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Report:
    """What a rebuild found: facts read, what came out otherwise, transactions posted for it."""

    facts: int
    differing: Sequence[str]
    posted: int


async def rebuild(parts: Parts[CommissionsSettings]) -> None:
    """`python -m services.commissions rebuild`."""
    report = await rebuild_all(parts.settings)
    for place in report.differing[:SHOWN]:
        log.warning("rebuild.differs", place=place)
    log.info(
        "rebuild.done",
        facts=report.facts,
        differing=len(report.differing),
        transactions=report.posted,
    )


async def rebuild_all(settings: CommissionsSettings) -> Report:
    """Rebuild and swap; what came out otherwise is in the report, and in use from now on."""
    # A connection of its own: statements prepared before would not see the temporary tables.
    pool = await create_pool(
        settings.database_url.get_secret_value(),
        schema="commissions",
        name="commissions-rebuild",
        max_size=1,
    )
    try:
        async with pool.acquire() as connection:
            await connection.execute("SET statement_timeout = 0")
            await connection.execute("SET idle_in_transaction_session_timeout = 0")
            version = await _shadow(connection)
            reader = _Reader(settings, connection)
            try:
                await reader.start()
                await reader.catch_up()
                return await _swap(connection, reader, version)
            finally:
                await reader.stop()
    finally:
        await pool.close()


async def _shadow(connection: Connection) -> int:
    """Temporary tables in front of the live ones; the live version of reference data."""
    try:
        for table in SHADOWED:
            await connection.execute(
                f"CREATE TEMPORARY TABLE {table} (LIKE commissions.{table} INCLUDING ALL)"
            )
    except asyncpg.InsufficientPrivilegeError:
        msg = (
            "a rebuild works in temporary tables: "
            "GRANT TEMPORARY ON DATABASE to the role of this service"
        )
        raise Misconfigured(msg) from None
    await connection.execute(
        "INSERT INTO reference_version SELECT * FROM commissions.reference_version"
    )
    version: int = await connection.fetchval("SELECT version FROM reference_version")
    return version


class _Reader:
    """Reads every topic from its beginning into the temporary tables."""

    def __init__(self, settings: CommissionsSettings, connection: Connection) -> None:
        self._settings = settings
        self._connection = connection
        self._projector = CommissionsProjector(live=False)
        self._handle = handler_for(self._projector)
        self._consumer = AIOKafkaConsumer(
            **client_options(settings.kafka),
            client_id="commissions-rebuild",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        self._read: dict[tuple[str, int], int] = {}
        self._aside: dict[str, Message] = {}
        self.facts = 0

    async def start(self) -> None:
        """Begin at the beginning of every log."""
        await self._consumer.start()
        prefix = self._settings.topic_prefix
        places = await log_ends(self._settings.kafka, prefix)
        partitions = {place: TopicPartition(prefix + place[0], place[1]) for place in places}
        self._consumer.assign(list(partitions.values()))
        starts = await self._consumer.beginning_offsets(list(partitions.values()))
        for place, partition in partitions.items():
            self._consumer.seek(partition, starts[partition])
            self._read[place] = starts[partition]

    async def stop(self) -> None:
        """Leave the broker."""
        await stop_quietly(self._consumer)

    async def catch_up(self) -> None:
        """Read until nearly everything is read, and settle it."""
        while True:
            ends = await self._consumed()
            missing = sum(max(0, end - self._read.get(place, 0)) for place, end in ends.items())
            if missing <= NEAR_RECORDS:
                break
            await self.read_to(ends)
        await self.settle_all()

    async def _consumed(self) -> Positions:
        """What the live consumers have read: what they put aside is known until there."""
        rows = await self._connection.fetch(
            "SELECT topic, partition, next_offset FROM consumer_offset WHERE consumer_group = $1",
            GROUP,
        )
        return {
            (row["topic"], row["partition"]): row["next_offset"]
            for row in rows
            if row["topic"] in TOPICS and row["next_offset"] > 0
        }

    async def read_to(self, ends: Positions) -> None:
        """Read each partition up to a position, and not beyond."""
        while any(self._read.get(place, 0) < end for place, end in ends.items()):
            polled = await self._consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
            messages: list[Message] = []
            for partition, records in polled.items():
                topic = partition.topic.removeprefix(self._settings.topic_prefix)
                place = (topic, partition.partition)
                end = ends.get(place, 0)
                wanted = [record for record in records if record.offset < end]
                messages += [m for r in wanted if (m := _message(topic, r)) is not None]
                if len(wanted) == len(records):
                    self._read[place] = await self._consumer.position(partition)
                else:
                    self._read[place] = max(self._read[place], end)
                    self._consumer.seek(partition, self._read[place])
            if messages:
                self.facts += len(messages)
                async with self._connection.transaction():
                    await self._handle(self._connection, await self._counting(messages))

    async def _counting(self, messages: Sequence[Message]) -> list[Message]:
        """Without changes that are held, or were discarded."""
        aside = await not_counting(self._connection, messages)
        self._aside |= aside
        return [message for message in messages if message.envelope.id not in aside]

    async def take_released(self) -> None:
        """Changes that were let count while this went on."""
        messages, self._aside = list(self._aside.values()), {}
        if counting := await self._counting(messages):
            await self._handle(self._connection, counting)

    async def settle_all(self) -> None:
        """Settle every mark, and every root that older reference data made."""
        more = True
        while more:
            async with self._connection.transaction():
                more = await self._settle_some()

    async def settle_anew(self) -> None:
        """Settle everything: plans or closes have changed since this began."""
        if await asks_for_activities(self._connection):
            await add_activity_roots(self._connection)
        await self._connection.execute("UPDATE reference_version SET version = version + 1")
        await self.settle_all()

    async def _settle_some(self) -> bool:
        tx = self._connection
        # Anew each time: what was remembered may be of a transaction that was rolled back.
        settler = Settler(self._projector)
        for kind in self._projector.kinds:
            if ids := await marked_roots(tx, kind, SETTLE_LIMIT):
                await settler.settle(tx, [Touched(RootKey(kind, i)) for i in ids])
                return True
        rows = await tx.fetch(
            "SELECT kind, id FROM root "
            "WHERE reference_version < (SELECT version FROM reference_version) LIMIT $1",
            SETTLE_LIMIT,
        )
        await settler.settle(tx, [Touched(RootKey(row["kind"], row["id"])) for row in rows])
        return bool(rows) or await count_marks(tx) > 0


def _message(topic: str, record: ConsumerRecord) -> Message | None:
    """A readable event; what cannot be read is a dead letter already, and stays one."""
    try:
        envelope = decode(record.value or b"")
        reader = SUBSCRIPTION.readers.get(envelope.type)
        if reader is None:
            return None
        return Message(topic, record.partition, record.offset, envelope, reader(envelope))
    except InvalidValue:
        return None


async def _swap(connection: Connection, reader: _Reader, version: int) -> Report:
    """Stop everybody for a moment, read what is missing, and exchange the tables."""
    async with connection.transaction():
        # Whoever consumes waits here, whoever settles at the version, whoever closes at the day.
        await connection.execute("SET LOCAL lock_timeout = '30s'")
        rows = await connection.fetch(
            "SELECT topic, partition, next_offset FROM consumer_offset "
            "WHERE consumer_group = $1 ORDER BY topic, partition FOR UPDATE",
            GROUP,
        )
        live: int = await connection.fetchval(
            "SELECT version FROM commissions.reference_version FOR UPDATE"
        )
        await connection.execute("SELECT FROM closed_until FOR UPDATE")
        await reader.read_to(
            {
                (row["topic"], row["partition"]): row["next_offset"]
                for row in rows
                if row["topic"] in TOPICS and row["next_offset"] > 0
            }
        )
        await reader.take_released()
        if live != version:
            await reader.settle_anew()
        # A close that happened meanwhile changes what every account is given, and what is kept of
        # deals that are gone.
        await mark_gone(connection)
        await connection.execute(
            "INSERT INTO mark (kind, root_id, part) SELECT kind, id, '' FROM root "
            "WHERE kind = 'account'"
        )
        await mark_uncredited(connection)
        await mark_adjusted(connection)
        await reader.settle_all()
        differing = await _differing(connection)
        postings = await _missing_postings(connection)
        for table in ("posting", "ledger_transaction", "outbox", "reference_version"):
            await connection.execute(f"DROP TABLE pg_temp.{table}")
        posted = await _post(connection, postings)
        await _exchange(connection, live)
    return Report(reader.facts, differing, posted)


async def _differing(connection: Connection) -> list[str]:
    """What is otherwise than in the live tables, each as `table: key`."""
    found = []
    for table, columns in COMPARED.items():
        mine = f"SELECT {columns} FROM pg_temp.{table}"  # noqa: S608 - constants
        live = f"SELECT {columns} FROM commissions.{table}"  # noqa: S608 - constants
        rows = await connection.fetch(
            f"SELECT DISTINCT d.key FROM (({mine} EXCEPT {live}) UNION ALL "  # noqa: S608 - constants
            f"({live} EXCEPT {mine})) AS d(key, content) ORDER BY d.key"
        )
        found += [f"{table}: {row['key']}" for row in rows]
    return found


async def _missing_postings(connection: Connection) -> list[asyncpg.Record]:
    """What open periods would hold, less what they hold, by place."""
    return await connection.fetch(
        """
        SELECT account, payee, plan_id, period, line_key, currency, sum(amount) AS amount,
               start_day, end_day
        FROM (
            SELECT account, payee, plan_id, period, line_key, currency, amount, start_day, end_day
            FROM pg_temp.posting
            UNION ALL
            SELECT account, payee, plan_id, period, line_key, currency, -amount, start_day, end_day
            FROM commissions.posting
        ) p
        WHERE end_day > (SELECT day FROM closed_until)
        GROUP BY account, payee, plan_id, period, line_key, currency, start_day, end_day
        HAVING sum(amount) <> 0
        """
    )


async def _post(connection: Connection, rows: Sequence[asyncpg.Record]) -> int:
    """Post the differences, one transaction an account; how many."""
    by_account: dict[AccountKey, list[asyncpg.Record]] = {}
    for row in rows:
        by_account.setdefault(AccountKey(row["payee"], row["plan_id"]), []).append(row)
    numbers = await store.last_numbers(connection, list(by_account))
    entries = []
    for account, found in by_account.items():
        made = transaction(
            Cause((), "", ACTOR),
            [
                Posting(
                    Place(
                        Account(row["account"]),
                        *account,
                        row["period"],
                        row["line_key"],
                        row["currency"],
                    ),
                    row["amount"],
                )
                for row in found
            ],
        )
        number = numbers[account] + 1
        days = {row["period"]: (row["start_day"], row["end_day"]) for row in found}
        identity = derived_id(made.id, account.root_id, str(number))
        entries.append(Entry(account, number, identity, made, days))
    await store.write_entries(connection, entries)
    return len(entries)


async def _exchange(connection: Connection, version: int) -> None:
    """Put the temporary tables' rows in place of the live ones. Nothing waits afterwards."""
    await connection.execute("UPDATE pg_temp.root SET reference_version = $1", version)
    for table in DERIVED:
        await connection.execute(f"DELETE FROM commissions.{table}")  # noqa: S608 - constants
        await connection.execute(
            f"INSERT INTO commissions.{table} SELECT * FROM pg_temp.{table}"  # noqa: S608 - constants
        )
    await connection.execute("DELETE FROM commissions.mark")
