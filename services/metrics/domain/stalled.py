"""Stalled deals (K17): any one rule is enough, and each that fires says why, with its limit.

Every rule is an instant from which it fires. So the verdict now is the rules whose instant has
come, and the next time at which the verdict can change by itself is the earliest that has not.
Days are of 24 hours; a close date has passed when its day is over in the organisation's zone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from services.metrics.domain.episodes import Detector, Evidence, JsonValue, Verdict
from shared.clock import from_epoch_ms, to_text
from shared.facts.deal import DealTimeline
from shared.facts.reference import OPEN
from shared.money import to_text as number_text
from shared.org.calendar import FiscalCalendar

DAY_MS = 86_400_000
MIN_SAMPLES = 20
"""Below this many, a median of stage ages says nothing and the configured days are the limit."""


class Rule(StrEnum):
    """What can fire."""

    STAGE_AGE = "stage_age"
    UNCHANGED = "unchanged"
    NO_ACTIVITY = "no_activity"
    CLOSE_DATE_PASSED = "close_date_passed"
    NEXT_STEP = "next_step"
    PUSHED = "pushed"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits in force, one version of dated configuration.

    stage_age_multiple: of the median stage age; by_segment overrides it (2.0 for enterprise).
    stage_age_days: the limit while there is no usable median and the stage states none.
    next_step_days: how long a deal may be without a next step. pushes: moves of the close date to a
    later day while in the current stage.
    rules: those that are judged.
    """

    stage_age_multiple: Decimal = Decimal("1.5")
    by_segment: Mapping[str, Decimal] = field(
        default_factory=lambda: {"enterprise": Decimal("2.0")}
    )
    stage_age_days: int = 30
    unchanged_days: int = 30
    activity_days: int = 14
    next_step_days: int = 7
    pushes: int = 2
    rules: frozenset[Rule] = frozenset(Rule)


@dataclass(frozen=True, slots=True)
class StageNorm:
    """The learned median age of a stage in a segment, frozen daily. samples: deals behind it."""

    median_days: Decimal
    samples: int


