"""SQL that is the same for objectives, goals and standards: one row an id, a version a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, TypeVar

import msgspec

from services.metrics.domain.log import planned_event
from services.metrics.versions import Version, keep_versions
from shared.clock import to_text as instant_text
from shared.events.catalogue import METRICS_JOURNAL, EventType
from shared.events.planned import GOAL, OBJECTIVE, STANDARD, GoalData, ObjectiveData, StandardData
from shared.money import to_text
from shared.runtime.outbox import add_to_outbox

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Direction: TypeAlias = Literal["at_least", "at_most"]
PeriodKind: TypeAlias = Literal["month", "quarter", "half", "year"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """An objective as stored. weight: a share, for people; what pays is the plan's own."""

    table: ClassVar[str] = "objective"
    event: ClassVar[EventType] = OBJECTIVE

    id: str
    objective: str
    person: str
    period: str
    start_day: date
    end_day: date
    title: str
    target: str
    weight: str | None
    scorer: str | None
    score: Decimal | None
    scored_at: datetime | None
    scored_by: str | None
    evidence: str | None
    revision: int
    deleted: bool
    changed_at: datetime
    changed_by: str

    def said(self) -> ObjectiveData:
        """As the journal has it."""
        return ObjectiveData(
            id=self.id,
            objective=self.objective,
            person=self.person,
            period=self.period,
            start=self.start_day.isoformat(),
            end=self.end_day.isoformat(),
            title=self.title,
            target=self.target,
            weight=self.weight,
            scorer=self.scorer,
            score=None if self.score is None else to_text(self.score),
            scored_at=None if self.scored_at is None else instant_text(self.scored_at),
            scored_by=self.scored_by,
            evidence=self.evidence,
            deleted=self.deleted,
            revision=self.revision,
            actor=self.changed_by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal as stored. person and team None: the organisation's KPI."""

    table: ClassVar[str] = "goal"
    event: ClassVar[EventType] = GOAL

    id: str
    title: str
    kpi: str
    direction: Direction
    target: Decimal
    unit: str
    start_day: date
    end_day: date
    person: str | None
    team: str | None
    owner: str
    parent: str | None
    revision: int
    deleted: bool
    changed_at: datetime
    changed_by: str

    def taken_back(self, now: datetime, by: str) -> Goal:
        """As it is once somebody deletes it."""
        return replace(
            self, deleted=True, revision=self.revision + 1, changed_at=now, changed_by=by
        )

    def said(self) -> GoalData:
        """As the journal has it."""
        return GoalData(
            id=self.id,
            title=self.title,
            kpi=self.kpi,
            direction=self.direction,
            target=to_text(self.target),
            unit=self.unit,
            start=self.start_day.isoformat(),
            end=self.end_day.isoformat(),
            person=self.person,
            team=self.team,
            owner=self.owner,
            parent=self.parent,
            deleted=self.deleted,
            revision=self.revision,
            actor=self.changed_by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A standard as stored. first_day, last_day: in force, both included."""

    table: ClassVar[str] = "standard"
    event: ClassVar[EventType] = STANDARD

    id: str
    title: str
    role: str
    kpi: str
    direction: Direction
    limit_value: Decimal
    period_kind: PeriodKind
    first_day: date
    last_day: date | None
    revision: int
    deleted: bool
    changed_at: datetime
    changed_by: str

    def taken_back(self, now: datetime, by: str) -> Standard:
        """As it is once somebody deletes it."""
        return replace(
            self, deleted=True, revision=self.revision + 1, changed_at=now, changed_by=by
        )

    def said(self) -> StandardData:
        """As the journal has it."""
        return StandardData(
            id=self.id,
            title=self.title,
            role=self.role,
            kpi=self.kpi,
            direction=self.direction,
            limit=to_text(self.limit_value),
            period=self.period_kind,
            from_=self.first_day.isoformat(),
            to=None if self.last_day is None else self.last_day.isoformat(),
            deleted=self.deleted,
            revision=self.revision,
            actor=self.changed_by,
        )


Stated: TypeAlias = Objective | Goal | Standard
T = TypeVar("T", Objective, Goal, Standard)


def columns_of(kind: type[Stated]) -> str:
    """The columns of a table, in the order of the fields."""
    return ", ".join(field.name for field in fields(kind))


async def row_of(tx: Connection, kind: type[T], id_: str, *, lock: bool = False) -> T | None:
    """One row, deleted ones included."""
    if lock:
        # Absent rows cannot be locked: two first statements of one id wait here for each other.
        place = f"{kind.table}/{id_}"
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 4713))", place)
    row = await tx.fetchrow(
        f"SELECT {columns_of(kind)} FROM {kind.table} WHERE id = $1"  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        id_,
    )
    return None if row is None else kind(**dict(row))


async def save_row(tx: Connection, stated: Stated) -> None:
    """Store a row, journal it and keep the version."""
    names = [field.name for field in fields(stated)]
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
    await tx.execute(
        f"INSERT INTO {stated.table} ({', '.join(names)}) VALUES ({places}) "  # noqa: S608
        f"ON CONFLICT (id) DO UPDATE SET {changed}",
        *(getattr(stated, name) for name in names),
    )
    said: msgspec.Struct = stated.said()
    subject = f"{stated.table}/{stated.id}"
    event = planned_event(stated.event, subject, stated.revision, said, stated.changed_at)
    await add_to_outbox(tx, METRICS_JOURNAL, [event])
    version = Version(
        stated.table, stated.id, stated.revision, said, stated.changed_by, stated.changed_at
    )
    await keep_versions(tx, [version])


async def list_subjects(  # noqa: PLR0913 - one argument a filter
    tx: Connection,
    kind: type[T],
    *,
    people: list[str] | None,
    teams: Sequence[str],
    person: str | None,
    team: str | None,
    window: tuple[date, date] | None,
    after: str | None,
    limit: int,
) -> list[T]:
    """Objectives or goals that the caller may see, by id."""
    start, end = window or (None, None)
    of_team = "team" if kind is Goal else "NULL::text"
    rows = await tx.fetch(
        f"""
        SELECT {columns_of(kind)} FROM {kind.table}
        WHERE NOT deleted
          AND ($1::text[] IS NULL OR person = ANY($1) OR {of_team} = ANY($2::text[]))
          AND ($3::text IS NULL OR person = $3) AND ($4::text IS NULL OR {of_team} = $4)
          AND ($5::date IS NULL OR (start_day < $6::date AND end_day > $5))
          AND ($7::text IS NULL OR id > $7)
        ORDER BY id LIMIT $8
        """,  # noqa: S608 - constants
        people,
        list(teams),
        person,
        team,
        start,
        end,
        after,
        limit,
    )
    return [kind(**dict(row)) for row in rows]


async def list_standards(
    tx: Connection | Pool, *, role: str | None, day: date | None, after: str | None, limit: int
) -> list[Standard]:
    """Standards by id; of one role, in force on a day."""
    rows = await tx.fetch(
        f"""
        SELECT {columns_of(Standard)} FROM standard
        WHERE NOT deleted AND ($1::text IS NULL OR role = $1)
          AND ($2::date IS NULL OR (first_day <= $2 AND (last_day IS NULL OR last_day >= $2)))
          AND ($3::text IS NULL OR id > $3)
        ORDER BY id LIMIT $4
        """,  # noqa: S608 - constants
        role,
        day,
        after,
        limit,
    )
    return [Standard(**dict(row)) for row in rows]


async def parents_of(tx: Connection, goal_id: str) -> list[str]:
    """The goals above a goal, the nearest first; a cycle ends."""
    rows = await tx.fetch(
        """
        WITH RECURSIVE above (id, depth) AS (
            SELECT parent, 1 FROM goal WHERE id = $1 AND NOT deleted
            UNION SELECT g.parent, above.depth + 1 FROM above JOIN goal g ON g.id = above.id
            WHERE NOT g.deleted AND above.depth < 50
        )
        SELECT id FROM above WHERE id IS NOT NULL ORDER BY depth
        """,
        goal_id,
    )
    return [row["id"] for row in rows]
