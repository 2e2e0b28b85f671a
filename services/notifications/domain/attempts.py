"""What becomes of a delivery after a try: sent, tried again later, or failed for good."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from services.notifications.domain.deliveries import Delivery, DeliveryStatus, MessageRef

MAX_RETRY_AFTER_S = 86_400.0
"""A receiver may ask for up to a day of silence; a longer wish is a mistake and is cut to it."""

SPREAD = 0.1
"""Fraction of a delay added at most, so that all that failed together does not return together."""


class Verdict(StrEnum):
    """How one try ended. `retry` covers an unknown end too: the channel says so in the reason."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a channel says about one try.

    reason: for people and the delivery log; never a secret, never a receiver's raw text unbounded.
    retry_after_s: the pause that the receiver asked for, >= 0.
    """

    verdict: Verdict
    reason: str = ""
    ref: MessageRef | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Pauses after the 1st, 2nd, ... failed try, in seconds; the last one repeats.

    max_attempts: tries in all, the first one included, >= 1.
    """

    delays_s: tuple[int, ...]
    max_attempts: int


STANDARD_SCHEDULE = RetrySchedule(
    delays_s=(5, 15, 60, 300, 900, 1800, 3600),
    max_attempts=16,
)
"""5 s to 1 h, for ten hours and a half in all: a receiver's bad night is survived."""


def after_attempt(
    delivery: Delivery,
    outcome: Outcome,
    now: datetime,
    schedule: RetrySchedule = STANDARD_SCHEDULE,
) -> Delivery:
    """`delivery` after a try that ended at `now` with `outcome`.

    The next try is due after the schedule's pause or the receiver's, whichever is longer.
    """
    tried = replace(
        delivery,
        attempts=delivery.attempts + 1,
        attempted_at=now,
        due_at=None,
        detail=outcome.reason,
    )
    match outcome.verdict:
        case Verdict.SENT:
            return replace(tried, status=DeliveryStatus.SENT, ref=outcome.ref)
        case Verdict.FAILED:
            return replace(tried, status=DeliveryStatus.FAILED)
        case Verdict.RETRY:
            if tried.attempts >= schedule.max_attempts:
                detail = f"given up after {tried.attempts} tries; last: {outcome.reason}"
                return replace(tried, status=DeliveryStatus.FAILED, detail=detail)
            return replace(tried, due_at=now + _pause(tried, outcome, schedule))
        case _:
            assert_never(outcome.verdict)


def _pause(tried: Delivery, outcome: Outcome, schedule: RetrySchedule) -> timedelta:
    step = min(tried.attempts, len(schedule.delays_s)) - 1
    # The spread comes from the id, not from chance: the core gives the same answer every time.
    cause = f"{tried.delivery_id}/{tried.attempts}".encode()
    fraction = hashlib.sha256(cause).digest()[0] / 255
    scheduled_s = schedule.delays_s[step] * (1 + SPREAD * fraction)
    asked_s = min(max(outcome.retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)
    return timedelta(seconds=max(scheduled_s, asked_s))
