"""Reference data that deals and accounts are projected with, as of one version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from services.commissions.domain.assigned import Assigned
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import Period, PeriodKind, parse_period, period_of
from services.commissions.domain.plan import Assignment, DayRange, Plan, PlanVersion
from services.commissions.domain.windows import Windows, deal_capped, window_kind
from services.commissions.needs import needs_of
from shared.facts.fact import Fact
from shared.facts.record import Record
from shared.facts.reference import Identities, StageMaps
from shared.facts.store import load_kind
from shared.money import parse_decimal, quantise
from shared.org.people import Org

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Reference:
    """Plans, assignments, rates, stage maps, people. Immutable."""

    plans: Mapping[str, Plan]
    assignments: Mapping[str, Sequence[Assignment]]
    rates: RateBook
    stage_maps: StageMaps
    org: Org
    needs: Mapping[str, frozenset[str]] = field(init=False)
    _asked: frozenset[str] = field(init=False)
    _assigned: Mapping[str, Assigned] = field(init=False)
    _windows: Mapping[str, Windows] = field(init=False)
    deal_capped: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        """What each plan, in any of its versions, asks for; and all of them together."""
        needs = {
            plan_id: frozenset().union(*map(needs_of, plan.versions))
            for plan_id, plan in self.plans.items()
        }
        object.__setattr__(self, "needs", needs)
        assigned = {plan_id: Assigned(found) for plan_id, found in self.assignments.items()}
        object.__setattr__(self, "assignments", assigned)
        object.__setattr__(self, "_assigned", assigned)
        month = self.org.calendar.fiscal_start_month
        windows = {p: Windows(window_kind(plan), month) for p, plan in self.plans.items()}
        object.__setattr__(self, "_windows", windows)
        capped = {p: deal_capped(plan) for p, plan in self.plans.items()}
        object.__setattr__(self, "deal_capped", capped)
        object.__setattr__(self, "_asked", frozenset().union(*needs.values()))

    def asks_for(self, need: str) -> bool:
        """Whether any plan needs it."""
        return need in self._asked

    @property
    def identities(self) -> Identities:
        """Who is who in the sources."""
        return self.org.identities

    @property
    def fiscal_start_month(self) -> int:
        """1 to 12."""
        return self.org.calendar.fiscal_start_month

    def year_of(self, day: date) -> Period:
        """The fiscal year in which a day lies."""
        return period_of(day, PeriodKind.YEAR, self.fiscal_start_month)

    def year(self, label: str) -> Period:
        """The fiscal year of that name. Raises InvalidValue."""
        return parse_period(label, self.fiscal_start_month)

    def period(self, label: str) -> Period:
        """The period of that name, in this organisation's fiscal years. Raises InvalidValue."""
        return parse_period(label, self.fiscal_start_month)

    def windows(self, plan_id: str) -> Windows:
        """The stretches in which accounts of a plan are rated."""
        return self._windows.get(plan_id) or Windows(PeriodKind.YEAR, self.fiscal_start_month)

    def is_on_a_plan(self, payee: str, day: date) -> bool:
        """Whether somebody is assigned to any plan on a day."""
        return any(
            day in assignment.days
            for assigned in self._assigned.values()
            for assignment in assigned.of(payee)
        )

    def assignments_of(self, payee: str, plan_id: str) -> Sequence[Assignment]:
        """Somebody's assignments to one plan."""
        assigned = self._assigned.get(plan_id)
        return () if assigned is None else assigned.of(payee)


@dataclass(slots=True)
class ReferenceLoader:
    """Loads reference data; plan versions, which never change, are read once."""

    _versions: dict[str, PlanVersion] = field(default_factory=dict)

    async def load(self, tx: Connection) -> Reference:
        """All of it as of `tx`, which holds its version. Raises InvalidValue where it is broken."""
        people = await load_kind(tx, "person")
        teams = await load_kind(tx, "team")
        org = Org.build(people, teams, await load_kind(tx, "calendar"))
        return Reference(
            plans=await self._plans(tx),
            assignments=await _assignments(tx),
            rates=RateBook(_rates(await load_kind(tx, "rate"))),
            stage_maps=StageMaps.build(await load_kind(tx, "stage_map"), org.zone),
            org=org,
        )

    async def _plans(self, tx: Connection) -> dict[str, Plan]:
        known = await tx.fetch("SELECT plan_id, hash FROM plan_version ORDER BY plan_id, version")
        missing = [row["hash"] for row in known if row["hash"] not in self._versions]
        for row in await tx.fetch(
            "SELECT hash, document::text AS document FROM plan_version WHERE hash = ANY($1)",
            missing,
        ):
            self._versions[row["hash"]] = parse_plan(msgspec.json.decode(row["document"]))
        versions: dict[str, list[PlanVersion]] = {}
        for row in known:
            versions.setdefault(row["plan_id"], []).append(self._versions[row["hash"]])
        return {plan_id: Plan(plan_id, tuple(found)) for plan_id, found in versions.items()}


