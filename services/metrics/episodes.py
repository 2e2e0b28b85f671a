"""SQL of episodes, dispositions and norms: what detectors remember."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from services.metrics.domain.episodes import Detector, Episode, Signal
from services.metrics.domain.kpis import to_decimal
from services.metrics.domain.log import episode_event, signal_event
from services.metrics.domain.stalled import DAY_MS, Disposition, StageNorm
from shared.clock import to_epoch_ms
from shared.events.catalogue import METRICS_JOURNAL, METRICS_SIGNALS
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

NOT_STALLED = "not_stalled"
NORM_DAYS = 365
"""Stage visits that ended longer ago than this teach nothing about today."""

Norms = Mapping[tuple[str, str, str], StageNorm]
"""(pipeline's map id, stage, segment) → what is usual."""


async def last_episodes(
    tx: Connection, detector: Detector, subjects: Collection[str]
) -> dict[str, Episode]:
    """The last episode of each subject that had one."""
    rows = await tx.fetch(
        """
        SELECT DISTINCT ON (subject) id, subject, opened_ms, closed_ms, revision, rules
        FROM episode WHERE detector = $1 AND subject = ANY($2::text[])
        ORDER BY subject, opened_ms DESC, closed_ms DESC NULLS FIRST
        """,
        detector.value,
        list(subjects),
    )
    return {
        row["subject"]: Episode(
            id=row["id"],
            detector=detector,
            subject=row["subject"],
            opened_ms=row["opened_ms"],
            revision=row["revision"],
            rules=tuple(row["rules"]),
            closed_ms=row["closed_ms"],
        )
        for row in rows
    }


async def record_signals(tx: Connection, signals: Sequence[Signal]) -> None:
    """Keep the episodes' new states, and announce and journal each."""
    if not signals:
        return
    rows = []
    for signal in signals:
        data = signal.wire()
        evidence = [{"rule": e.rule, "text": e.text, "values": e.values} for e in data.evidence]
        episode = signal.episode
        rows.append(
            (
                episode.id,
                data.signal,
                data.subject,
                data.person,
                data.team,
                data.title,
                episode.opened_ms,
                episode.closed_ms,
                signal.judged_ms,
                episode.revision,
                list(episode.rules),
                json.dumps(evidence),
                json.dumps(data.facts),
                signal.silent,
            )
        )
    await tx.executemany(_PUT_EPISODE, rows)
    await add_to_outbox(tx, METRICS_SIGNALS, [signal_event(signal) for signal in signals])
    await add_to_outbox(tx, METRICS_JOURNAL, [episode_event(signal) for signal in signals])


# A closing signal has no evidence any more: what the episode was opened for stays readable.
_PUT_EPISODE = """
    INSERT INTO episode (id, detector, subject, person, team, title, opened_ms, closed_ms,
                         judged_ms, revision, rules, evidence, facts, silent)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text[], $12::json, $13::json, $14)
    ON CONFLICT (id) DO UPDATE SET
        person = excluded.person, team = excluded.team, title = excluded.title,
        closed_ms = excluded.closed_ms, judged_ms = excluded.judged_ms,
        revision = excluded.revision, rules = excluded.rules, facts = excluded.facts,
        evidence = CASE WHEN excluded.closed_ms IS NULL THEN excluded.evidence
                        ELSE episode.evidence END
"""


async def dispositions(tx: Connection, deals: Collection[str]) -> dict[str, Disposition]:
    """The deals whose latest disposition says that they are not stalled."""
    rows = await tx.fetch(
        "SELECT DISTINCT ON (deal_id) deal_id, disposition, reason, stated_at FROM disposition "
        "WHERE deal_id = ANY($1::text[]) ORDER BY deal_id, number DESC",
        list(deals),
    )
    return {
        row["deal_id"]: Disposition(to_epoch_ms(row["stated_at"]), row["reason"])
        for row in rows
        if row["disposition"] == NOT_STALLED
    }


async def state_disposition(  # noqa: PLR0913, PLR0917 - the columns of one row
    tx: Connection, deal_id: str, disposition: str, reason: str, by: str, at: datetime
) -> int:
    """Keep somebody's word about a deal; its number."""
    number = await tx.fetchval(
        "INSERT INTO disposition (deal_id, disposition, reason, stated_at, stated_by) "
        "VALUES ($1, $2, $3, $4, $5) RETURNING number",
        deal_id,
        disposition,
        reason,
        at,
        by,
    )
    return int(number)


async def dispositions_of(tx: Connection, deal_id: str) -> list[asyncpg.Record]:
    """Everything people said of a deal, the latest first."""
    return await tx.fetch(
        "SELECT number, disposition, reason, stated_at, stated_by FROM disposition "
        "WHERE deal_id = $1 ORDER BY number DESC LIMIT 100",
        deal_id,
    )


async def list_episodes(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    *,
    people: list[str] | None,
    teams: Sequence[str],
    detector: str | None,
    state: str | None,
    person: str | None,
    subject: str | None,
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Episodes that the caller may see, newest first."""
    return await tx.fetch(
        """
        SELECT number, id, detector, subject, person, team, title, opened_ms, closed_ms,
               judged_ms, revision, rules, evidence::text AS evidence, facts::text AS facts, silent
        FROM episode
        WHERE ($1::text[] IS NULL OR person = ANY($1)
               OR (person IS NULL AND team = ANY($2::text[])))
          AND ($3::text IS NULL OR detector = $3)
          AND ($4::text IS NULL OR (closed_ms IS NULL) = ($4 = 'open'))
          AND ($5::text IS NULL OR person = $5)
          AND ($6::text IS NULL OR subject = $6)
          AND ($7::bigint IS NULL OR number < $7)
        ORDER BY number DESC LIMIT $8
        """,
        people,
        list(teams),
        detector,
        state,
        person,
        subject,
        before,
        limit,
    )


# ---- norms ------------------------------------------------------------------------------------


async def learn_norms(tx: Connection, day: date, now_ms: int) -> bool:
    """Learn the usual stage ages of `day`, once; whether this call did it."""
    first = await tx.fetchval(
        "INSERT INTO stage_norm_day (day) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true", day
    )
    if not first:
        return False
    await tx.execute(
        """
        WITH visit AS (
            SELECT deal_id, pipeline, stage, min(account) AS account,
                   max(valid_to_ms) - stage_entered_ms AS age_ms
            FROM deal_span
            WHERE stage_entered_ms IS NOT NULL AND stage IS NOT NULL
            GROUP BY deal_id, pipeline, stage, stage_entered_ms
            HAVING bool_and(valid_to_ms IS NOT NULL AND status = 'open')
               AND max(valid_to_ms) BETWEEN $2 AND $3
        )
        INSERT INTO stage_norm (day, pipeline, stage, segment, median_ms, samples)
        SELECT $1, coalesce(substring(v.deal_id FROM '^[^:]*:[^:]*:'),
                            substring(v.deal_id FROM '^[^:]*:'), '') || v.pipeline, v.stage,
               coalesce(a.segment, ''),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY v.age_ms), count(*)
        FROM visit v LEFT JOIN account_segment a ON a.account = v.account
        GROUP BY 2, 3, 4
        """,
        day,
        now_ms - NORM_DAYS * DAY_MS,
        now_ms,
    )
    await tx.execute("DELETE FROM stage_norm WHERE day < $1::date - 40", day)
    return True


async def load_norms(tx: Connection, day: date) -> Norms:
    """The norms of the last day up to `day` on which some were learned."""
    rows = await tx.fetch(
        "SELECT pipeline, stage, segment, median_ms, samples FROM stage_norm "
        "WHERE day = (SELECT max(day) FROM stage_norm_day WHERE day <= $1)",
        day,
    )
    return {
        (row["pipeline"], row["stage"], row["segment"]): StageNorm(
            _days(row["median_ms"]), row["samples"]
        )
        for row in rows
    }


def _days(milliseconds: Decimal) -> Decimal:
    return to_decimal(Fraction(milliseconds) / DAY_MS)


# ---- imports ----------------------------------------------------------------------------------


async def take_imported(tx: Connection, deals: Collection[str]) -> set[str]:
    """Those of `deals` whose first judgement this is, after an import; they are noted as judged."""
    rows = await tx.fetch(
        "DELETE FROM unjudged_import WHERE deal_id = ANY($1::text[]) RETURNING deal_id",
        list(deals),
    )
    return {row["deal_id"] for row in rows}


async def count_imported(tx: Connection, deals: int, opened: int) -> None:
    """Add to the numbers of the import that is going on."""
    await tx.execute(
        "INSERT INTO import_burst AS b (deals, opened, last_at) VALUES ($1, $2, now()) "
        "ON CONFLICT (only_row) DO UPDATE SET deals = b.deals + excluded.deals, "
        "opened = b.opened + excluded.opened, last_at = now()",
        deals,
        opened,
    )


async def end_import(tx: Connection, quiet_s: float) -> asyncpg.Record | None:
    """The numbers of an import that has been quiet for so long, which are then forgotten."""
    return await tx.fetchrow(
        "DELETE FROM import_burst WHERE last_at < now() - make_interval(secs => $1) "
        "AND NOT EXISTS (SELECT FROM unjudged_import) RETURNING id, deals, opened",
        quiet_s,
    )
