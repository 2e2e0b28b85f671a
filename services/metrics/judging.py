"""Ticks: judge the deals and quotas that are due, learn what is usual, announce imports.

Judging is pure; this loads what it needs with one statement a table, under the lock of each root
or quota, and writes episodes and signals in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from services.metrics import episodes, quotas, reading
from services.metrics.domain.at_risk import QuotaStanding, RiskLimits, quota_at_risk
from services.metrics.domain.episodes import Detector, Signal, judge
from services.metrics.domain.log import summary_event
from services.metrics.domain.stalled import Circumstances, StageNorm, Thresholds, stalled
from services.metrics.lookups import Lookups, World
from services.metrics.projector import DEAL, Known, MetricsProjector
from services.metrics.quota_figures import refigured
from services.metrics.quotas import Quota
from shared.clock import from_epoch_ms, to_epoch_ms
from shared.events.catalogue import METRICS_SIGNALS
from shared.facts.deal import DealTimeline, project_deal, resolve_redirects
from shared.facts.record import Record
from shared.facts.reference import DEFAULT_PIPELINE, map_prefix
from shared.facts.store import load_records, load_redirects
from shared.money import EXACT
from shared.org.calendar import Period
from shared.runtime.failpoints import failpoint
from shared.runtime.outbox import add_to_outbox
from shared.runtime.ticks import service_now

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

DEALS_AT_ONCE = 500
QUOTAS_AT_ONCE = 500
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

PATIENCE_S = 30.0
"""While a backlog is read, what is due waits this long: then a deal that many facts speak of is
judged once, by what holds in the end."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What is known of due deals besides their records."""

    survivors: Mapping[str, str]
    last_activity_ms: Mapping[str, int]
    coming_ms: Mapping[str, int]
    planned_ms: Mapping[str, int]
    segments: Mapping[str, str]


