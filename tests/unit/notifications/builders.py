"""Signals, recipients and messages with believable defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from services.notifications.domain.alerts import Alert, fold_signal
from services.notifications.domain.content import Content, content_of
from services.notifications.domain.deliveries import (
    Delivery,
    DeliveryStatus,
    MessageRef,
    Transition,
)
from services.notifications.domain.messages import Form, OutgoingMessage
from services.notifications.domain.routing import ChannelKind, People, Recipient, RouteReason
from services.notifications.domain.signals import (
    EpisodeState,
    Evidence,
    JsonValue,
    Signal,
    SignalKind,
)

MORNING = datetime(2026, 6, 3, 9, 0, tzinfo=UTC)
EPISODE = "5b1c7f8e-0000-4000-8000-000000000001"
BASE_URL = "https://attain.example.com"
HOSTILE = "<!channel> *bold* <https://evil.example|click> & <@U1>\r\nBcc: all@example.com"


def a_signal(  # noqa: PLR0913 - a builder names what a test may vary
    revision: int = 1,
    state: EpisodeState = EpisodeState.OPEN,
    *,
    title: str = "Acme renewal is stalled",
    person: str | None = "rep-1",
    team: str | None = "team-north",
    reasons: tuple[str, ...] = ("31 days in Proposal, limit 18",),
    facts: Mapping[str, JsonValue] | None = None,
    silent: bool = False,
    episode: str = EPISODE,
) -> Signal:
    """A stalled deal; later revisions are judged on later days."""
    judged_at = MORNING + timedelta(days=revision - 1)
    if facts is None:
        facts = {
            "pushes": 3,
            "stage": "Proposal",
            "days_in_stage": 31,
            "amount": {"amount": "12400", "currency": "EUR"},
        }
    return Signal(
        kind=SignalKind.DEAL_STALLED,
        episode=episode,
        state=state,
        revision=revision,
        subject="deal/hubspot:4821:307",
        title=title,
        person=person,
        team=team,
        opened_at=MORNING,
        judged_at=judged_at,
        closed_at=judged_at if state is EpisodeState.CLOSED else None,
        evidence=tuple(Evidence("stage_age", text, {"days": 31}) for text in reasons),
        facts=facts,
        silent=silent,
        summary=None,
    )


def an_alert(signal: Signal | None = None) -> Alert:
    """The alert that `signal` makes alone."""
    return fold_signal(None, signal or a_signal())


def a_recipient(
    key: str = "person/boss", *channels: ChannelKind, reason: RouteReason = RouteReason.MANAGER
) -> Recipient:
    """Somebody with an address on each of `channels`, by default on Slack."""
    addresses = {
        ChannelKind.SLACK: "U0BOSS",
        ChannelKind.EMAIL: "boss@example.com",
        ChannelKind.SLACK_WEBHOOK: "sales",
    }
    return Recipient(key, reason, {c: addresses[c] for c in channels or (ChannelKind.SLACK,)})


def people(  # noqa: PLR0913 - a builder names what a test may vary
    managers: Mapping[str, str] | None = None,
    *,
    team_managers: Mapping[str, str] | None = None,
    left: frozenset[str] = frozenset(),
    unreachable: frozenset[str] = frozenset(),
    sole: str | None = None,
    manager_of: Callable[[str, date], str | None] | None = None,
) -> People:
    """A company whose reporting lines are `managers`, everybody reachable on Slack."""
    lines, teams = managers or {}, team_managers or {}
    return People(
        manager_of=manager_of or (lambda person, _day: lines.get(person)),
        team_manager_of=lambda team, _day: teams.get(team),
        is_active=lambda person, _day: person not in left,
        sole_person=lambda _day: sole,
        addresses_of=lambda person: (
            {} if person in unreachable else {ChannelKind.SLACK: f"U0{person.upper()}"}
        ),
    )


def as_sent(delivery: Delivery) -> Delivery:
    """`delivery` after it arrived."""
    return replace(
        delivery,
        status=DeliveryStatus.SENT,
        attempts=1,
        ref=MessageRef(delivery.address, f"message-{delivery.revision}"),
    )


def a_message(  # noqa: PLR0913 - a builder names what a test may vary
    channel: ChannelKind,
    address: str,
    *,
    form: Form = Form.POST,
    ref: MessageRef | None = None,
    content: Content | None = None,
    transition: Transition = Transition.OPENED,
    delivery_id: str = "d-1",
) -> OutgoingMessage:
    """A message about the default alert."""
    return OutgoingMessage(
        delivery_id=delivery_id,
        channel=channel,
        address=address,
        form=form,
        ref=ref,
        content=content or content_of(an_alert(), transition, RouteReason.MANAGER, BASE_URL),
    )


def hostile_content() -> Content:
    """Content whose every CRM text tries to mention, link, format and forge headers."""
    signal = a_signal(title=HOSTILE, reasons=(HOSTILE,), facts={"<b>stage": HOSTILE})
    return content_of(an_alert(signal), Transition.OPENED, RouteReason.MANAGER, BASE_URL)
