"""From a signal to one message on each channel, updated, followed up, and never doubled."""

from __future__ import annotations

import random
from functools import partial

from services.notifications.domain.signals import EpisodeState
from services.notifications.wiring import rebuild
from shared.events.catalogue import NOTIFICATIONS_DELIVERIES
from tests.integration.notifications.deployment import (
    COMPANY,
    Deployment,
    later,
    person_fact,
    texts,
    until,
)
from tests.unit.notifications.builders import a_signal

OPENED = a_signal(1)
CHANGED = a_signal(2, EpisodeState.CHANGED, title="Acme renewal is still stalled")
CLOSED = a_signal(3, EpisodeState.CLOSED, title="Acme renewal is still stalled")


def _slack_has(deployment: Deployment, count: int) -> bool:
    return len(deployment.slack.received) == count


async def test_an_episode_is_one_slack_message_and_one_mail_thread(deployment: Deployment) -> None:
    slack, mail = deployment.slack, deployment.mail
    async with deployment.consumer() as parts:
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(OPENED)
        await until(lambda: len(slack.received) == 1 and len(mail.received) == 1)
        assert slack.received[0].channel == "C0SALES"
        assert mail.received[0].recipients == ("boss@example.com",)
        assert "https://attain.example.com/alerts/" in mail.received[0].part("plain")

        await deployment.say(CHANGED)
        await until(lambda: len(slack.received) == 2)
        await deployment.say(CLOSED)
        await until(lambda: len(slack.received) == 3 and len(mail.received) == 2)
        await deployment.settled()

        assert len(slack.messages) == 1
        assert texts(slack.received) == [
            "Acme renewal is stalled",
            "Acme renewal is still stalled",
            "Resolved: Acme renewal is still stalled",
        ]
        # A mail cannot change: it is answered once, at the end.
        first, second = (received.message for received in mail.received)
        assert second["In-Reply-To"] == first["Message-ID"]
        assert await deployment.statuses() == [
            ("email", "opened", "sent"),
            ("email", "resolved", "sent"),
            ("slack", "changed", "sent"),
            ("slack", "opened", "sent"),
            ("slack", "resolved", "sent"),
        ]
        sent = parts.telemetry.deliveries.labels("slack", "sent")
        assert sent._value.get() == 3
        log = await deployment.published(NOTIFICATIONS_DELIVERIES, 10)
    states = {(e["data"]["channel"], e["data"]["transition"], e["data"]["status"]) for e in log}
    assert ("slack", "resolved", "sent") in states
    assert "boss@example.com" not in str(log)


async def test_duplicates_and_disorder_tell_the_same(deployment: Deployment) -> None:
    await deployment.send(*COMPANY)
    said = [OPENED, CHANGED, CLOSED] * 3
    random.Random(3).shuffle(said)
    other = later(a_signal(1, title="Beta is stalled"), "another-episode")
    async with deployment.consumer():
        await deployment.consumed()
        await deployment.say(*said, other, other)
        await deployment.consumed()
        await deployment.settled()
        await until(lambda: len(deployment.mail.received) >= 1)
    rows = await deployment.rows("SELECT state, revision FROM alert ORDER BY episode")
    assert [(row["state"], row["revision"]) for row in rows] == [("resolved", 3), ("open", 1)]
    shown = {key: str(states[-1]["text"]) for key, states in deployment.slack.messages.items()}
    beta = [text for text in shown.values() if text.startswith("Beta")]
    acme = [text for text in shown.values() if "Acme" in text]
    assert len(beta) == 1
    # Told at most once, and if so, told that it is over.
    assert len(acme) <= 1
    assert all(text.startswith("Resolved: ") for text in acme)


