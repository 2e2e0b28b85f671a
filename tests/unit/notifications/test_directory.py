"""Where people are reached, and the step that an alert takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.notifications.domain.deliveries import DeliveryStatus
from services.notifications.domain.directory import Directory, Places, Subscription
from services.notifications.domain.planning import Known, moved
from services.notifications.domain.routing import ChannelKind, RouteReason
from shared.clock import to_text
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.facts.fact import read_fact
from shared.facts.record import Record
from shared.org.people import Org
from tests.unit.notifications.builders import MORNING, a_signal, an_alert

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = MORNING.date()
WAIT = timedelta(minutes=1)
PLACES = Places(
    enabled=frozenset({ChannelKind.SLACK, ChannelKind.EMAIL}),
    default={ChannelKind.SLACK: "C0ALL"},
    by_team={"team-north": {ChannelKind.SLACK: "C0NORTH"}},
    fallback={ChannelKind.EMAIL: "fallback@example.com"},
)


def record(kind: str, record_id: str, **fields: object) -> Record:
    """A record with these fields from 2026 on."""
    made = Record()
    made.fold(
        read_fact(
            Envelope(
                id="e",
                source="/test",
                type=RECORD_KINDS[kind].type,
                subject=f"{kind}/{record_id}",
                time=to_text(SINCE),
                recordedtime=to_text(SINCE),
                sequence=sequence_of(SINCE),
                data=encode_data({"effective_from": "2026-01-01", **fields}),
            )
        )
    )
    return made


def directory(
    subscriptions: dict[str, Subscription] | None = None, *, people: tuple[str, ...] = ()
) -> Directory:
    """A rep, their boss and somebody else, or only those named."""
    known = {
        "rep-1": record("person", "rep-1", manager="boss", identities={"hubspot:1:7": True}),
        "boss": record("person", "boss", email="boss@example.com"),
        "peer": record("person", "peer", email="peer@example.com"),
    }
    chosen = {person: known[person] for person in people or known}
    return Directory(Org.build(chosen, {}, {}), subscriptions or {}, PLACES)


def addresses(found: Directory, team: str | None = "team-north") -> dict[ChannelKind, str]:
    """Where the boss hears about alerts of `team`."""
    return dict(found.addresses_of("boss", team, TODAY))


def test_without_a_subscription_it_is_mail_and_the_teams_place() -> None:
    assert addresses(directory()) == {
        ChannelKind.SLACK: "C0NORTH",
        ChannelKind.EMAIL: "boss@example.com",
    }
    assert addresses(directory(), "team-south")[ChannelKind.SLACK] == "C0ALL"
    assert addresses(directory(), None)[ChannelKind.SLACK] == "C0ALL"


def test_a_subscription_replaces_all_of_it() -> None:
    direct: Subscription = {ChannelKind.SLACK: "U0BOSS", ChannelKind.EMAIL: None}
    assert addresses(directory({"boss": direct})) == {
        ChannelKind.SLACK: "U0BOSS",
        ChannelKind.EMAIL: "boss@example.com",
    }
    assert addresses(directory({"boss": {}})) == {}
    assert addresses(directory({"boss": {ChannelKind.SLACK_WEBHOOK: "off"}})) == {}


def test_who_wants_nothing_is_passed_over_for_the_fallback() -> None:
    found = directory({"boss": {}}).recipients(a_signal(), TODAY)
    assert [recipient.reason for recipient in found] == [RouteReason.FALLBACK]


def test_the_only_person_hears_themselves() -> None:
    found = directory(people=("boss",)).recipients(a_signal(person="boss"), TODAY)
    assert [(r.key, r.reason) for r in found] == [("person/boss", RouteReason.OWN)]


def test_a_sources_id_is_its_person() -> None:
    signal = directory().resolved(a_signal(person="hubspot:1:7"))
    assert signal.person == "rep-1"
    assert directory().resolved(a_signal(person="hubspot:1:8")).person == "hubspot:1:8"


@pytest.mark.parametrize("people", [("boss",), ("rep-1",), ("rep-1", "peer")])
def test_a_manager_who_is_not_known_is_waited_for_and_then_another_hears(
    people: tuple[str, ...],
) -> None:
    """People come one by one: not the only one so far, nor the fallback, is told at once."""
    alert = an_alert(a_signal(team=None))
    known = Known(None, (), frozenset(), MORNING)
    company = directory(people=people)
    waiting = moved(known, alert, company, MORNING, WAIT)
    assert waiting.unrouted
    assert waiting.route_at == MORNING + WAIT
    assert [d.status for d in waiting.planned] == [DeliveryStatus.UNROUTABLE]

    again = Known(None, waiting.planned, frozenset(), MORNING)
    told = moved(again, alert, directory(), MORNING, WAIT)
    assert {d.reason for d in told.planned} == {RouteReason.MANAGER}
    late = moved(again, alert, company, MORNING + WAIT, WAIT)
    assert not late.unrouted
    assert late.route_at is None
    assert {d.reason for d in late.planned} <= {RouteReason.FALLBACK, RouteReason.OWN}
    assert [d.status for d in late.changed] == [DeliveryStatus.WITHDRAWN]


def test_a_message_on_its_way_is_not_withdrawn() -> None:
    first = moved(Known(None, (), frozenset(), MORNING), an_alert(), directory(), MORNING, WAIT)
    changed = an_alert(a_signal(2))
    flying = frozenset(
        (d.alert_id, d.channel, d.recipient)
        for d in first.planned
        if d.channel is ChannelKind.SLACK
    )
    for in_flight, withdrawn in ((frozenset(), 1), (flying, 0)):
        known = Known(an_alert(), first.planned, in_flight, MORNING)
        assert len(moved(known, changed, directory(), MORNING, WAIT).changed) == withdrawn
