"""The Slack channels against a local Slack."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from services.notifications.channels.protocol import Channel
from services.notifications.channels.slack import (
    SlackApiChannel,
    SlackWebhookChannel,
    checked_api_url,
    checked_webhook_url,
    slack_session,
)
from services.notifications.domain.attempts import Verdict
from services.notifications.domain.deliveries import MessageRef, Transition
from services.notifications.domain.messages import Form
from services.notifications.domain.routing import ChannelKind
from shared.errors import Misconfigured
from tests.support.slack_server import TOKEN, Fault, SlackServer, rate_limited, texts_of
from tests.unit.notifications.builders import HOSTILE, a_message, hostile_content

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[SlackServer]:
    """A local Slack."""
    async with SlackServer() as server:
        yield server


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session that channels share."""
    async with slack_session() as shared:
        yield shared


def api(slack: SlackServer, session: aiohttp.ClientSession, token: str = TOKEN) -> Channel:
    """A bot channel that talks to the local Slack."""
    return SlackApiChannel(
        session,
        token,
        base_url=slack.api_url,
        allow_insecure_slack_base_url=True,
        timeout_s=0.5,
    )


def webhook(slack: SlackServer, session: aiohttp.ClientSession, url: str = "") -> Channel:
    """A webhook channel named `sales` that talks to the local Slack."""
    return SlackWebhookChannel(
        session,
        {"sales": url or slack.hook_url},
        allow_insecure_slack_base_url=True,
        timeout_s=0.5,
    )


POST = a_message(ChannelKind.SLACK, "U0BOSS")
HOOK = a_message(ChannelKind.SLACK_WEBHOOK, "sales")


async def test_a_posted_message_says_all(
    slack: SlackServer, session: aiohttp.ClientSession
) -> None:
    outcome = await api(slack, session).send(POST)
    assert outcome.verdict is Verdict.SENT
    body = slack.received[0].body
    assert "Acme renewal is stalled" in str(body["text"])
    shown = texts_of(body)
    for text in ("12,400.00 EUR", "Proposal", "31 days in Proposal, limit 18"):
        assert text in shown
    assert any("|Open in Attain>" in text for text in shown)


async def test_an_update_changes_the_same_message(
    slack: SlackServer, session: aiohttp.ClientSession
) -> None:
    channel = api(slack, session)
    posted = await channel.send(POST)
    assert posted.ref is not None
    # A message to a user lives in a conversation of another id, which the update must name.
    assert posted.ref.place == "D0BOSS"
    update = a_message(
        ChannelKind.SLACK,
        "U0BOSS",
        form=Form.UPDATE,
        ref=posted.ref,
        transition=Transition.RESOLVED,
    )
    updated = await channel.send(update)
    assert (updated.verdict, updated.ref) == (Verdict.SENT, posted.ref)
    states = slack.messages[posted.ref.place, posted.ref.message]
    assert len(slack.messages) == 1
    assert [str(state["text"]).split(":")[0] for state in states][-1] == "Resolved"


async def test_a_message_that_may_not_be_edited_is_answered(
    slack: SlackServer, session: aiohttp.ClientSession
) -> None:
    channel = api(slack, session)
    posted = await channel.send(POST)
    slack.fail_next(Fault(error="edit_window_closed"))
    update = a_message(ChannelKind.SLACK, "U0BOSS", form=Form.UPDATE, ref=posted.ref)
    outcome = await channel.send(update)
    assert (outcome.verdict, outcome.ref) == (Verdict.SENT, posted.ref)
    assert posted.ref is not None
    assert slack.received[-1].body["thread_ts"] == posted.ref.message


@pytest.mark.parametrize("make", [api, webhook])
async def test_a_rate_limit_asks_for_its_pause_and_is_not_slept_through(
    slack: SlackServer, session: aiohttp.ClientSession, make: object
) -> None:
    channel = make(slack, session)  # type: ignore[operator]
    message = POST if channel.kind is ChannelKind.SLACK else HOOK
    slack.fail_next(rate_limited(30))
    outcome = await channel.send(message)
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "ratelimited")
    assert outcome.retry_after_s == 30
    assert slack.requests == 1
    assert (await channel.send(message)).verdict is Verdict.SENT