async def with_facts(tx: Connection, present: Reference, facts: Sequence[Fact]) -> Reference:
    """Present reference data, of the same snapshot, as it would be with more facts. Writes nothing.

    facts: about rates, stage maps, calendars and people. Raises InvalidValue where they break it.
    """
    kinds = {fact.kind.name for fact in facts}

    async def records(kind: str) -> dict[str, Record]:
        found = await load_kind(tx, kind)
        for fact in facts:
            if fact.kind.name == kind:
                found.setdefault(fact.record_id, Record()).fold(fact)
        return found

    changed = present
    if kinds & {"person", "calendar"}:
        org = Org.build(
            await records("person"), await load_kind(tx, "team"), await records("calendar")
        )
        changed = replace(changed, org=org)
    if kinds & {"stage_map", "calendar"}:
        maps = StageMaps.build(await records("stage_map"), changed.org.zone)
        changed = replace(changed, stage_maps=maps)
    if "rate" in kinds:
        changed = replace(changed, rates=RateBook(_rates(await records("rate"))))
    return changed


@dataclass(slots=True)
class ReferenceCache:
    """Reference data for readers, loaded anew when its version or the people change."""

    loader: ReferenceLoader = field(default_factory=ReferenceLoader)
    _key: tuple[object, ...] = ()
    _reference: Reference | None = None

    async def at(self, tx: Connection) -> Reference:
        """As of `tx`, which is a snapshot (REPEATABLE READ) where the answer must be consistent."""
        row = await tx.fetchrow(
            "SELECT (SELECT version FROM reference_version) AS version, "
            "(SELECT sum(next_offset) FROM consumer_offset "
            "WHERE topic IN ('crm.people', 'crm.reference')) AS people"
        )
        key = () if row is None else tuple(row.values())
        if self._reference is None or key != self._key:
            self._reference, self._key = await self.loader.load(tx), key
        return self._reference


async def _assignments(tx: Connection) -> dict[str, list[Assignment]]:
    found: dict[str, list[Assignment]] = {}
    for row in await tx.fetch(
        "SELECT payee, plan_id, first_day, last_day, quota::text AS quota, payout_currency, "
        "target_pay, component_target_pay::text AS component_target_pay, ramp::text AS ramp, "
        "leave::text AS leave FROM assignment WHERE NOT deleted "
        "ORDER BY plan_id, payee, first_day, assignment_id"
    ):
        quota: dict[str, str] = msgspec.json.decode(row["quota"])
        target_pays: dict[str, str] = msgspec.json.decode(row["component_target_pay"])
        found.setdefault(row["plan_id"], []).append(
            Assignment(
                payee=row["payee"],
                plan_id=row["plan_id"],
                days=DayRange(row["first_day"], row["last_day"]),
                quota=tuple((name, Decimal(amount)) for name, amount in sorted(quota.items())),
                payout_currency=row["payout_currency"],
                target_pay=None if row["target_pay"] is None else quantise(row["target_pay"]),
                component_target_pay=tuple(
                    (name, Decimal(amount)) for name, amount in sorted(target_pays.items())
                ),
                ramp=tuple(
                    Decimal(share.removesuffix("%")).scaleb(-2)
                    for share in msgspec.json.decode(row["ramp"])
                ),
                leave=tuple(
                    DayRange(date.fromisoformat(away["from"]), date.fromisoformat(away["to"]))
                    for away in msgspec.json.decode(row["leave"])
                ),
            )
        )
    return found


def _rates(records: Mapping[str, Record]) -> list[RateRow]:
    """Rate rows of records `rate/<table>:<from>:<to>:<day>`; a rate of null was taken back."""
    rows = []
    for rate_id, record in records.items():
        rate = record.value("rate")
        if rate is None:
            continue
        said = record.latest("rate")
        rows.append(
            RateRow(
                id=rate_id,
                table=record.value("table"),
                from_currency=record.value("from"),
                to_currency=record.value("to"),
                day=date.fromisoformat(record.value("day")),
                rate=parse_decimal(rate),
                source="" if said is None else said.event_id,
            )
        )
    return rows
