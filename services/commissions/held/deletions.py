"""Deals that vanish after a close: what closes credited stays until two persons decided.

A deletion, and a merge into another deal, takes away what a deal gives to open periods. Its credits
in statements that closes fixed go on counting, and keep the next close open, until somebody decides
that they stay (`keep`) or go (`reverse`: the difference is then carried as any other). Which they
are is read off what closes fixed, never off what was stored when the deletion arrived: so the order
of facts after a close changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from services.commissions.domain.families import Days
from services.commissions.events import write_events
from services.commissions.store import canonical_json
from services.commissions.two_persons import check_second_person
from shared.clock import from_epoch_ms
from shared.errors import Refused
from shared.events.journals import HELD_DELETION, ClosedDaysData, HeldDeletionData
from shared.facts.marks import RootKey, Touched, add_marks
from shared.facts.record import Record

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

DELETED_AFTER_CLOSE = "deleted_after_close"
"""Kind of exception: a deal is gone whose credits a close fixed, and nobody decided yet."""

HeldState = Literal["open", "keep", "reverse"]
ENGINE = "engine"

HELD_IN = "contribution ->> 'held'"
"""Of a root's contribution: the state in which the deal was when it was last settled."""


@dataclass(frozen=True, slots=True)
class Held:
    """A deal that is gone, as far as closes credited it. days: where its credits go on counting."""

    state: HeldState
    days: Days

    @property
    def keeps(self) -> bool:
        """Whether its credits on `days` count."""
        return self.state != "reverse" and bool(self.days)


@dataclass(frozen=True, slots=True)
class HeldDeletion:
    """What was asked or decided about a deal that is gone."""

    deal_id: str
    number: int
    wanted: Literal["keep", "reverse"]
    reason: str
    days: Days
    asked_by: str
    asked_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None
    one_seat: bool
    superseded_at: datetime | None
    revision: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> HeldDeletion:
        """From a row of `held_deletion`."""
        found = {name: row[name] for name in cls.__slots__}
        return cls(**{**found, "days": read_days(row["days"])})


COLUMNS = ", ".join("days::text" if name == "days" else name for name in HeldDeletion.__slots__)


def read_days(text: str) -> Days:
    """From the column `days`."""
    return tuple(msgspec.json.decode(text, type=list[tuple[str, date, date]]))


def without_deletion(record: Record) -> Record:
    """A deal as it would be had nobody deleted it."""
    fields = {name: said for name, said in record.fields.items() if name != "deleted"}
    return Record(fields=fields, history=record.history)


# ---- what closes fixed ------------------------------------------------------------------------


async def note_fixed(tx: Connection, closed_with: str) -> None:
    """Remember, within a close, the deals with credits on the statements that it fixed."""
    await tx.execute(
        "INSERT INTO fixed_deal (deal_id, plan_id, period, start_day, end_day, closed_with) "
        "SELECT DISTINCT line ->> 'deal', f.plan_id, f.period, f.start_day, f.end_day, "
        "f.closed_with FROM fixed_statement f, json_array_elements(f.document -> 'lines') AS line "
        "WHERE f.closed_with = $1 AND line ->> 'kind' = 'credit' AND line ->> 'deal' <> '' "
        "ORDER BY 1, 2, 3",
        closed_with,
    )


async def forget_fixed(tx: Connection, closed_with: str) -> None:
    """A period is opened again: its statements are fixed no more, and held deals look again."""
    await tx.execute(
        "WITH gone AS (DELETE FROM fixed_deal WHERE closed_with = $1 "  # noqa: S608 - constants
        "RETURNING deal_id) "
        "INSERT INTO mark (kind, root_id, part) SELECT DISTINCT 'deal', r.id, '' FROM gone "
        f"JOIN root r ON r.kind = 'deal' AND r.id = gone.deal_id WHERE {HELD_IN} IS NOT NULL "
        "ORDER BY 2",
        closed_with,
    )


