"""What is planned for which move of an alert, and what becomes of each try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.notifications.domain.alerts import Alert, fold_signal
from services.notifications.domain.attempts import (
    MAX_RETRY_AFTER_S,
    STANDARD_SCHEDULE,
    Outcome,
    RetrySchedule,
    Verdict,
    after_attempt,
)
from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    MessageRef,
    Transition,
    overtaken,
    plan_deliveries,
    thread_ref,
)
from services.notifications.domain.messages import Form, message_for
from services.notifications.domain.routing import ChannelKind, Recipient
from services.notifications.domain.signals import EpisodeState, Signal
from tests.unit.notifications.builders import (
    BASE_URL,
    MORNING,
    a_recipient,
    a_signal,
    an_alert,
    as_sent,
)

BOTH = a_recipient("person/boss", ChannelKind.SLACK, ChannelKind.EMAIL)
OPENED = an_alert(a_signal(1))
CHANGED = an_alert(a_signal(2, EpisodeState.CHANGED))
RESOLVED = an_alert(a_signal(3, EpisodeState.CLOSED))


def told(deliveries: Sequence[Delivery]) -> list[tuple[str, str | None, str]]:
    """Recipient, channel and transition of each."""
    return sorted((d.recipient, d.channel, d.transition) for d in deliveries)


def sent_opening(*recipients: Recipient) -> list[Delivery]:
    """The deliveries of an opening that arrived."""
    return [as_sent(d) for d in plan_deliveries(None, OPENED, recipients, [])]


def test_an_opening_tells_each_channel_once() -> None:
    planned = plan_deliveries(None, OPENED, [BOTH], [])
    assert told(planned) == [
        ("person/boss", "email", "opened"),
        ("person/boss", "slack", "opened"),
    ]
    assert {d.status for d in planned} == {DeliveryStatus.PENDING}


def test_a_replay_plans_the_same_rows_and_nothing_new() -> None:
    first = plan_deliveries(None, OPENED, [BOTH], [])
    assert plan_deliveries(None, OPENED, [BOTH], []) == first
    assert plan_deliveries(None, OPENED, [BOTH], first) == []
    assert plan_deliveries(OPENED, OPENED, [BOTH], []) == []


def test_a_change_updates_slack_and_spares_the_mailbox() -> None:
    planned = plan_deliveries(OPENED, CHANGED, [BOTH], sent_opening(BOTH))
    assert told(planned) == [("person/boss", "slack", "changed")]


def test_a_resolution_updates_slack_and_follows_up_by_mail_once() -> None:
    sent = sent_opening(BOTH)
    planned = plan_deliveries(OPENED, RESOLVED, [BOTH], sent)
    assert told(planned) == [
        ("person/boss", "email", "resolved"),
        ("person/boss", "slack", "resolved"),
    ]
    sent += [as_sent(d) for d in planned]
    again = an_alert(a_signal(4, EpisodeState.CLOSED))
    assert told(plan_deliveries(RESOLVED, again, [BOTH], sent)) == [
        ("person/boss", "slack", "resolved")
    ]


def test_a_resolution_reaches_those_who_were_told_and_not_those_who_would_be() -> None:
    planned = plan_deliveries(OPENED, RESOLVED, [a_recipient("person/new")], sent_opening(BOTH))
    assert {d.recipient for d in planned} == {"person/boss"}
    assert plan_deliveries(None, RESOLVED, [BOTH], []) == []


def test_a_new_manager_is_told_and_the_old_one_released() -> None:
    old, new = BOTH, a_recipient("person/new")
    sent = sent_opening(old)
    planned = plan_deliveries(OPENED, CHANGED, [new], sent)
    assert told(planned) == [
        ("person/boss", "email", "handed_over"),
        ("person/boss", "slack", "handed_over"),
        ("person/new", "slack", "opened"),
    ]
    sent += [as_sent(d) for d in planned]
    closing = plan_deliveries(CHANGED, RESOLVED, [new], sent)
    assert told(closing) == [("person/new", "slack", "resolved")]
    back = plan_deliveries(CHANGED, an_alert(a_signal(4)), [old], sent)
    assert ("person/boss", "email", "opened") in told(back)


def test_a_silent_opening_is_told_to_nobody_until_it_speaks() -> None:
    silent = an_alert(a_signal(1, silent=True))
    assert plan_deliveries(None, silent, [BOTH], []) == []
    assert plan_deliveries(None, silent, [], []) == []
    assert plan_deliveries(silent, RESOLVED, [BOTH], []) == []
    assert told(plan_deliveries(silent, CHANGED, [a_recipient()], [])) == [
        ("person/boss", "slack", "opened")
    ]


def test_nobody_to_tell_is_visible_once() -> None:
    planned = plan_deliveries(None, OPENED, [], [])
    assert [d.status for d in planned] == [DeliveryStatus.UNROUTABLE]
    assert planned[0].channel is None
    assert plan_deliveries(OPENED, CHANGED, [], planned) == []
    later = plan_deliveries(OPENED, CHANGED, [a_recipient()], planned)
    assert told(later) == [("person/boss", "slack", "opened")]


def test_a_failed_opening_is_tried_again_when_the_alert_changes() -> None:
    failed = [replace(d, status=DeliveryStatus.FAILED) for d in sent_opening(BOTH)]
    planned = plan_deliveries(OPENED, CHANGED, [BOTH], failed)
    assert {d.transition for d in planned} == {Transition.OPENED}


def test_a_newer_step_overtakes_a_waiting_one_and_keeps_its_pause() -> None:
    pause = MORNING + timedelta(minutes=5)
    waiting = [
        replace(d, due_at=pause, attempts=1)
        for d in plan_deliveries(None, OPENED, [a_recipient()], [])
    ]
    planned = plan_deliveries(OPENED, CHANGED, [a_recipient()], waiting)
    assert [d.due_at for d in planned] == [pause]
    gone = overtaken(planned, waiting)
    assert [d.status for d in gone] == [DeliveryStatus.WITHDRAWN]
    assert gone[0].delivery_id == waiting[0].delivery_id
    assert overtaken(planned, sent_opening(a_recipient())) == []


def test_the_form_is_decided_when_sending() -> None:
    opening, change = sent_opening(BOTH), plan_deliveries(None, CHANGED, [BOTH], [])
    by_channel = {d.channel: d for d in change}
    slack, mail = by_channel[ChannelKind.SLACK], by_channel[ChannelKind.EMAIL]
    update = message_for(slack, CHANGED, thread_ref(slack, opening), BASE_URL)
    follow_up = message_for(mail, CHANGED, thread_ref(mail, opening), BASE_URL)
    assert update is not None
    assert follow_up is not None
    assert (update.form, follow_up.form) == (Form.UPDATE, Form.FOLLOW_UP)
    first = message_for(slack, CHANGED, None, BASE_URL)
    assert first is not None
    assert (first.form, first.ref) == (Form.POST, None)


def test_a_resolution_of_what_never_went_out_says_nothing() -> None:
    waiting = plan_deliveries(None, OPENED, [a_recipient()], [])
    resolution = plan_deliveries(OPENED, RESOLVED, [a_recipient()], waiting)
    assert told(resolution) == [("person/boss", "slack", "resolved")]
    assert message_for(resolution[0], RESOLVED, None, BASE_URL) is None


def test_one_message_a_recipient_whatever_the_signals() -> None:
    """Walk whole lives of an episode: Slack posts once, mail at most opens and closes."""
    life: list[Signal] = [
        a_signal(1),
        a_signal(2, EpisodeState.CHANGED),
        a_signal(2, EpisodeState.CHANGED),
        a_signal(1),
        a_signal(4, EpisodeState.CLOSED),
        a_signal(3, EpisodeState.CHANGED),
    ]
    alert: Alert | None = None
    log: list[Delivery] = []
    forms: list[tuple[ChannelKind, Form]] = []
    for signal in life:
        after = fold_signal(alert, signal)
        for delivery in plan_deliveries(alert, after, [BOTH], log):
            message = message_for(delivery, after, thread_ref(delivery, log), BASE_URL)
            assert message is not None
            forms.append((message.channel, message.form))
            log.append(as_sent(delivery))
        alert = after
    assert forms == [
        (ChannelKind.EMAIL, Form.POST),
        (ChannelKind.SLACK, Form.POST),
        (ChannelKind.SLACK, Form.UPDATE),
        (ChannelKind.EMAIL, Form.FOLLOW_UP),
        (ChannelKind.SLACK, Form.UPDATE),
    ]
    assert len({d.delivery_id for d in log}) == len(log)


def a_delivery() -> Delivery:
    """A pending one."""
    return plan_deliveries(None, OPENED, [a_recipient()], [])[0]


def test_a_sent_delivery_remembers_its_message() -> None:
    ref = MessageRef("D0BOSS", "1.2")
    done = after_attempt(a_delivery(), Outcome(Verdict.SENT, ref=ref), MORNING)
    assert (done.status, done.ref, done.attempts) == (DeliveryStatus.SENT, ref, 1)
    assert done.attempted_at == MORNING


def test_pauses_grow_to_an_hour_and_then_it_is_given_up() -> None:
    delivery, now, pauses = a_delivery(), MORNING, []
    while delivery.status is DeliveryStatus.PENDING:
        delivery = after_attempt(delivery, Outcome(Verdict.RETRY, "http 503"), now)
        if delivery.due_at is not None:
            pauses.append((delivery.due_at - now).total_seconds())
            now = delivery.due_at
    assert 5 <= pauses[0] <= 5.5
    assert 3600 <= pauses[-1] <= 3960
    assert len(pauses) == STANDARD_SCHEDULE.max_attempts - 1
    assert delivery.status is DeliveryStatus.FAILED
    assert delivery.detail == "given up after 16 tries; last: http 503"


@pytest.mark.parametrize(
    ("asked_s", "waited_s"), [(120.0, 120.0), (0.0, 5.0), (1e9, MAX_RETRY_AFTER_S)]
)
def test_the_receivers_pause_counts_when_it_is_longer(asked_s: float, waited_s: float) -> None:
    outcome = Outcome(Verdict.RETRY, "ratelimited", retry_after_s=asked_s)
    waiting = after_attempt(a_delivery(), outcome, MORNING)
    assert waiting.due_at is not None
    assert waited_s <= (waiting.due_at - MORNING).total_seconds() <= waited_s * 1.1


def test_a_refusal_is_final() -> None:
    outcome = Outcome(Verdict.FAILED, "channel_not_found")
    failed = after_attempt(a_delivery(), outcome, MORNING, RetrySchedule((1,), 2))
    assert (failed.status, failed.detail) == (DeliveryStatus.FAILED, "channel_not_found")
    assert failed.due_at is None
