"""SQL of what metrics publishes and pay depends on: quotas, KPIs, scores of objectives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from services.commissions.domain.activities import scored
from services.commissions.domain.given import KpiFact
from services.commissions.needs import kpi_need
from services.commissions.store import AccountKey
from shared.clock import parse_instant
from shared.money import quantise

if TYPE_CHECKING:
    import asyncpg

    from services.commissions.domain.credit import CreditEvent
    from shared.db.pool import Connection
    from shared.events.targets import KpiData, ObjectiveScoreData, QuotaData


class ScoreKey(NamedTuple):
    """Which score. As a root's id: `<person>/<objective>/<period>`; no part holds a `/`."""

    person: str
    objective: str
    period: str

    @property
    def root_id(self) -> str:
        """The root's id."""
        return "/".join(self)

    @classmethod
    def of(cls, root_id: str) -> ScoreKey:
        """The inverse of `root_id`."""
        return cls(*root_id.split("/"))


async def fold_quotas(tx: Connection, said: Mapping[str, QuotaData]) -> list[tuple[str, date]]:
    """Keep the greatest revision of each quota; (person, first day) of all that changed."""
    rows = await tx.fetch(
        """
        WITH said AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::date[],
                                 $6::numeric[], $7::text[], $8::bigint[], $9::boolean[])
                AS s(quota_id, person, measure, start_day, end_day, amount, currency, revision,
                     deleted)
        ), before AS (
            SELECT q.quota_id, q.person, q.start_day FROM quota_target q JOIN said USING (quota_id)
            WHERE said.revision > q.revision
        ), kept AS (
            INSERT INTO quota_target AS q (quota_id, person, measure, start_day, end_day, amount,
                                           currency, revision, deleted)
            SELECT * FROM said ORDER BY quota_id
            ON CONFLICT (quota_id) DO UPDATE SET
                person = excluded.person, measure = excluded.measure,
                start_day = excluded.start_day, end_day = excluded.end_day,
                amount = excluded.amount, currency = excluded.currency,
                revision = excluded.revision, deleted = excluded.deleted
            WHERE excluded.revision > q.revision
            RETURNING q.person, q.start_day
        )
        SELECT person, start_day FROM before UNION SELECT person, start_day FROM kept
        """,
        list(said),
        [q.person for q in said.values()],
        [q.measure for q in said.values()],
        [date.fromisoformat(q.start) for q in said.values()],
        [date.fromisoformat(q.end) for q in said.values()],
        [Decimal(q.amount) for q in said.values()],
        [q.currency for q in said.values()],
        [q.revision for q in said.values()],
        [q.deleted for q in said.values()],
    )
    return [(row["person"], row["start_day"]) for row in rows if row["person"] is not None]


async def accounts_of(tx: Connection, payees: Sequence[str]) -> list[AccountKey]:
    """Accounts of people: those there are, and those their assignments may make.

    Holds the version of reference data, so that no assignment appears unseen.
    """
    await tx.execute("SELECT FROM reference_version FOR SHARE")
    rows = await tx.fetch(
        "SELECT payee || '|' || plan_id AS id FROM assignment "
        "WHERE payee = ANY($1::text[]) AND NOT deleted "
        "UNION SELECT r.id FROM unnest($1::text[]) AS p(payee) JOIN root r ON r.kind = 'account' "
        "AND r.id >= p.payee || '|' AND r.id < p.payee || '}' ",
        list(payees),
    )
    return sorted(AccountKey.of(row["id"]) for row in rows)


async def load_quotas(tx: Connection, payees: Sequence[str]) -> dict[str, list[asyncpg.Record]]:
    """Payee → their quotas in the order of ids."""
    found: dict[str, list[asyncpg.Record]] = {}
    for row in await tx.fetch(
        "SELECT person, measure, start_day, end_day, amount, currency FROM quota_target "
        "WHERE person = ANY($1::text[]) AND NOT deleted ORDER BY quota_id",
        list(payees),
    ):
        found.setdefault(row["person"], []).append(row)
    return found