async def mark_gone(tx: Connection) -> None:
    """Mark every deal that a close fixed and that gives nothing, or only what is held."""
    await tx.execute(
        "INSERT INTO mark (kind, root_id, part) SELECT DISTINCT 'deal', r.id, '' FROM root r "  # noqa: S608 - constants
        "JOIN fixed_deal f ON f.deal_id = r.id WHERE r.kind = 'deal' "
        f"AND (r.contribution IS NULL OR {HELD_IN} IS NOT NULL) ORDER BY 2"
    )


async def fixed_days(tx: Connection, deal_ids: Collection[str]) -> dict[str, Days]:
    """Deal → the closed days on which closes credited it."""
    found: dict[str, list[tuple[str, date, date]]] = {}
    for row in await tx.fetch(
        "SELECT deal_id, plan_id, start_day, end_day FROM fixed_deal "
        "WHERE deal_id = ANY($1::text[]) ORDER BY deal_id, plan_id, start_day",
        sorted(deal_ids),
    ):
        deal_id, *days = row
        found.setdefault(deal_id, []).append((days[0], days[1], days[2]))
    return {deal_id: tuple(days) for deal_id, days in found.items()}


async def load_held(
    tx: Connection, gone: Collection[str], *, lock: bool = False
) -> dict[str, Held]:
    """Which of these deals, all of them deleted or merged away, closes had credited.

    lock: nobody closes or reopens until the transaction ends; a deletion that is settled while a
    close goes on is otherwise judged by what was closed before.
    """
    if lock:
        await tx.execute("SELECT FROM closed_until FOR SHARE")
    days = await fixed_days(tx, gone)
    held = {deal_id: Held("open", found) for deal_id, found in days.items()}
    for row in await tx.fetch(
        "SELECT DISTINCT ON (deal_id) deal_id, wanted, days::text AS days FROM held_deletion "
        "WHERE deal_id = ANY($1::text[]) AND confirmed_at IS NOT NULL AND superseded_at IS NULL "
        "ORDER BY deal_id, number DESC",
        sorted(gone),
    ):
        held[row["deal_id"]] = Held(row["wanted"], read_days(row["days"]))
    return held


# ---- what people decide -----------------------------------------------------------------------