@dataclass(slots=True)
class Judging:
    """The detectors of one process. Several may run: each due root is one tick's.

    catching_up: whether this process has a backlog of facts to read.
    """

    pool: Pool
    projector: MetricsProjector
    lookups: Lookups
    thresholds: Thresholds
    limits: RiskLimits
    clock: str
    import_quiet_s: float
    telemetry: Telemetry
    catching_up: Callable[[], bool] = lambda: False
    _judged_s: float = float("-inf")
    _known: Known | None = None
    _known_version: int = -1
    _norms: episodes.Norms = field(default_factory=dict)
    _norms_day: date | None = None

    async def tick(self) -> bool:
        """Judge what is due; whether there is more."""
        if self.catching_up() and time.monotonic() - self._judged_s < PATIENCE_S:
            return False
        self._judged_s = time.monotonic()
        now = await service_now(self.pool, clock=self.clock)
        if now <= NEVER:
            return False
        async with self.pool.acquire() as tx:
            world = await self.lookups.current(tx)
            today = world.org.calendar.day_of(now)
            await self._learn(tx, today, now)
            async with tx.transaction():
                judged = await self._judge_deals(tx, world, today, now)
            async with tx.transaction():
                await self._note_bookings(tx, world, today)
            async with tx.transaction():
                more = await self._judge_quotas(tx, today, now)
            async with tx.transaction():
                await self._announce_import(tx, now)
        return more or judged == DEALS_AT_ONCE

    async def _learn(self, tx: Connection, today: date, now: datetime) -> None:
        """Once a day: what is usual on that day, kept as it is until the next."""
        if self._norms_day == today:
            return
        async with tx.transaction():
            await episodes.learn_norms(tx, today, to_epoch_ms(now))
        self._norms = await episodes.load_norms(tx, today)
        self._norms_day = today

    # ---- deals --------------------------------------------------------------------------------

    async def _judge_deals(self, tx: Connection, world: World, today: date, now: datetime) -> int:
        rows = await tx.fetch(
            "SELECT id FROM root WHERE kind = 'deal' AND next_due <= $1 "
            "ORDER BY next_due, id LIMIT $2 FOR UPDATE SKIP LOCKED",
            now,
            DEALS_AT_ONCE,
        )
        ids = [row["id"] for row in rows]
        if not ids:
            return 0
        now_ms = to_epoch_ms(now)
        known = await self._reference(tx)
        records = await load_records(tx, DEAL, ids)
        around = await _surroundings(tx, ids, records, now_ms)
        said = await episodes.dispositions(tx, ids)
        subjects = [f"deal/{deal_id}" for deal_id in ids]
        previous = await episodes.last_episodes(tx, Detector.DEAL_STALLED, subjects)
        imported = await episodes.take_imported(tx, ids)
        signals: list[Signal] = []
        due: list[datetime | None] = []
        for deal_id in ids:
            deal = self._timeline(deal_id, records.get(deal_id, Record()), known, around)
            owner = deal.owner
            verdict = stalled(
                deal,
                Circumstances(
                    last_activity_ms=around.last_activity_ms.get(deal_id),
                    planned_ms=[around.planned_ms[deal_id]] if deal_id in around.planned_ms else (),
                    segment=around.segments.get(deal.account or ""),
                    norm=self._norm(deal, around),
                    disposition=said.get(deal_id),
                    team=None if owner is None else world.org.team_of(owner, today),
                ),
                self.thresholds,
                known.calendar,
                now_ms,
            )
            _, signal = judge(
                previous.get(verdict.subject), verdict, now_ms, silent=deal_id in imported
            )
            if signal is not None:
                signals.append(signal)
            # An activity dated a little ahead of this clock counts once the clock is there.
            moments = (verdict.next_due_ms, around.coming_ms.get(deal_id))
            next_ms = min((at_ms for at_ms in moments if at_ms is not None), default=None)
            due.append(None if next_ms is None else from_epoch_ms(next_ms))
        await tx.execute(
            "UPDATE root SET next_due = d.next_due FROM unnest($1::text[], $2::timestamptz[]) "
            "AS d(id, next_due) WHERE root.kind = 'deal' AND root.id = d.id",
            ids,
            due,
        )
        await self._announce(tx, signals)
        if imported:
            opened = sum(signal.silent for signal in signals)
            await episodes.count_imported(tx, len(imported), opened)
        await failpoint("tick.judged")
        return len(ids)

    def _timeline(
        self, deal_id: str, record: Record, known: Known, around: _Around
    ) -> DealTimeline:
        reading_of = known.reading
        deal = project_deal(
            deal_id,
            record,
            reading_of.stage_maps,
            reading_of.identities,
            reading_of.reopen_grace,
        )
        return msgspec.structs.replace(deal, merged_into=around.survivors.get(deal_id))

    def _norm(self, deal: DealTimeline, around: _Around) -> StageNorm | None:
        current = deal.current
        if current is None or current.stage is None:
            return None
        place = map_prefix(deal.deal_id) + (current.pipeline or DEFAULT_PIPELINE)
        segment = around.segments.get(deal.account or "", "")
        return self._norms.get((place, current.stage, segment))

    async def _reference(self, tx: Connection) -> Known:
        """Reference data; its version is read first, so at worst it is read once too often."""
        version = await tx.fetchval("SELECT version FROM reference_version")
        if self._known is None or version != self._known_version:
            self._known = await self.projector.load_reference(tx)
            self._known_version = version
        return self._known

    async def _announce(self, tx: Connection, signals: Sequence[Signal]) -> None:
        await episodes.record_signals(tx, signals)
        for signal in signals:
            self.telemetry.signals.labels(
                detector=signal.verdict.detector.value, change=signal.state.value
            ).inc()

    async def _announce_import(self, tx: Connection, now: datetime) -> None:
        burst = await episodes.end_import(tx, self.import_quiet_s)
        if burst is not None and burst["opened"]:
            event = summary_event(str(burst["id"]), burst["deals"], burst["opened"], now)
            await add_to_outbox(tx, METRICS_SIGNALS, [event])

    # ---- quotas -------------------------------------------------------------------------------

    async def _note_bookings(self, tx: Connection, world: World, today: date) -> None:
        """Somebody's bookings changed: their quotas, and those of their teams, are due."""
        people = await quotas.take_booking_changes(tx)
        if people:
            org = world.org
            teams = {t for t in org.team_ids if not people.isdisjoint(org.members(t, today))}
            await quotas.make_due(tx, people, teams, today)

    async def _judge_quotas(self, tx: Connection, today: date, now: datetime) -> bool:
        taken = await quotas.take_due(tx, now, QUOTAS_AT_ONCE)
        if not taken:
            return False
        # Read after the rows are taken: whatever made them due has been committed.
        world = await self.lookups.current(tx)
        due = [await _as_of_now(tx, quota, world, now) for quota in taken]
        subjects = [f"quota/{quota.id}" for quota in due]
        previous = await episodes.last_episodes(tx, Detector.QUOTA_AT_RISK, subjects)
        now_ms = to_epoch_ms(now)
        signals = []
        next_due: list[tuple[str, datetime | None]] = []
        for quota, booked in zip(due, await booked_against(tx, due, world), strict=True):
            standing = _standing(quota, booked, world, today)
            if standing is None:
                next_due.append((quota.id, None))
                continue
            last = previous.get(f"quota/{quota.id}")
            verdict = quota_at_risk(
                standing,
                self.limits,
                world.org.calendar,
                today,
                was_at_risk=last is not None and last.is_open,
            )
            _, signal = judge(last, verdict, now_ms)
            if signal is not None:
                signals.append(signal)
            at_ms = verdict.next_due_ms
            next_due.append((quota.id, None if at_ms is None else from_epoch_ms(at_ms)))
        await quotas.set_due(tx, next_due)
        await self._announce(tx, signals)
        await failpoint("tick.judged")
        return len(due) == QUOTAS_AT_ONCE