@pytest.mark.parametrize("make", [api, webhook])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(status=503, body="<html>busy</html>"), (Verdict.RETRY, "")),
        (Fault(status=500, error="internal_error"), (Verdict.RETRY, "internal_error")),
        (Fault(status=404, error="no_service"), (Verdict.RETRY, "no_service")),
        (Fault(status=410, error="channel_is_archived"), (Verdict.FAILED, "channel_is_archived")),
        (Fault(hang_s=5), (Verdict.RETRY, "no answer within 0.5 s; the message may have arrived")),
        (Fault(status=302, location="/services/elsewhere"), (Verdict.RETRY, "RedirectRefused")),
    ],
)
async def test_refusals_are_told_apart(
    slack: SlackServer,
    session: aiohttp.ClientSession,
    make: object,
    fault: Fault,
    expected: tuple[Verdict, str],
) -> None:
    channel = make(slack, session)  # type: ignore[operator]
    slack.fail_next(fault)
    outcome = await channel.send(POST if channel.kind is ChannelKind.SLACK else HOOK)
    assert outcome.verdict is expected[0]
    assert expected[1] in outcome.reason
    assert slack.requests == 1
    assert slack.received == []


async def test_slack_down_is_tried_again(session: aiohttp.ClientSession) -> None:
    async with SlackServer() as gone:
        channels = [(api(gone, session), POST), (webhook(gone, session), HOOK)]
    for channel, message in channels:
        outcome = await channel.send(message)
        assert outcome.verdict is Verdict.RETRY
        assert outcome.reason.startswith("sending failed: Client")


async def test_a_wrong_token_waits_for_its_repair_and_a_wrong_address_does_not(
    slack: SlackServer, session: aiohttp.ClientSession
) -> None:
    outcome = await api(slack, session, "xoxb-wrong").send(POST)
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "invalid_auth")
    lost = await api(slack, session).send(a_message(ChannelKind.SLACK, "nobody"))
    assert (lost.verdict, lost.reason) == (Verdict.FAILED, "channel_not_found")
    gone = a_message(
        ChannelKind.SLACK, "U0BOSS", form=Form.UPDATE, ref=MessageRef("D0BOSS", "1.000001")
    )
    outcome = await api(slack, session).send(gone)
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "message_not_found")
    unnamed = await webhook(slack, session).send(a_message(ChannelKind.SLACK_WEBHOOK, "other"))
    assert unnamed.verdict is Verdict.RETRY


async def test_hostile_text_mentions_links_and_formats_nothing(
    slack: SlackServer, session: aiohttp.ClientSession
) -> None:
    content = hostile_content()
    await api(slack, session).send(a_message(ChannelKind.SLACK, "U0BOSS", content=content))
    hook = a_message(ChannelKind.SLACK_WEBHOOK, "sales", content=content)
    await webhook(slack, session).send(hook)
    for entry in slack.received:
        body = entry.body
        assert "<" not in str(body["text"])
        assert "&lt;!channel&gt;" in str(body["text"])
        assert body["mrkdwn"] is False
        assert " ".join(HOSTILE.split()) in texts_of(body)
        for block in body["blocks"]:  # type: ignore[attr-defined]
            marked = [t for t in _objects(block) if t.get("type") == "mrkdwn"]
            assert all(t["text"].startswith("<https://attain.example.com/") for t in marked)


def _objects(node: object) -> list[dict[str, str]]:
    if isinstance(node, list):
        return [found for item in node for found in _objects(item)]
    if isinstance(node, dict):
        return [node, *(found for item in node.values() for found in _objects(item))]
    return []


async def test_secrets_stay_out_of_outcomes_and_logs(
    slack: SlackServer, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slack.fail_next(Fault(status=500), Fault(hang_s=5), Fault(status=500), Fault(error="odd"))
    outcomes = [await webhook(slack, session).send(HOOK) for _ in range(2)]
    outcomes += [await api(slack, session).send(POST) for _ in range(2)]
    outcomes.append(await webhook(slack, session).send(HOOK))
    told = caplog.text + json.dumps([outcome.reason for outcome in outcomes])
    assert "localhook" not in told
    assert TOKEN not in told


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/services/T/B/x",
        "https://hooks.slack.com.evil.example/services/T/B/x",
        "https://evil.example/services/T/B/x",
        "https://hooks.slack.com@evil.example/services/T/B/x",
        "https://evil.example\\@hooks.slack.com/services/T/B/x",
        "https://hooks.slack.com:8443/services/T/B/x",
        "https://hooks.slack.com/services/../api/x",
        "https://hooks.slack.com/services/T/B/x\n",
        "https://hooks.slack.com/workflows/T/B/x",
        "",
    ],
)
async def test_only_slacks_own_webhooks_are_accepted(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        checked_webhook_url(url, allow_insecure_slack_base_url=False)
    assert "evil" not in str(refused.value)


async def test_good_urls_are_accepted() -> None:
    url = "https://hooks.slack.com/services/T0/B0/abcDEF123"
    assert checked_webhook_url(url, allow_insecure_slack_base_url=False) == url
    local = "http://127.0.0.1:20000/api/"
    assert checked_api_url(local, allow_insecure_slack_base_url=True) == local
    with pytest.raises(Misconfigured):
        checked_api_url(local, allow_insecure_slack_base_url=False)
