"""The way out: claims what is due, sends it outside of any transaction, records how that ended.

A claim is a lease on the message's thread. A process that dies between sending and recording
leaves the lease to run out, and the message is sent once more: at least once, never lost.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Span, SpanContext, SpanKind

from services.notifications.channels.protocol import Channel
from services.notifications.domain.attempts import (
    MAX_RETRY_AFTER_S,
    Outcome,
    RetrySchedule,
    Verdict,
    after_attempt,
)
from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    overtaken,
    thread_ref,
    withdrawn,
)
from services.notifications.domain.messages import OutgoingMessage, message_for
from services.notifications.domain.routing import ChannelKind
from services.notifications.store import alerts as alerts_store
from services.notifications.store import deliveries as deliveries_store
from services.notifications.store import sending as sending_store
from services.notifications.store.sending import DueThread
from shared.clock import Clock
from shared.db.pool import DATABASE_ERRORS
from shared.runtime.failpoints import failpoint
from shared.runtime.tracing import cause_of
from shared.telemetry.traces import NO_TRACES, Key, failed

if TYPE_CHECKING:
    from datetime import datetime

    from shared.db.pool import Connection, Pool
    from shared.telemetry.catalogue import Telemetry

AT_ONCE = 8
"""Messages of one channel on their way at the same time."""

IDLE_S = 0.1
RETRY_S = 1.0

PACED = frozenset({ChannelKind.SLACK, ChannelKind.SLACK_WEBHOOK})


_OUTCOMES = {
    Verdict.SENT: "sent",
    Verdict.RETRY: "retried",
    Verdict.FAILED: "gave_up",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claim:
    """One message that this process alone may send while its lease lasts.

    cause: where the trace of what it tells about stands, if that is recorded.
    """

    thread_id: str
    lease: str
    delivery: Delivery
    message: OutgoingMessage
    cause: SpanContext | None = None


@dataclass(slots=True)
class Sender:
    """Sends one channel's deliveries. Several processes may run one each.

    lease: longer than the channel's own time limit. interval: between two messages to one place.
    base_url: where links in messages lead, None without links.
    """

    pool: Pool
    channel: Channel
    clock: Clock
    telemetry: Telemetry
    schedule: RetrySchedule
    lease: timedelta
    interval: timedelta
    base_url: str | None
    _flying: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due until `stop`, then wait for what is on its way."""
        while not stop.is_set():
            claims: list[Claim] = []
            try:
                if len(self._flying) < AT_ONCE:
                    claims = await self._claim(AT_ONCE - len(self._flying))
            except DATABASE_ERRORS as error:
                log.warning("deliver.retry", channel=self._kind, error=type(error).__name__)
                await _pause(stop, RETRY_S)
                continue
            for claim in claims:
                task = asyncio.create_task(self._deliver(claim))
                self._flying.add(task)
                task.add_done_callback(self._landed)
            if not claims:
                await _pause(stop, IDLE_S)
        if self._flying:
            await asyncio.wait(self._flying)

    @property
    def _kind(self) -> ChannelKind:
        return self.channel.kind

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease runs out and the message is tried again.
            log.error("deliver.failed", channel=self._kind, error=type(error).__name__)

    async def _claim(self, limit: int) -> list[Claim]:
        now = self.clock.now()
        paced = self._kind in PACED and self.interval > timedelta(0)
        async with self.pool.acquire() as tx, tx.transaction():
            due = await sending_store.lock_due_threads(
                tx, self._kind, now, limit=limit, per_place=1 if paced else limit
            )
            claims = [await self._claim_thread(tx, thread, now, paced=paced) for thread in due]
            return [claim for claim in claims if claim is not None]

    async def _claim_thread(
        self, tx: Connection, thread: DueThread, now: datetime, *, paced: bool
    ) -> Claim | None:
        """The newest pending step as a message, under a lease; steps with nothing to say end."""
        steps = await sending_store.deliveries_of_thread(tx, thread.thread_id)
        pending = [step for step in steps if step.status is DeliveryStatus.PENDING]
        if not pending:
            await sending_store.release_thread(tx, thread.thread_id, None)
            return None
        *older, newest = pending
        await deliveries_store.update_deliveries(tx, overtaken([newest], older), now)
        alerts = await alerts_store.load_alerts(tx, [thread.alert_id])
        ref = thread_ref(newest, steps)
        message = message_for(newest, alerts[thread.alert_id], ref, self.base_url)
        if message is None:
            await deliveries_store.update_deliveries(
                tx, [withdrawn(newest, "nothing had been sent")], now
            )
            await sending_store.release_thread(tx, thread.thread_id, None)
            return None
        if paced and not await sending_store.take_turn(
            tx, self._kind, thread.address, now, now + self.interval
        ):
            return None
        lease = uuid.uuid4().hex
        await sending_store.lease_thread(tx, thread.thread_id, lease, now + self.lease)
        cause = None
        if self.telemetry.traces.on:
            cause = await cause_of(tx, alerts[thread.alert_id].signal.subject)
        return Claim(thread.thread_id, lease, newest, message, cause)

    async def _deliver(self, claim: Claim) -> None:
        with self._span(claim) as span:
            outcome = await self._try(claim)
            span.set_attribute(Key.VERDICT, outcome.verdict.value)
            if outcome.verdict is not Verdict.SENT:
                failed(span, outcome.verdict.value)
        deadline = asyncio.get_running_loop().time() + self.lease.total_seconds()
        while True:
            try:
                await self._record(claim, outcome)
            except DATABASE_ERRORS as error:
                # What is not recorded is sent again: worth trying for as long as the lease lasts.
                log.warning("deliver.record_retry", error=type(error).__name__)
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _try(self, claim: Claim) -> Outcome:
        await failpoint("deliver.sending")
        outcome = await self.channel.send(claim.message)
        await failpoint("deliver.sent")
        self.telemetry.deliveries.labels(self._kind, _OUTCOMES[outcome.verdict]).inc()
        log.info(
            "deliver.tried",
            delivery=claim.delivery.delivery_id,
            channel=self._kind,
            verdict=outcome.verdict,
            reason=outcome.reason,
        )
        return outcome

    def _span(self, claim: Claim) -> AbstractContextManager[Span]:
        traces = NO_TRACES if claim.cause is None else self.telemetry.traces
        return traces.span(
            f"deliver {self._kind}",
            SpanKind.CLIENT,
            parent=claim.cause,
            attributes={Key.CHANNEL: self._kind.value, Key.DELIVERY: claim.delivery.delivery_id},
        )

    async def _record(self, claim: Claim, outcome: Outcome) -> None:
        now = self.clock.now()
        async with self.pool.acquire() as tx, tx.transaction():
            ours = await sending_store.lock_thread(tx, claim.thread_id) == claim.lease
            steps = await sending_store.deliveries_of_thread(tx, claim.thread_id)
            step = next(s for s in steps if s.delivery_id == claim.delivery.delivery_id)
            arrived = outcome.verdict is Verdict.SENT and step.status is not DeliveryStatus.SENT
            if arrived or (ours and step.status is DeliveryStatus.PENDING):
                tried = after_attempt(step, outcome, now, self.schedule)
                steps = await self._write(tx, steps, tried, now)
            if outcome.retry_after_s and self._kind in PACED:
                pause_s = min(outcome.retry_after_s, MAX_RETRY_AFTER_S)
                until = now + timedelta(seconds=pause_s)
                await sending_store.pause_place(tx, self._kind, claim.message.address, until)
            if ours:
                await sending_store.release_thread(tx, claim.thread_id, _next_due(steps, now))

    async def _write(
        self, tx: Connection, steps: list[Delivery], tried: Delivery, now: datetime
    ) -> list[Delivery]:
        """Write the tried step; when a newer one waits, it is not tried again itself."""
        waiting = tried.status is DeliveryStatus.PENDING
        newer = [
            s for s in steps if s.status is DeliveryStatus.PENDING and s.revision > tried.revision
        ]
        due_at = tried.due_at
        if waiting and newer:
            tried = overtaken(newer, [tried])[0]
        await deliveries_store.update_deliveries(tx, [tried], now)
        steps = [tried if s.delivery_id == tried.delivery_id else s for s in steps]
        if waiting and newer and due_at is not None:
            # The newer step inherits the pause that the receiver asked for.
            return [s if s not in newer else _not_before(s, due_at) for s in steps]
        return steps


def _not_before(step: Delivery, due_at: datetime) -> Delivery:
    return replace(step, due_at=due_at if step.due_at is None else max(step.due_at, due_at))


def _next_due(steps: list[Delivery], now: datetime) -> datetime | None:
    pending = [step for step in steps if step.status is DeliveryStatus.PENDING]
    return None if not pending else (pending[-1].due_at or now)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