async def _surroundings(
    tx: Connection, ids: Sequence[str], records: Mapping[str, Record], now_ms: int
) -> _Around:
    edges = await load_redirects(tx, DEAL, ids)
    survivors = resolve_redirects(edges)
    wanted = set(ids)
    of = {deal_id: deal_id for deal_id in ids}
    of |= {merged: survivor for merged, survivor in survivors.items() if survivor in wanted}
    rows = await tx.fetch(
        """
        SELECT d.id,
               (SELECT max(a.done_ms) FROM activity_row a
                WHERE a.deal_id = d.id AND a.day IS NOT NULL AND a.done_ms <= $2) AS last_ms,
               (SELECT min(a.done_ms) FROM activity_row a
                WHERE a.deal_id = d.id AND a.day IS NOT NULL AND a.done_ms > $2) AS coming_ms,
               (SELECT max(a.due_ms) FROM activity_row a
                WHERE a.deal_id = d.id AND a.day IS NULL) AS planned_ms
        FROM unnest($1::text[]) AS d(id)
        """,
        list(of),
        now_ms,
    )
    last: dict[str, int] = {}
    coming: dict[str, int] = {}
    planned: dict[str, int] = {}
    for row in rows:
        if row["coming_ms"] is not None:
            survivor = of[row["id"]]
            coming[survivor] = min(coming.get(survivor, row["coming_ms"]), row["coming_ms"])
        for found, at_ms in ((last, row["last_ms"]), (planned, row["planned_ms"])):
            if at_ms is not None:
                survivor = of[row["id"]]
                found[survivor] = max(found.get(survivor, at_ms), at_ms)
    accounts = {record.value("account") for record in records.values()} - {None}
    segments = await tx.fetch(
        "SELECT account, segment FROM account_segment WHERE account = ANY($1::text[])",
        sorted(accounts),
    )
    return _Around(
        survivors, last, coming, planned, {row["account"]: row["segment"] for row in segments}
    )


async def booked_against(tx: Connection, due: Sequence[Quota], world: World) -> list[Decimal]:
    """What has been booked against each quota, in its currency; amounts without a rate are out."""
    by_period: dict[Period, list[Quota]] = {}
    for quota in due:
        by_period.setdefault(period_of(quota), []).append(quota)
    booked: dict[str, Decimal] = {}
    for period, found in by_period.items():
        people = sorted({q.person for q in found if q.person is not None})
        teams = sorted({q.team for q in found if q.team is not None})
        of_people = await reading.bookings_of_people(tx, people, period) if people else {}
        members = {
            team: world.org.memberships(team, period.start_day, period.end_day) for team in teams
        }
        of_teams = await reading.bookings_of_teams(tx, members, period) if teams else {}
        for quota in found:
            if quota.person is not None:
                amounts = of_people.get(quota.person, {})
            elif quota.team is not None:
                amounts = of_teams.get(quota.team, {})
            else:
                amounts = await reading.bookings_of_everybody(tx, period)
            booked[quota.id] = counted(quota, amounts, world)
    return [booked[quota.id] for quota in due]


async def _as_of_now(tx: Connection, quota: Quota, world: World, now: datetime) -> Quota:
    """The quota by the calendar and the people of now; a new version where it moved."""
    moved = quota if quota.deleted else refigured(quota, world.org)
    if moved == quota:
        return quota
    same_days = (moved.start_day, moved.end_day) == (quota.start_day, quota.end_day)
    moved = replace(
        moved,
        revision=quota.revision + 1,
        changed_at=now,
        changed_by="people" if same_days else "calendar/org",
    )
    await quotas.save_quota(tx, moved)
    return moved


def counted(quota: Quota, amounts: reading.DayAmounts, world: World) -> Decimal:
    """The amounts that count for a quota's measure, in its currency."""
    deal_type = quotas.MEASURED.get(quota.measure)
    target = quota.currency or world.currency
    totals: dict[tuple[date, str], Decimal] = {}
    for (day, currency, of_type), amount in amounts.items():
        if deal_type is None or of_type == deal_type:
            place = (day, currency)
            totals[place] = EXACT.add(totals.get(place, Decimal(0)), amount)
    return world.rates.total(totals, target).amount


def period_of(quota: Quota) -> Period:
    """The days of a quota, as they were when it was stated."""
    return Period(quota.period, quota.start_day, quota.end_day)


def _standing(quota: Quota, booked: Decimal, world: World, today: date) -> QuotaStanding | None:
    """None for a measure that is not summed here."""
    if quota.measure not in quotas.MEASURED or quota.currency is None:
        return None
    name = "The organisation"
    if quota.person is not None:
        person = world.org.person(quota.person, today)
        name = quota.person if person is None else person.name
    elif quota.team is not None:
        team = world.org.team(quota.team, today)
        name = quota.team if team is None else team.name
    return QuotaStanding(
        quota=quota.id,
        name=name,
        person=quota.person,
        team=quota.team or (world.org.team_of(quota.person, today) if quota.person else None),
        measure=quota.measure,
        period=period_of(quota),
        amount=quota.amount,
        currency=quota.currency,
        booked=booked,
        deleted=quota.deleted,
    )