async def fold_kpis(
    tx: Connection, said: Mapping[tuple[str, str, str], KpiData]
) -> dict[str, set[str]]:
    """Keep the greatest revision of each (person, KPI, day); KPI → people of all that changed."""
    rows = await tx.fetch(
        """
        INSERT INTO kpi_fact AS k (person, kpi, day, value, revision, deleted)
        SELECT * FROM unnest($1::text[], $2::text[], $3::date[], $4::numeric[], $5::bigint[],
                             $6::boolean[]) AS s(person, kpi, day, value, revision, deleted)
        ORDER BY person, kpi, day
        ON CONFLICT (person, kpi, day) DO UPDATE SET value = excluded.value,
            revision = excluded.revision, deleted = excluded.deleted
        WHERE excluded.revision > k.revision
        RETURNING k.person, k.kpi
        """,
        [fact.person for fact in said.values()],
        [fact.kpi for fact in said.values()],
        [date.fromisoformat(fact.day) for fact in said.values()],
        [Decimal(fact.value) for fact in said.values()],
        [fact.revision for fact in said.values()],
        [fact.deleted for fact in said.values()],
    )
    changed: dict[str, set[str]] = {}
    for row in rows:
        changed.setdefault(row["kpi"], set()).add(row["person"])
    return changed


async def gated_accounts(tx: Connection, kpi: str, payees: Collection[str]) -> list[AccountKey]:
    """Accounts of people under plans whose gates ask for a KPI.

    Holds the version of reference data, so that no such plan appears unseen.
    """
    await tx.execute("SELECT FROM reference_version FOR SHARE")
    plans = {
        row["plan_id"]
        for row in await tx.fetch(
            "SELECT DISTINCT plan_id FROM plan_version WHERE $1 = ANY(needs)", kpi_need(kpi)
        )
    }
    if not plans:
        return []
    return [a for a in await accounts_of(tx, sorted(payees)) if a.plan_id in plans]


async def load_kpis(
    tx: Connection, payees: Sequence[str], kpis: Sequence[str]
) -> dict[str, dict[str, list[KpiFact]]]:
    """Payee → KPI → dated facts, those taken back left out."""
    found: dict[str, dict[str, list[KpiFact]]] = {}
    for row in await tx.fetch(
        "SELECT person, kpi, day, value, revision FROM kpi_fact WHERE person = ANY($1::text[]) "
        "AND kpi = ANY($2::text[]) AND NOT deleted ORDER BY person, kpi, day",
        list(payees),
        list(kpis),
    ):
        fact_id = f"kpi/{row['person']}/{row['kpi']}/{row['day']}#{row['revision']}"
        fact = KpiFact(row["day"], quantise(row["value"]), fact_id)
        found.setdefault(row["person"], {}).setdefault(row["kpi"], []).append(fact)
    return found


async def fold_scores(
    tx: Connection, said: Mapping[ScoreKey, ObjectiveScoreData]
) -> list[ScoreKey]:
    """Keep the greatest revision of each score; those that changed."""
    scores = list(said.values())
    rows = await tx.fetch(
        """
        INSERT INTO objective_score AS o (person, objective, period, score, scored_at, revision,
                                          deleted)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::numeric[],
                             $5::timestamptz[], $6::bigint[], $7::boolean[])
            AS s(person, objective, period, score, scored_at, revision, deleted)
        ORDER BY person, objective, period
        ON CONFLICT (person, objective, period) DO UPDATE SET score = excluded.score,
            scored_at = excluded.scored_at, revision = excluded.revision, deleted = excluded.deleted
        WHERE excluded.revision > o.revision
        RETURNING o.person, o.objective, o.period
        """,
        [key.person for key in said],
        [key.objective for key in said],
        [key.period for key in said],
        [Decimal(score.score) for score in scores],
        [parse_instant(score.scored_at) for score in scores],
        [score.revision for score in scores],
        [score.deleted for score in scores],
    )
    return [ScoreKey(*row) for row in rows]


async def load_scores(tx: Connection, keys: Sequence[ScoreKey]) -> dict[ScoreKey, CreditEvent]:
    """Scores as what may be credited; those taken back are left out."""
    rows = await tx.fetch(
        "SELECT o.* FROM objective_score o JOIN unnest($1::text[], $2::text[], $3::text[]) "
        "AS k(person, objective, period) USING (person, objective, period) WHERE NOT o.deleted",
        [key.person for key in keys],
        [key.objective for key in keys],
        [key.period for key in keys],
    )
    return {
        ScoreKey(row["person"], row["objective"], row["period"]): scored(
            objective=row["objective"],
            person=row["person"],
            period=row["period"],
            score=quantise(row["score"]),
            scored_at=row["scored_at"],
            source_id=(
                f"objective_score/{row['person']}/{row['objective']}/{row['period']}"
                f"#{row['revision']}"
            ),
        )
        for row in rows
    }
