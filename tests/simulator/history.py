"""The intended history: what truly happened in the company, and the rules it lives by.

Plain values only, so that it can be written to a file and recomputed by somebody else. Instants are
whole milliseconds since 1970, amounts and rates decimal text, days ISO 8601.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Value = str | int | bool | dict[str, str] | None


class Change(NamedTuple):
    """One field of a deal takes a value. splits and overlays: the whole list, member → share.

    Fields: those of the canonical deal; `deleted` true or false; `merged_into` a deal id; `owner`
    an identity of the source (`hubspot:4821:55120003`); `*_at` milliseconds since 1970.
    """

    at_ms: int
    field: str
    value: Value


class Said(NamedTuple):
    """One statement about an activity or a lead: several fields at once."""

    at_ms: int
    fields: dict[str, Any]


@dataclass(slots=True)
class Deal:
    """A deal and all that was ever said about it, in time order; no field twice in one instant."""

    id: str
    changes: list[Change]


@dataclass(slots=True)
class Activity:
    """A call, meeting or message. `owner` is an identity, `participants` person ids."""

    id: str
    said: list[Said]


@dataclass(slots=True)
class Lead:
    """Somebody who may become a customer."""

    id: str
    said: list[Said]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the company. identity: in the CRM; None for people who own no deals there.

    reports: from which day to whom. left_on: the first day of absence.
    """

    id: str
    name: str
    email: str
    role: str
    team: str | None
    reports: tuple[tuple[str, str], ...]
    identity: str | None
    time_zone: str
    currency: str
    left_on: str | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """A sales team and who leads it."""

    id: str
    name: str
    manager: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """The organisation's calendar. weekdays: 1 Monday … 7 Sunday. holidays: day → name."""

    time_zone: str
    fiscal_start_month: int
    weekdays: tuple[int, ...]
    holidays: dict[str, str]
    currency: str


@dataclass(frozen=True, slots=True)
class RateRow:
    """On `day` one unit of `source` was worth `rate` units of `target`, by that table."""

    table: str
    source: str
    target: str
    day: str
    rate: str


@dataclass(frozen=True, slots=True)
class StageRow:
    """What a stage means. exempt: its age never makes a deal stalled."""

    order: int
    status: str
    probability: str
    name: str
    stalled_after_days: int | None = None
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class StageMap:
    """What the stages of the pipeline mean from a day on (a day of the organisation's zone)."""

    effective_from: str
    stages: dict[str, StageRow]


@dataclass(frozen=True, slots=True)
class Quota:
    """A target of one person or one team. end: exclusive."""

    id: str
    person: str | None
    team: str | None
    measure: str
    period: str
    start: str
    end: str
    amount: str
    currency: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is paid by which plan. start and to: days, both included; to None: open."""

    id: str
    payee: str
    plan: str
    start: str
    to: str | None
    payout_currency: str


@dataclass(slots=True)
class History:
    """Everything that happened and everything it is judged by. plans: plan id → document."""

    year: int
    ends_ms: int
    calendar: Calendar
    people: list[Person] = field(default_factory=list)
    teams: list[Team] = field(default_factory=list)
    rates: list[RateRow] = field(default_factory=list)
    stage_maps: list[StageMap] = field(default_factory=list)
    quotas: list[Quota] = field(default_factory=list)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    deals: list[Deal] = field(default_factory=list)
    activities: list[Activity] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the history as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what `save` wrote."""
        return cls.from_document(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> History:
        """The history in a decoded JSON document."""
        calendar = document["calendar"]
        return cls(
            year=document["year"],
            ends_ms=document["ends_ms"],
            calendar=Calendar(**{**calendar, "weekdays": tuple(calendar["weekdays"])}),
            people=[
                Person(**{**row, "reports": tuple((day, boss) for day, boss in row["reports"])})
                for row in document["people"]
            ],
            teams=[Team(**row) for row in document["teams"]],
            rates=[RateRow(**row) for row in document["rates"]],
            stage_maps=[
                StageMap(
                    row["effective_from"],
                    {name: StageRow(**stage) for name, stage in row["stages"].items()},
                )
                for row in document["stage_maps"]
            ],
            quotas=[Quota(**row) for row in document["quotas"]],
            plans=document["plans"],
            assignments=[Assignment(**row) for row in document["assignments"]],
            deals=[
                Deal(row["id"], [Change(*change) for change in row["changes"]])
                for row in document["deals"]
            ],
            activities=[Activity(row["id"], _said(row)) for row in document["activities"]],
            leads=[Lead(row["id"], _said(row)) for row in document["leads"]],
        )


def _said(row: dict[str, Any]) -> list[Said]:
    return [Said(at_ms, fields) for at_ms, fields in row["said"]]