async def test_a_rebuild_sends_nothing_again(deployment: Deployment) -> None:
    quiet = later(a_signal(1, title="Beta is stalled"), "another-episode")
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        for count, said in enumerate([OPENED, CHANGED, CLOSED, quiet], start=1):
            await deployment.say(said)
            await until(partial(_slack_has, deployment, count))
        await deployment.settled()
        before = len(deployment.slack.received), len(deployment.mail.received)
        alerts = await deployment.rows("SELECT * FROM alert ORDER BY number")
        people = await deployment.rows("SELECT * FROM record ORDER BY kind, id")

    async with deployment.parts() as parts:
        await rebuild(parts)
    assert await deployment.rows("SELECT * FROM record") == []
    async with deployment.consumer():
        await deployment.consumed()
        await deployment.settled()
    assert (len(deployment.slack.received), len(deployment.mail.received)) == before
    assert await deployment.rows("SELECT * FROM alert ORDER BY number") == alerts
    assert await deployment.rows("SELECT * FROM record ORDER BY kind, id") == people


async def test_a_silent_episode_is_recorded_and_told_to_nobody(deployment: Deployment) -> None:
    await deployment.send(*COMPANY)
    async with deployment.consumer():
        await deployment.consumed()
        await deployment.say(
            a_signal(1, silent=True), a_signal(2, EpisodeState.CHANGED, silent=True)
        )
        await deployment.consumed()
    rows = await deployment.rows("SELECT state, unrouted FROM alert")
    assert [(row["state"], row["unrouted"]) for row in rows] == [("open", False)]
    assert await deployment.statuses() == []


async def test_a_signal_waits_for_its_people(deployment: Deployment) -> None:
    deployment.settings["FALLBACK_EMAIL"] = "fallback@example.com"
    async with deployment.consumer():
        await deployment.say(OPENED)
        await deployment.consumed()
        assert await deployment.statuses() == [("", "opened", "unroutable")]
        rows = await deployment.rows("SELECT unrouted FROM alert")
        assert rows[0]["unrouted"] is True

        await deployment.send(*COMPANY)
        await until(lambda: len(deployment.mail.received) == 1)
        await deployment.settled()
    assert deployment.mail.received[0].recipients == ("boss@example.com",)
    assert len(deployment.slack.received) == 1
    assert await deployment.statuses() == [
        ("", "opened", "withdrawn"),
        ("email", "opened", "sent"),
        ("slack", "opened", "sent"),
    ]


async def test_nobody_known_in_time_is_the_fallbacks(deployment: Deployment) -> None:
    deployment.settings |= {"FALLBACK_EMAIL": "fallback@example.com", "PEOPLE_WAIT_S": "0.5"}
    async with deployment.consumer():
        await deployment.say(OPENED)
        await until(lambda: len(deployment.mail.received) == 1)
    assert deployment.mail.received[0].recipients == ("fallback@example.com",)


async def test_without_a_channel_alerts_wait_until_there_is_one(deployment: Deployment) -> None:
    configured = dict(deployment.settings)
    off = ("SLACK_TOKEN", "SLACK_DEFAULT_CHANNEL", "SMTP_HOST")
    deployment.settings |= dict.fromkeys(off, "")
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.say(OPENED)
        await deployment.consumed()
        assert await deployment.statuses() == [("", "opened", "unroutable")]
    deployment.settings = configured
    async with deployment.consumer():
        await until(lambda: len(deployment.mail.received) == 1)
        await until(lambda: len(deployment.slack.received) == 1)


async def test_a_new_reporting_line_hands_the_alert_over(deployment: Deployment) -> None:
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(OPENED)
        await until(lambda: len(deployment.mail.received) == 1)
        # From the day of the second judgement on somebody else is the manager.
        moved = person_fact("rep-1", manager="peer", effective_from="2026-06-04")
        await deployment.send(moved)
        await deployment.consumed()
        await deployment.say(CHANGED)
        await until(lambda: len(deployment.mail.received) == 3)
    told = {m.recipients[0]: str(m.message["Subject"]) for m in deployment.mail.received}
    assert told["peer@example.com"] == "Acme renewal is still stalled"
    assert told["boss@example.com"].startswith("Handed over")
