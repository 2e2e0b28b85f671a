"""What goes wrong on the way out: limits, servers away, a process killed in the middle."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial

import pytest

from services.notifications.domain.signals import EpisodeState
from tests.integration.notifications.deployment import COMPANY, Deployment, later, texts, until
from tests.support.slack_server import Fault, rate_limited
from tests.unit.notifications.builders import a_signal

EPISODES = 5


async def _has_tried(deployment: Deployment) -> bool:
    return bool(await deployment.rows("SELECT 1 FROM place_pace"))


async def test_a_rate_limit_is_waited_for(deployment: Deployment) -> None:
    deployment.slack.fail_next(rate_limited(2))
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        started = time.monotonic()
        await deployment.say(a_signal(1))
        await until(partial(_has_tried, deployment))
        # Another message to that place keeps the pause too.
        await deployment.say(later(a_signal(1, title="Beta is stalled"), "another-episode"))
        await deployment.consumed()
        await asyncio.sleep(0.5)
        assert deployment.slack.requests == 1
        await until(lambda: len(deployment.slack.received) == 2)
        await deployment.settled()
    assert time.monotonic() - started >= 2
    assert deployment.slack.requests == 3
    rows = await deployment.rows("SELECT attempts FROM delivery WHERE channel = 'slack'")
    assert sorted(row["attempts"] for row in rows) == [1, 2]


async def test_a_server_that_was_away_gets_everything_once(deployment: Deployment) -> None:
    port = deployment.mail.port
    await deployment.mail.stop()
    deployment.slack.fail_next(*[Fault(status=503)] * 2)
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(*(later(a_signal(1), f"episode-{n}") for n in range(EPISODES)))
        await until(lambda: len(deployment.slack.received) == EPISODES)
        await asyncio.sleep(1)
        assert {status for _, _, status in await deployment.statuses()} == {"pending", "sent"}
        deployment.mail.port = port
        await deployment.mail.start()
        await deployment.settled()
    assert len(deployment.mail.received) == EPISODES
    assert len({str(m.message["Message-ID"]) for m in deployment.mail.received}) == EPISODES


async def test_a_change_while_the_server_is_away_becomes_one_message(
    deployment: Deployment,
) -> None:
    deployment.slack.fail_next(Fault(status=503))
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(a_signal(1))
        await until(lambda: deployment.slack.requests == 1)
        await deployment.say(a_signal(2, EpisodeState.CHANGED, title="Worse"))
        await deployment.settled()
    assert texts(deployment.slack.received) == ["Worse"]
    assert ("slack", "opened", "withdrawn") in await deployment.statuses()


async def test_a_change_while_a_message_is_on_its_way_updates_it(deployment: Deployment) -> None:
    deployment.slack.fail_next(Fault(hang_after_s=1.0))
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(a_signal(1))
        await until(lambda: len(deployment.slack.received) == 1)
        await deployment.say(a_signal(2, EpisodeState.CHANGED, title="Worse"))
        await deployment.consumed()
        await until(lambda: len(deployment.slack.received) == 2)
        await deployment.settled()
    assert [entry.method for entry in deployment.slack.received] == [
        "chat.postMessage",
        "chat.update",
    ]
    assert len(deployment.slack.messages) == 1


async def test_one_place_is_not_flooded(deployment: Deployment) -> None:
    deployment.settings["SLACK_INTERVAL_S"] = "0.4"
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        started = time.monotonic()
        await deployment.say(*(later(a_signal(1), f"episode-{n}") for n in range(EPISODES)))
        await deployment.settled()
    assert time.monotonic() - started >= 0.4 * (EPISODES - 1)
    assert len(deployment.slack.received) == EPISODES


@pytest.mark.parametrize("place", ["deliver.sending", "deliver.sent"])
async def test_a_kill_while_sending_repeats_at_most_one_and_loses_none(
    deployment: Deployment, place: str
) -> None:
    """One message after the other to one place; the process dies at the third, another goes on."""
    deployment.settings |= {"SMTP_HOST": "", "SLACK_INTERVAL_S": "0.3"}
    async with deployment.consumer():
        for number in range(EPISODES):
            await deployment.say(later(a_signal(1, title=f"Deal {number}"), f"episode-{number}"))
        await deployment.consumed()
    # They were heard and found nobody; now people come, and all of them are due at once.
    await deployment.send(*COMPANY)
    async with deployment.process("consumer", ATTAIN_FAILPOINTS=f"{place}=kill@3") as first:
        assert await asyncio.wait_for(first.wait(), 30) == -signal.SIGKILL
    async with deployment.process("consumer"):
        await deployment.settled()
    titles = texts(deployment.slack.received)
    assert set(titles) == {f"Deal {number}" for number in range(EPISODES)}
    # Killed after sending, the third arrives twice; before, nothing does.
    assert len(titles) == EPISODES + (place == "deliver.sent")


async def test_two_processes_send_each_message_once(deployment: Deployment) -> None:
    await deployment.send(*COMPANY)
    count = 40
    async with deployment.consumer(), deployment.consumer():
        await deployment.consumed()
        await deployment.say(
            *(later(a_signal(1, title=f"Deal {n}"), f"e-{n}") for n in range(count))
        )
        await deployment.consumed()
        await deployment.settled()
    assert sorted(texts(deployment.slack.received)) == sorted(f"Deal {n}" for n in range(count))
    assert len(deployment.mail.received) == count