async def ask_decision(  # noqa: PLR0913 - a decision, who wants it and why
    tx: Connection,
    deal_id: str,
    wanted: Literal["keep", "reverse"],
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> HeldDeletion:
    """Ask that the credits of a deal that is gone stay, or go. Nothing moves yet.

    Asked again before it is confirmed, the latest asker, wish and reason count.
    Raises Refused (409): the deal is not held, or this is decided already.
    """
    held = await _held_now(tx, deal_id)
    if held == wanted:
        msg = f"it is decided already: {wanted}; see what was decided of the deal"
        raise Refused("decided-already", msg)
    days = (await fixed_days(tx, [deal_id])).get(deal_id, ())
    row = await tx.fetchrow(
        f"""
        WITH last AS (
            SELECT coalesce(max(number) FILTER (WHERE confirmed_at IS NULL
                                                AND superseded_at IS NULL),
                            coalesce(max(number), 0) + 1) AS number
            FROM held_deletion WHERE deal_id = $1
        )
        INSERT INTO held_deletion AS h (deal_id, number, wanted, reason, days, asked_by, asked_at,
                                        revision)
        SELECT $1, number, $2, $3, $4::text::json, $5, $6, 1 FROM last
        ON CONFLICT (deal_id, number) DO UPDATE SET wanted = excluded.wanted,
            reason = excluded.reason, days = excluded.days, asked_by = excluded.asked_by,
            asked_at = excluded.asked_at, revision = h.revision + 1
        RETURNING {COLUMNS}
        """,  # noqa: S608 - constants
        deal_id,
        wanted,
        reason,
        canonical_json(days),
        actor,
        now,
    )
    return await _told(tx, row, actor, now)


async def confirm_decision(
    tx: Connection, deal_id: str, *, actor: str, now: datetime, one_seat: bool
) -> HeldDeletion:
    """Confirm what somebody else asked for. The deal is settled again; a reversal then moves pay.

    Raises Refused (409): nobody asked, the same person did, it is the actor's own pay, or the deal
    is not held any more.
    """
    await _held_now(tx, deal_id)
    asked = await tx.fetchrow(
        "SELECT number, asked_by FROM held_deletion WHERE deal_id = $1 AND confirmed_at IS NULL "
        "AND superseded_at IS NULL FOR UPDATE",
        deal_id,
    )
    if asked is None:
        msg = "nobody has asked for a decision about this deal; ask with a reason first"
        raise Refused("decision-not-asked", msg)
    check_second_person(
        maker=asked["asked_by"],
        checker=actor,
        is_own_pay=await is_paid_by(tx, deal_id, actor),
        of=f"what becomes of deal {deal_id}",
        one_seat=one_seat,
    )
    await _supersede(
        tx,
        await tx.fetch(
            "SELECT deal_id, number FROM held_deletion WHERE deal_id = $1 "
            "AND superseded_at IS NULL AND confirmed_at IS NOT NULL",
            deal_id,
        ),
        {deal_id: now},
        actor,
    )
    row = await tx.fetchrow(
        "UPDATE held_deletion SET confirmed_by = $3, confirmed_at = $4, "  # noqa: S608 - constants
        "one_seat = $5, revision = revision + 1 "
        f"WHERE deal_id = $1 AND number = $2 RETURNING {COLUMNS}",
        deal_id,
        asked["number"],
        actor,
        now,
        asked["asked_by"] == actor,
    )
    await add_marks(tx, [Touched(RootKey("deal", deal_id))])
    return await _told(tx, row, actor, now)


async def come_back(tx: Connection, records: Mapping[str, Record]) -> None:
    """Deals that were gone are there again: what was decided about them counts no more."""
    rows = await tx.fetch(
        "SELECT deal_id, number FROM held_deletion WHERE deal_id = ANY($1::text[]) "
        "AND superseded_at IS NULL ORDER BY deal_id, number FOR UPDATE",
        sorted(records),
    )
    if rows:
        at = {deal_id: _last_heard(record) for deal_id, record in records.items()}
        await _supersede(tx, rows, at, ENGINE)


async def is_paid_by(tx: Connection, deal_id: str, person: str) -> bool:
    """Whether somebody is, or was in a closed period, credited for a deal."""
    paid: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM credit WHERE deal_id = $1 AND payee = $2) OR EXISTS ("
        "SELECT FROM fixed_deal d JOIN fixed_statement f ON f.plan_id = d.plan_id "
        "AND f.period = d.period AND f.payee = $2, "
        "json_array_elements(f.document -> 'lines') AS line "
        "WHERE d.deal_id = $1 AND line ->> 'deal' = $1)",
        deal_id,
        person,
    )
    return paid


async def _held_now(tx: Connection, deal_id: str) -> str:
    """The state in which a deal is held, until the transaction ends. Raises Refused (409)."""
    held = await tx.fetchval(
        f"SELECT {HELD_IN} FROM root WHERE kind = 'deal' AND id = $1 FOR SHARE",  # noqa: S608 - constant
        deal_id,
    )
    if held is None:
        msg = (
            "no close credited this deal and then saw it deleted or merged away, "
            "or it is there again: there is nothing to decide"
        )
        raise Refused("nothing-to-decide", msg)
    return str(held)


async def _supersede(
    tx: Connection, rows: Iterable[asyncpg.Record], at: Mapping[str, datetime], actor: str
) -> None:
    for deal_id, number in rows:
        row = await tx.fetchrow(
            "UPDATE held_deletion SET superseded_at = $3, "  # noqa: S608 - constants
            f"revision = revision + 1 WHERE deal_id = $1 AND number = $2 RETURNING {COLUMNS}",
            deal_id,
            number,
            at[deal_id],
        )
        await _told(tx, row, actor, at[deal_id])