@dataclass(frozen=True, slots=True)
class Disposition:
    """Somebody's word that a deal is not stalled, until something meaningful changes."""

    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a deal besides its own record.

    last_activity_ms: the last activity that counts, None for never. planned_ms: due times of
    activities still to be done. team: the owner's.
    """

    last_activity_ms: int | None = None
    planned_ms: Collection[int] = ()
    segment: str | None = None
    norm: StageNorm | None = None
    disposition: Disposition | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class _Deadline:
    """A rule, the instant from which it fires, and what it then says."""

    rule: Rule
    at_ms: int
    text: str
    values: Mapping[str, str | None]


def stalled(
    deal: DealTimeline,
    around: Circumstances,
    thresholds: Thresholds,
    calendar: FiscalCalendar,
    now_ms: int,
) -> Verdict:
    """Whether a deal is stalled at `now_ms`, why, and when to look again.

    A deal that is closed, deleted, a test, merged, or told to be not stalled is not.
    """
    current = deal.current
    evidence: tuple[Evidence, ...] = ()
    next_due_ms = None
    judged = deal.counts and current is not None and current.status == OPEN
    if judged and not _suppressed(deal, around.disposition):
        deadlines = _deadlines(deal, around, thresholds, calendar)
        evidence = tuple(
            Evidence(d.rule.value, d.text, d.values) for d in deadlines if d.at_ms <= now_ms
        )
        next_due_ms = min((d.at_ms for d in deadlines if d.at_ms > now_ms), default=None)
    return Verdict(
        detector=Detector.DEAL_STALLED,
        subject=f"deal/{deal.deal_id}",
        title=f"{deal.name or deal.deal_id} is stalled",
        person=deal.owner,
        team=around.team,
        evidence=evidence,
        facts=_facts(deal, now_ms),
        next_due_ms=next_due_ms,
    )


def _suppressed(deal: DealTimeline, disposition: Disposition | None) -> bool:
    """A disposition holds until stage, amount or close date change after it."""
    if disposition is None:
        return False
    return deal.changed_ms is None or deal.changed_ms <= disposition.at_ms


def _born_ms(deal: DealTimeline) -> int:
    """Creation, or the first that was heard of it."""
    if deal.created_ms is not None:
        return deal.created_ms
    return deal.known_since_ms or 0


def _deadlines(
    deal: DealTimeline,
    around: Circumstances,
    thresholds: Thresholds,
    calendar: FiscalCalendar,
) -> list[_Deadline]:
    found = [
        _stage_age(deal, around, thresholds),
        _unchanged(deal, thresholds),
        _no_activity(deal, around, thresholds),
        _close_date_passed(deal, calendar),
        _next_step(deal, around, thresholds),
        _pushed(deal, thresholds),
    ]
    return [d for d in found if d is not None and d.rule in thresholds.rules]


def _stage_age(
    deal: DealTimeline, around: Circumstances, thresholds: Thresholds
) -> _Deadline | None:
    current = deal.current
    if current is None or current.stage_entered_ms is None:
        return None
    rule = current.rule
    if rule is not None and rule.exempt:
        return None
    norm = around.norm
    stage = current.stage if rule is None else rule.name
    if norm is not None and norm.samples >= MIN_SAMPLES:
        multiple = thresholds.by_segment.get(around.segment or "", thresholds.stage_age_multiple)
        limit_days = norm.median_days * multiple
        why = f"{number_text(multiple)} times the usual {_shown_days(norm.median_days)}"
        basis = "median"
    else:
        stated = None if rule is None else rule.stalled_after_days
        limit_days = Decimal(thresholds.stage_age_days if stated is None else stated)
        why, basis = "the configured limit", "configured"
    return _Deadline(
        Rule.STAGE_AGE,
        current.stage_entered_ms + int(limit_days * DAY_MS) + 1,
        f"In {stage} for more than {_shown_days(limit_days)} days, {why}",
        {
            "stage": current.stage,
            "entered_at": _at(current.stage_entered_ms),
            "limit_days": number_text(limit_days),
            "basis": basis,
            "samples": str(norm.samples) if norm is not None else "0",
        },
    )


def _unchanged(deal: DealTimeline, thresholds: Thresholds) -> _Deadline:
    since_ms = _born_ms(deal) if deal.changed_ms is None else deal.changed_ms
    days = thresholds.unchanged_days
    return _Deadline(
        Rule.UNCHANGED,
        since_ms + days * DAY_MS,
        f"No change of stage, amount or close date for {days} days",
        {"changed_at": _at(since_ms), "limit_days": str(days)},
    )


def _no_activity(deal: DealTimeline, around: Circumstances, thresholds: Thresholds) -> _Deadline:
    last_ms = around.last_activity_ms
    since_ms = _born_ms(deal) if last_ms is None else last_ms
    days = thresholds.activity_days
    never = ", and none ever" if last_ms is None else ""
    return _Deadline(
        Rule.NO_ACTIVITY,
        since_ms + days * DAY_MS,
        f"No activity for {days} days{never}",
        {
            "last_activity_at": None if last_ms is None else _at(last_ms),
            "since": _at(since_ms),
            "limit_days": str(days),
        },
    )


def _close_date_passed(deal: DealTimeline, calendar: FiscalCalendar) -> _Deadline | None:
    current = deal.current
    if current is None or current.close_date is None or current.close_date == date.max:
        return None
    return _Deadline(
        Rule.CLOSE_DATE_PASSED,
        calendar.start_ms(current.close_date + timedelta(days=1)),
        f"The close date {current.close_date.isoformat()} has passed",
        {"close_date": current.close_date.isoformat()},
    )


def _next_step(deal: DealTimeline, around: Circumstances, thresholds: Thresholds) -> _Deadline:
    """A dated step or a planned activity counts; a step without a date says nothing of when."""
    dated = list(around.planned_ms)
    if deal.next_step_ms is not None:
        dated.append(deal.next_step_ms)
    days = thresholds.next_step_days
    if dated:
        last_ms = max(dated)
        return _Deadline(
            Rule.NEXT_STEP,
            last_ms + 1,
            f"The next step was due on {from_epoch_ms(last_ms):%Y-%m-%d}",
            {"due_at": _at(last_ms)},
        )
    since_ms = _born_ms(deal)
    if deal.next_step is None and deal.next_step_said_ms is not None:
        since_ms = max(since_ms, deal.next_step_said_ms)
    return _Deadline(
        Rule.NEXT_STEP,
        since_ms + days * DAY_MS,
        f"No dated next step for {days} days",
        {"since": _at(since_ms), "limit_days": str(days), "next_step": deal.next_step},
    )


def _pushed(deal: DealTimeline, thresholds: Thresholds) -> _Deadline | None:
    """Pushes within the current stage: a deal that moves on is no longer stalled by old ones."""
    if deal.pushes_in_stage < thresholds.pushes:
        return None
    return _Deadline(
        Rule.PUSHED,
        0,
        f"The close date was pushed {deal.pushes_in_stage} times in this stage",
        {
            "pushes": str(deal.pushes_in_stage),
            "pushes_ever": str(deal.pushes),
            "limit": str(thresholds.pushes),
        },
    )


def _facts(deal: DealTimeline, now_ms: int) -> Mapping[str, JsonValue]:
    current = deal.current
    facts: dict[str, JsonValue] = {"owner": deal.owner}
    if deal.amount is not None and deal.currency is not None:
        facts["amount"] = {"amount": number_text(deal.amount), "currency": deal.currency}
    if current is not None:
        facts["stage"] = current.stage if current.rule is None else current.rule.name
        facts["status"] = current.status
        if current.stage_entered_ms is not None:
            facts["days_in_stage"] = max(0, now_ms - current.stage_entered_ms) // DAY_MS
        if current.close_date is not None:
            facts["close_date"] = current.close_date.isoformat()
    return facts


def _at(at_ms: int) -> str:
    return to_text(from_epoch_ms(at_ms))


def _shown_days(days: Decimal) -> str:
    """Days for a person: a tenth of a day is exact enough; the values keep the limit itself."""
    return number_text(days.quantize(Decimal("0.1")))
