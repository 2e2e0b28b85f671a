"""What people plan: terms of quotas, reliefs, goals, standards and objectives, on the journal.

Every event carries its subject's whole state; `revision` counts within the subject.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.events.catalogue import METRICS_JOURNAL, EventType
from shared.events.envelope import Instant
from shared.events.records import Day, Decimal_, ExternalId, Share, Text
from shared.events.targets import KpiName, MethodName

Actor = Annotated[
    str, msgspec.Meta(min_length=1, description="person id, or the subject of a machine's token")
]
Revision = Annotated[int, msgspec.Meta(ge=1)]
PeriodName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f|@/*]+\Z")
]
ReliefState = Literal["proposed", "approved", "refused", "withdrawn"]


class QuotaChangeData(msgspec.Struct, frozen=True, kw_only=True):
    """From a day on, the amount of the whole period is another one."""

    from_: Day = msgspec.field(name="from")
    amount: Decimal_
    reason: Text | None = None


class AwayData(msgspec.Struct, frozen=True, kw_only=True):
    """Days that do not count, both included."""

    from_: Day = msgspec.field(name="from")
    to: Day
    reason: Text | None = None


class TakenOffData(msgspec.Struct, frozen=True, kw_only=True):
    """A relief in a quota's figure. number: which. share: a fraction of the figure before it."""

    number: Revision
    amount: Decimal_ | None
    share: Share | None
    reason: Text
    before: Decimal_
    after: Decimal_


class QuotaTermsData(msgspec.Struct, frozen=True, kw_only=True):
    """How a quota's figure came about.

    amount: stated for the whole period. from, to: first and last day stated, both included.
    present_from, present_to: those counted with, where people's records narrow them. ramp: shares
    of the month of `ramp_from` and of those after it. rounding: of the figure, once, and of each
    relief, to the currency's minor unit.
    """

    amount: Decimal_
    method: MethodName
    from_: Day | None = msgspec.field(name="from", default=None)
    to: Day | None = None
    present_from: Day | None = None
    present_to: Day | None = None
    changes: list[QuotaChangeData] = []
    ramp: list[Share] = []
    ramp_from: Day | None = None
    leave: list[AwayData] = []
    reliefs: list[TakenOffData] = []
    rounding: Literal["half_up"] = "half_up"


class ReliefData(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be taken off a quota, as it is now: it counts once a second person approved.

    amount or share: the other null. before, after: the figure in force as it was decided on.
    one_seat: one person may ask and decide.
    """

    quota: ExternalId
    number: Revision
    amount: Decimal_ | None
    share: Share | None
    reason: Text
    state: ReliefState
    asked_by: Actor
    decided_by: Actor | None
    before: Decimal_ | None
    after: Decimal_ | None
    one_seat: bool
    revision: Revision
    actor: Actor


class ObjectiveData(msgspec.Struct, frozen=True, kw_only=True):
    """Something somebody is to reach in a period, as it is now, with its score where it has one.

    objective: the name by which plans pay it. weight: its share among the person's, as agreed;
    a plan's own weight is what pays. scorer: who scores; null is whoever the person reports to.
    score: a fraction, 1 is the whole objective. evidence: what the score rests on.
    """

    id: ExternalId
    objective: KpiName
    person: ExternalId
    period: PeriodName
    start: Day
    end: Day
    title: Text
    target: Text
    weight: Share | None
    scorer: ExternalId | None
    score: Decimal_ | None
    scored_at: Instant | None
    scored_by: Actor | None
    evidence: Text | None
    deleted: bool
    revision: Revision
    actor: Actor


class GoalData(msgspec.Struct, frozen=True, kw_only=True):
    """A goal, as it is now: a KPI that is to reach a target between two days [start, end).

    person or team: whose KPI; with neither, the organisation's. owner: who answers for it.
    parent: the goal that it serves.
    """

    id: ExternalId
    title: Text
    kpi: KpiName
    direction: Literal["at_least", "at_most"]
    target: Decimal_
    unit: Text
    start: Day
    end: Day
    person: ExternalId | None
    team: ExternalId | None
    owner: ExternalId
    parent: ExternalId | None
    deleted: bool
    revision: Revision
    actor: Actor


class StandardData(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of everybody of a role in each month, quarter, half or year.

    from, to: first and last day in force, both included; null: no end.
    """

    id: ExternalId
    title: Text
    role: Text
    kpi: KpiName
    direction: Literal["at_least", "at_most"]
    limit: Decimal_
    period: Literal["month", "quarter", "half", "year"]
    from_: Day = msgspec.field(name="from")
    to: Day | None
    deleted: bool
    revision: Revision
    actor: Actor


RELIEF = EventType("attain.relief.v1", METRICS_JOURNAL, ReliefData)
"""Key: `relief/<quota id>/<number>`."""
OBJECTIVE = EventType("attain.objective.v1", METRICS_JOURNAL, ObjectiveData)
"""Key: `objective/<id>`."""
GOAL = EventType("attain.goal.v1", METRICS_JOURNAL, GoalData)
"""Key: `goal/<id>`."""
STANDARD = EventType("attain.standard.v1", METRICS_JOURNAL, StandardData)
"""Key: `standard/<id>`."""

TARGET_JOURNALS = (RELIEF, OBJECTIVE, GOAL, STANDARD)