def _last_heard(record: Record) -> datetime:
    """When what is known of a deal's deletion and merge arrived: the core asks no clock."""
    said = [record.latest(name) for name in ("deleted", "merged_into")]
    return from_epoch_ms(max((s.recorded_ms for s in said if s is not None), default=0))


async def _told(
    tx: Connection, row: asyncpg.Record | None, actor: str, now: datetime
) -> HeldDeletion:
    """What is stored now, told to the journal."""
    if row is None:
        msg = "the row that was just written is missing"
        raise RuntimeError(msg)
    stored = HeldDeletion.of(row)
    told = held_deletion_data(stored, actor)
    subject = f"held_deletion/{stored.deal_id}/{stored.number}"
    await write_events(tx, HELD_DELETION, [(subject, stored.revision, told)], now)
    return stored


def held_deletion_data(stored: HeldDeletion, actor: str) -> HeldDeletionData:
    """The event that tells what was asked or decided."""
    return HeldDeletionData(
        deal=stored.deal_id,
        number=stored.number,
        decision=stored.wanted,
        state=_state(stored),
        reason=stored.reason,
        days=[
            ClosedDaysData(plan=plan, start=start.isoformat(), end=end.isoformat())
            for plan, start, end in stored.days
        ],
        asked_by=stored.asked_by,
        confirmed_by=stored.confirmed_by,
        one_seat=stored.one_seat,
        revision=stored.revision,
        actor=actor,
    )


def _state(stored: HeldDeletion) -> Literal["asked", "confirmed", "superseded"]:
    if stored.superseded_at is not None:
        return "superseded"
    return "asked" if stored.confirmed_at is None else "confirmed"


async def load_decisions(tx: Connection, deal_ids: Sequence[str]) -> dict[str, list[HeldDeletion]]:
    """Deal → everything that was ever asked or decided, the oldest first."""
    found: dict[str, list[HeldDeletion]] = {}
    for row in await tx.fetch(
        f"SELECT {COLUMNS} FROM held_deletion WHERE deal_id = ANY($1::text[]) "  # noqa: S608
        "ORDER BY deal_id, number",
        list(deal_ids),
    ):
        found.setdefault(row["deal_id"], []).append(HeldDeletion.of(row))
    return found


SHARE = """
    WITH held AS (SELECT DISTINCT deal_id FROM credit_exception WHERE kind = $1),
    places AS (SELECT DISTINCT plan_id, period FROM fixed_deal JOIN held USING (deal_id)),
    fixed AS (SELECT plan_id, period, own, document FROM fixed_statement
              JOIN places USING (plan_id, period)),
    paid AS (SELECT plan_id, period, sum(abs(own)) AS own FROM fixed GROUP BY plan_id, period),
    taken AS (
        SELECT f.plan_id, f.period, sum(abs((line ->> 'amount')::numeric)) AS amount
        FROM fixed f, json_array_elements(f.document -> 'lines') AS line
        JOIN held h ON h.deal_id = line ->> 'deal' GROUP BY f.plan_id, f.period
    )
    SELECT max(amount / nullif(own, 0)) FROM taken JOIN paid USING (plan_id, period)
"""
"""Of each plan and closed period: lines of deals that are held, by all that was earned."""


@dataclass(frozen=True, slots=True)
class DeletionWatch:
    """Shows how much of a closed period's pay waits for somebody to decide about deletions."""

    pool: Pool
    telemetry: Telemetry

    async def look(self) -> None:
        """Once."""
        share = await self.pool.fetchval(SHARE, DELETED_AFTER_CLOSE)
        self.telemetry.held_deletions_share.set(float(share or 0))
