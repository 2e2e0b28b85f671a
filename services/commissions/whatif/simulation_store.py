"""SQL of simulations: asked for, run by one worker at a time, kept for a while, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from services.commissions.store import canonical_json
from services.commissions.whatif.differences import AccountDifference, TierReached
from shared.errors import Refused
from shared.money import exact_sum, to_text

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

LEASE_S = 30
"""Who runs a simulation says so at least this often, or another worker begins it again."""

MOST_TRIES = 3
"""Begun so often and never ended: it is not begun again."""

RETENTION_DAYS = 30
"""Simulations are kept so long."""

MOST_QUEUED = 20
"""More than that wait for nobody."""

COLUMNS = (
    "simulation_id, name, state, request::text AS request, made_by, made_at, ended_at, phase, "
    "done, total, problem, result::text AS result"
)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulation as stored. request, result: JSON objects; result None until it is done."""

    id: str
    name: str
    state: str
    request: Mapping[str, Any]
    made_by: str
    made_at: datetime
    ended_at: datetime | None
    phase: str
    done: int
    total: int
    problem: str | None
    result: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> Simulation:
        """From a row of COLUMNS."""
        result = row["result"]
        return cls(
            row["simulation_id"],
            row["name"],
            row["state"],
            msgspec.json.decode(row["request"]),
            row["made_by"],
            row["made_at"],
            row["ended_at"],
            row["phase"],
            row["done"],
            row["total"],
            row["problem"],
            None if result is None else msgspec.json.decode(result),
        )


