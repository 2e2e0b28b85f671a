"""What the API shows to whom, and how a subscription changes where messages go."""

from __future__ import annotations

import httpx
import pytest

from services.notifications.domain.signals import EpisodeState
from shared.events.catalogue import NOTIFICATIONS_JOURNAL
from shared.http.auth import Role
from tests.integration.notifications.deployment import (
    COMPANY,
    Deployment,
    later,
    person_fact,
    team_fact,
    until,
)
from tests.unit.notifications.builders import a_signal

OTHERS = later(a_signal(1, title="Beta is stalled", person="rep-2"), "another-episode")
TEAMS_ACCOUNT = later(a_signal(1, person=None, team="team-east"), "team-episode")


async def told(deployment: Deployment) -> None:
    """An alert for each manager, the first of them resolved."""
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(a_signal(1), OTHERS)
        await until(lambda: len(deployment.mail.received) == 2)
        await deployment.say(a_signal(2, EpisodeState.CLOSED))
        await deployment.consumed()
        await deployment.settled()


async def test_everybody_sees_their_own_world(deployment: Deployment) -> None:
    await told(deployment)

    async def titles(role: Role, person: str | None, query: str = "") -> list[str]:
        async with deployment.api(role, person=person) as client:
            answer = await client.get(f"/v1/alerts{query}")
        assert answer.status_code == 200
        return [alert["title"] for alert in answer.json()["data"]]

    acme, beta = "Acme renewal is stalled", "Beta is stalled"
    assert await titles(Role.ADMIN, None) == [beta, acme]
    assert await titles(Role.ADMIN, None, "?state=open") == [beta]
    assert await titles(Role.ADMIN, None, "?person=rep-1") == [acme]
    assert await titles(Role.MANAGER, "boss") == [acme]
    assert await titles(Role.MANAGER, "peer") == [beta]
    assert await titles(Role.REP, "rep-1") == [acme]
    assert await titles(Role.REP, "boss") == []

    async with deployment.api(Role.MANAGER, person="boss") as client:
        shown = (await client.get("/v1/alerts")).json()["data"][0]
        detail = (await client.get(f"/v1/alerts/{shown['id']}")).json()
        assert {d["recipient"] for d in detail["deliveries"]} == {"person/boss"}
        own = (await client.get("/v1/deliveries")).json()["data"]
        assert {d["recipient"] for d in own} == {"person/boss"}
        hidden = await deployment.rows("SELECT alert_id FROM alert WHERE person = 'rep-2'")
        answer = await client.get(f"/v1/alerts/{hidden[0]['alert_id']}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:attain:problem:not-found"
    async with deployment.api(Role.REP, person="rep-1") as client:
        assert (await client.get("/v1/deliveries")).json()["data"] == []
    async with deployment.api(Role.AUDITOR) as client:
        first = (await client.get("/v1/deliveries?limit=4")).json()
        rest = (await client.get(f"/v1/deliveries?limit=4&cursor={first['next_cursor']}")).json()
        ids = [d["id"] for d in first["data"] + rest["data"]]
        assert len(ids) == len(set(ids)) == 6
        table = await client.get("/v1/deliveries", headers={"Accept": "text/csv"})
        assert table.text.splitlines()[0].startswith("id,alert,")
        assert len(table.text.splitlines()) == 7


async def test_a_subscription_directs_messages_and_is_journaled(deployment: Deployment) -> None:
    chosen = {"channels": [{"channel": "slack", "address": "U0BOSS"}, {"channel": "mail"}]}
    async with deployment.api(Role.MANAGER, person="boss") as client:
        assert (await client.get("/v1/subscriptions/boss")).status_code == 404
        answer = await client.put("/v1/subscriptions/boss", json=chosen)
        assert answer.status_code == 200
        assert answer.headers["etag"] == '"1"'
        assert (await client.put("/v1/subscriptions/boss", json=chosen)).status_code == 428
        assert (await client.put("/v1/subscriptions/peer", json=chosen)).status_code == 403
        changed = await client.put(
            "/v1/subscriptions/boss",
            json={"channels": [{"channel": "slack", "address": "U0BOSS"}]},
            headers={"If-Match": '"1"'},
        )
        assert changed.json()["channels"] == [{"channel": "slack", "address": "U0BOSS"}]
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.consumed()
        await deployment.say(a_signal(1))
        await until(lambda: len(deployment.slack.received) == 1)
        await deployment.settled()
        journal = await deployment.published(NOTIFICATIONS_JOURNAL, 2)
    assert deployment.slack.received[0].channel == "D0BOSS"
    assert deployment.mail.received == []
    assert [event["data"]["revision"] for event in journal] == [1, 2]
    assert journal[1]["data"]["changed_by"] == "boss"


@pytest.mark.parametrize(
    "channels",
    [
        [{"channel": "slack", "address": "#general"}],
        [{"channel": "slack"}],
        [{"channel": "email", "address": "else@example.com"}],
        [{"channel": "slack_webhook", "address": "unknown"}],
        [{"channel": "email"}, {"channel": "mail"}],
        [{"channel": "pigeon"}],
    ],
)
async def test_a_malformed_subscription_is_refused(
    deployment: Deployment, channels: list[dict[str, str]]
) -> None:
    async with deployment.api(Role.ADMIN) as client:
        answer = await client.put("/v1/subscriptions/boss", json={"channels": channels})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_subscription_is_a_way_for_alerts_that_had_none(deployment: Deployment) -> None:
    deployment.settings |= {"SLACK_DEFAULT_CHANNEL": "", "SMTP_HOST": ""}
    async with deployment.consumer():
        await deployment.send(*COMPANY)
        await deployment.say(a_signal(1))
        await deployment.consumed()
        assert deployment.slack.received == []
        async with deployment.api(Role.ADMIN) as client:
            chosen = {"channels": [{"channel": "slack", "address": "U0BOSS"}]}
            await client.put("/v1/subscriptions/boss", json=chosen)
        await until(lambda: len(deployment.slack.received) == 1)


async def test_a_teams_alert_shows_to_who_sees_the_whole_team(deployment: Deployment) -> None:
    members = [
        person_fact("rep-1", teams={"team-east": True}),
        person_fact("boss", teams={"team-east": True}),
        team_fact("team-east", name="East", manager="boss"),
    ]
    async with deployment.consumer():
        await deployment.send(*COMPANY, *members)
        await deployment.consumed()
        await deployment.say(TEAMS_ACCOUNT)
        await until(lambda: len(deployment.mail.received) == 1)
    assert deployment.mail.received[0].recipients == ("boss@example.com",)
    for role, person, count in (
        (Role.MANAGER, "boss", 1),
        (Role.MANAGER, "peer", 0),
        (Role.REP, "rep-1", 0),
        (Role.ADMIN, None, 1),
    ):
        async with deployment.api(role, person=person) as client:
            assert len((await client.get("/v1/alerts")).json()["data"]) == count


@pytest.mark.parametrize(
    ("command", "check"),
    [("api", "database"), ("consumer", "channels: none is configured, alerts wait")],
)
async def test_a_process_without_channels_is_ready_and_says_so(
    deployment: Deployment, command: str, check: str
) -> None:
    deployment.settings |= dict.fromkeys(("SLACK_TOKEN", "SLACK_DEFAULT_CHANNEL", "SMTP_HOST"), "")

    async def answer() -> httpx.Response | None:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return await client.get(f"http://127.0.0.1:{deployment.port}/readyz")
            except httpx.HTTPError:
                return None

    async def answers() -> bool:
        return await answer() is not None

    async with deployment.process(command) as process:
        await until(answers)
        ready = await answer()
        assert ready is not None
        assert ready.status_code == 200
        assert ready.json()["checks"][check] == {"ok": True}
    assert process.returncode == 0