async def ask(  # noqa: PLR0913 - the columns
    tx: Connection,
    simulation_id: str,
    *,
    name: str,
    request: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> Simulation:
    """Queue a simulation. Raises Refused (429) while too many wait."""
    waiting = await tx.fetchval("SELECT count(*) FROM simulation WHERE state = 'queued'")
    if waiting >= MOST_QUEUED:
        msg = f"{waiting} simulations wait already; cancel one, or wait until one has run"
        raise Refused("too-busy", msg, status=429)
    row = await tx.fetch(
        "INSERT INTO simulation (simulation_id, name, state, request, made_by, made_at) "  # noqa: S608
        f"VALUES ($1, $2, 'queued', $3::text::json, $4, $5) RETURNING {COLUMNS}",
        simulation_id,
        name,
        canonical_json(request),
        actor,
        now,
    )
    return Simulation.of(row[0])


async def simulation_of(tx: Connection, simulation_id: str) -> Simulation:
    """Raises Refused (404)."""
    row = await tx.fetchrow(
        f"SELECT {COLUMNS} FROM simulation WHERE simulation_id = $1",  # noqa: S608 - constants
        simulation_id,
    )
    if row is None:
        raise Refused("not-found", "There is no such simulation.", status=404)
    return Simulation.of(row)


async def cancel(tx: Connection, simulation_id: str, now: datetime) -> Simulation:
    """End it before it is done; its worker notices within a chunk. Raises Refused."""
    row = await tx.fetchrow(
        "UPDATE simulation SET state = 'cancelled', worker = NULL, lease_until = NULL, "  # noqa: S608
        "ended_at = $2 WHERE simulation_id = $1 AND state IN ('queued', 'running') "
        f"RETURNING {COLUMNS}",
        simulation_id,
        now,
    )
    if row is None:
        found = await simulation_of(tx, simulation_id)
        if found.state == "cancelled":
            return found
        raise Refused("simulation-ended", f"The simulation is {found.state} already.")
    await tx.execute("DELETE FROM simulation_account WHERE simulation_id = $1", simulation_id)
    return Simulation.of(row)


async def remove(tx: Connection, simulation_id: str) -> None:
    """Forget it and what came out. Raises Refused (404)."""
    await simulation_of(tx, simulation_id)
    await tx.execute("DELETE FROM simulation WHERE simulation_id = $1", simulation_id)


async def prune(pool: Pool) -> None:
    """Forget old ones, and what a what-if that was killed has left."""
    await pool.execute(
        "DELETE FROM simulation WHERE state <> 'running' "
        "AND recorded_at < now() - make_interval(days => $1)",
        RETENTION_DAYS,
    )
    await pool.execute("DELETE FROM whatif_credit WHERE made_at < now() - interval '1 day'")


# ---- the worker's -----------------------------------------------------------------------------


async def claim(pool: Pool, worker: str) -> Simulation | None:
    """Begin the next one, or again one whose worker is gone. One runs at a time, of all workers."""
    try:
        row = await pool.fetchrow(
            "UPDATE simulation SET state = 'running', worker = $1, phase = 'credits', done = 0, "  # noqa: S608
            "total = 0, tried = tried + 1, lease_until = now() + make_interval(secs => $2) "
            "WHERE simulation_id = (SELECT simulation_id FROM simulation WHERE "
            "(state = 'running' AND lease_until < now()) OR (state = 'queued' AND NOT EXISTS "
            "(SELECT FROM simulation r WHERE r.state = 'running')) "
            "ORDER BY state = 'running' DESC, made_at, simulation_id LIMIT 1 "
            f"FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}, tried",
            worker,
            float(LEASE_S),
        )
    except asyncpg.UniqueViolationError:  # another worker began another one in this moment
        return None
    if row is None:
        return None
    found = Simulation.of(row)
    if row["tried"] > MOST_TRIES:
        await fail(pool, found.id, worker, f"it was begun {MOST_TRIES} times and never ended")
        return None
    await pool.execute("DELETE FROM simulation_account WHERE simulation_id = $1", found.id)
    return found


async def holds(  # noqa: PLR0913, PLR0917 - where it is
    tx: Connection | Pool, simulation_id: str, worker: str, phase: str, done: int, total: int
) -> bool:
    """Say how far it is, and that this worker runs it; False when it does not any more."""
    found = await tx.fetchval(
        "UPDATE simulation SET phase = $3, done = $4, total = $5, "
        "lease_until = now() + make_interval(secs => $6) "
        "WHERE simulation_id = $1 AND state = 'running' AND worker = $2 RETURNING true",
        simulation_id,
        worker,
        phase,
        done,
        total,
        float(LEASE_S),
    )
    return bool(found)


async def release(pool: Pool, simulation_id: str, worker: str) -> None:
    """Give it back: this process ends."""
    await pool.execute(
        "UPDATE simulation SET state = 'queued', worker = NULL, lease_until = NULL, "
        "tried = tried - 1 WHERE simulation_id = $1 AND state = 'running' AND worker = $2",
        simulation_id,
        worker,
    )


async def fail(pool: Pool, simulation_id: str, worker: str, problem: str) -> None:
    """It cannot be run: why."""
    await pool.execute(
        "UPDATE simulation SET state = 'failed', worker = NULL, lease_until = NULL, "
        "ended_at = now(), problem = $3 "
        "WHERE simulation_id = $1 AND state = 'running' AND worker = $2",
        simulation_id,
        worker,
        problem,
    )


async def finish(
    pool: Pool, simulation_id: str, worker: str, result: Mapping[str, Any], now: datetime
) -> None:
    """It is done; this is its summary."""
    await pool.execute(
        "UPDATE simulation SET state = 'done', worker = NULL, lease_until = NULL, "
        "ended_at = $4, result = $3::text::json, done = total "
        "WHERE simulation_id = $1 AND state = 'running' AND worker = $2",
        simulation_id,
        worker,
        canonical_json(result),
        now,
    )


async def add_accounts(
    tx: Connection, simulation_id: str, accounts: Sequence[AccountDifference]
) -> None:
    """Keep what came out for accounts."""
    await tx.execute(
        "INSERT INTO simulation_account (simulation_id, payee, plan_id, currency, before, after, "
        "crossings, periods, lines, tiers) SELECT $1, payee, plan_id, currency, before, after, "
        "crossings, periods::json, lines::json, tiers::json FROM unnest($2::text[], $3::text[], "
        "$4::text[], $5::numeric[], $6::numeric[], $7::bigint[], $8::text[], $9::text[], "
        "$10::text[]) AS n(payee, plan_id, currency, before, after, crossings, periods, lines, "
        "tiers)",
        simulation_id,
        [a.account.payee for a in accounts],
        [a.account.plan_id for a in accounts],
        [a.currency for a in accounts],
        [exact_sum(p.before for p in a.periods) for a in accounts],
        [exact_sum(p.after for p in a.periods) for a in accounts],
        [sum(tier.crosses for tier in a.tiers) for a in accounts],
        [canonical_json(_periods(a)) for a in accounts],
        [canonical_json(_lines(a)) for a in accounts],
        [canonical_json(_tiers(a)) for a in accounts],
    )


def _periods(account: AccountDifference) -> list[dict[str, object]]:
    return [
        {
            "period": said.period,
            "closed": said.closed,
            "before": to_text(said.before),
            "after": to_text(said.after),
            "payable_before": to_text(said.payable_before),
            "payable_after": to_text(said.payable_after),
        }
        for said in account.periods
    ]


def _lines(account: AccountDifference) -> list[dict[str, object]]:
    return [
        {
            "period": line.period,
            "key": line.key,
            "kind": line.kind,
            "component": line.component,
            "deal": line.deal,
            "before": None if line.before is None else to_text(line.before),
            "after": None if line.after is None else to_text(line.after),
        }
        for line in account.lines
    ]


def _tier(reached: TierReached | None) -> dict[str, object] | None:
    if reached is None:
        return None
    return {
        "tier": reached.place + 1,
        "begins_at": to_text(reached.begins_at),
        "rate": to_text(reached.rate),
    }


def _tiers(account: AccountDifference) -> list[dict[str, object]]:
    return [
        {
            "component": change.component,
            "measure": change.measure,
            "before": _tier(change.before),
            "after": _tier(change.after),
            "crosses": change.crosses,
        }
        for change in account.tiers
    ]
