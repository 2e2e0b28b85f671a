"""Secrets and personal data, put in as canaries, show nowhere.

Last of the security tests: what the others did is in the logs as well.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from urllib.parse import quote

import asyncpg
import httpx
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from shared.db.roles import SERVICES
from tests.security.company import ADMIN, AUDITOR, COMP_ADMIN, PEOPLE, SOURCE, Company, machine

NAME = "Quetzalcoatl Umbridge"
MAIL = "quetzalcoatl@canary.example"
AMOUNT = "77123456.78"
PERSONAL = (NAME, MAIL, AMOUNT)
"""Somebody's name, address and money, in every bad request."""
JWT = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}")


def bad_bodies() -> list[bytes]:
    """What no route takes, each with the canaries in it."""
    return [
        f'{{"name": "{NAME}", "email": "{MAIL}", "amount": {AMOUNT}'.encode(),  # not JSON
        json.dumps({"amount": {"name": NAME, "email": MAIL, "amount": AMOUNT}}).encode(),
        json.dumps({"payee": [NAME], "channels": [{"channel": NAME, "address": MAIL}]}).encode(),
        json.dumps({"amount": f"{AMOUNT} {NAME}", "period": MAIL, "deal": {"id": [NAME]}}).encode(),
        json.dumps({"secret": NAME, "adapter": MAIL, "tenants": AMOUNT}).encode(),
        json.dumps({"rows": [{"table": NAME, "from": MAIL, "rate": AMOUNT}]}).encode(),
        json.dumps({"rows": [{"table": "org", "from": "USD", "to": NAME, "day": MAIL}]}).encode(),
        json.dumps([{"specversion": "1.0", "id": MAIL, "data": {"amount": NAME}}]).encode(),
        json.dumps({"now": NAME, "disposition": MAIL, "reason": 5}).encode(),
        f"{NAME} {MAIL} {AMOUNT}".encode(),
        b"\xff" + NAME.encode(),
        json.dumps(NAME).encode(),
        json.dumps({"effective_from": NAME, "email": [MAIL], "manager": {"a": NAME}}).encode(),
        json.dumps(
            {"hash": [NAME], "pay_date": NAME, "paid_on": MAIL, "through": [AMOUNT]}
        ).encode(),
    ]


WRITES = {
    "ingest": (
        f"POST /v1/hooks/{SOURCE}",
        "POST /v1/events",
        "PUT /v1/people/zzana",
        "PUT /v1/stage-maps/crm:t:default",
        "POST /v1/rates",
        "PUT /v1/sources/other",
    ),
    "metrics": (
        "PUT /v1/quotas/quota-zzana",
        "POST /v1/deals/crm:t:open-zzana/dispositions",
        "PUT /v1/clock",
    ),
    "commissions": (
        "PUT /v1/plans/plan-zzana/versions/2",
        "PUT /v1/assignments/assign-zzana",
        "POST /v1/estimates",
    ),
    "notifications": ("PUT /v1/subscriptions/zzana",),
}
READS = {
    "ingest": ("/v1/rejects", "/v1/rates"),
    "metrics": ("/v1/deals", "/v1/kpis/K1", "/v1/quotas", "/v1/episodes", "/v1/attainment"),
    "commissions": ("/v1/statements", "/v1/ledger/postings", "/v1/assignments"),
    "notifications": ("/v1/alerts", "/v1/deliveries"),
}
QUERY = ("limit", "cursor", "period", "from", "to", "as_of", "state", "status", "currency", "kind")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def answers(company: Company) -> list[httpx.Response]:
    """What the services say to bad requests of every kind."""
    found: list[httpx.Response] = []
    for service, routes in WRITES.items():
        for method, path in (route.split(" ") for route in routes):
            for body in bad_bodies():
                for media in ("application/json", "text/plain"):
                    who = COMP_ADMIN if service == "commissions" else ADMIN
                    found.append(
                        await company.call(
                            who,
                            service,
                            method,
                            path,
                            content=body,
                            headers={"Content-Type": media, "If-Match": f'"{quote(NAME)}"'},
                        )
                    )
    for service, paths in READS.items():
        for path in paths:
            for name, value in itertools.product(QUERY, PERSONAL):
                asked = {name: value, "period": value}
                found += [await company.call(AUDITOR, service, "GET", path, params=asked)]
            token = company.token(ADMIN)
            found.append(
                await company.clients[service].get(
                    f"{path}/{token}", params={"access_token": token}
                )
            )
    found += await unreadable(company)
    return found


async def unreadable(company: Company) -> list[httpx.Response]:
    """Deliveries that become rejects, and signatures that prove nothing."""
    event = {
        "eventId": 7,
        "subscriptionId": 7,
        "portalId": 4821,
        "appId": 3,
        "occurredAt": f"not {AMOUNT}",
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 5,
        "propertyName": "email",
        "propertyValue": MAIL,
    }
    secret = company.canaries.hook_secret
    hooked = await company.hook(json.dumps([event]).encode())
    forged = await company.clients["ingest"].post(
        f"/v1/hooks/{SOURCE}",
        content=b"[]",
        headers={
            "X-HubSpot-Signature-v3": secret,
            "X-HubSpot-Request-Timestamp": secret,
            "X-Secret": secret,
        },
    )
    source = {"adapter": secret, "secret": secret, "public_url": f"https://x/{MAIL}", "tenant": 5}
    stated = await company.call(ADMIN, "ingest", "PUT", "/v1/sources/other", json=source)
    shown = await company.call(ADMIN, "ingest", "GET", f"/v1/sources/{SOURCE}")
    return [hooked, forged, stated, shown]


def secrets_of(company: Company) -> list[str]:
    """Every secret as it is, and in the ways in which one is carried along."""
    plain = [*company.canaries.texts(), *company.tokens]
    private = json.loads((company.folder / "own.json").read_text())["d"]
    coded = [base64.b64encode(text.encode()).decode() for text in company.canaries.texts()]
    return [*plain, private, *coded]


def shown_in(text: str, secrets: list[str]) -> list[str]:
    """Beginnings of the secrets that a text holds."""
    return [secret[:24] for secret in secrets if secret in text]


def test_the_canaries_were_there_to_be_found(
    company: Company, answers: list[httpx.Response]
) -> None:
    statuses = {answer.status_code for answer in answers}
    assert statuses >= {400, 401, 404, 422}
    assert not {status for status in statuses if status >= 500}
    assert company.logs().count('"event": "request"') > 500
    assert len(secrets_of(company)) > 20


def test_logs_hold_no_secrets_and_nobody_s_data(
    company: Company, answers: list[httpx.Response]
) -> None:
    del answers
    logs = company.logs()
    assert shown_in(logs, secrets_of(company)) == []
    assert shown_in(logs, [*PERSONAL, quote(NAME), quote(MAIL)]) == []
    assert shown_in(logs, [f"{person}@canary.example" for person in PEOPLE]) == []
    assert shown_in(logs, [f"Name of {person}" for person in PEOPLE]) == []
    assert JWT.findall(logs) == []


def test_problems_repeat_nothing(company: Company, answers: list[httpx.Response]) -> None:
    wrong = set()
    for answer in answers:
        said = f"{answer.text} {answer.headers}"
        if shown_in(said, [*secrets_of(company), *PERSONAL, quote(NAME), quote(MAIL)]):
            path = answer.request.url.path[:60]
            wrong.add(f"{answer.request.method} {path}: {answer.text[-300:]}")
    assert "\n".join(sorted(wrong)) == ""


async def test_metrics_hold_no_secrets_and_no_names(
    company: Company, answers: list[httpx.Response]
) -> None:
    del answers
    for process in company.processes:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
            for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
                text = (await client.get(path)).text
                assert shown_in(text, [*secrets_of(company), *PERSONAL, *PEOPLE]) == [], path


async def test_tables_hold_secrets_only_encrypted_and_no_reason_holds_data(
    company: Company, answers: list[httpx.Response]
) -> None:
    del answers
    connection = await asyncpg.connect(company.database_url)
    try:
        for service in SERVICES:
            tables = await connection.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = $1", service
            )
            for (table,) in tables:
                rows = await connection.fetch(f'SELECT t::text AS row FROM {service}."{table}" t')  # noqa: S608
                text = "\n".join(row["row"] for row in rows)
                assert shown_in(text, secrets_of(company)) == [], (service, table)
        rejects = await connection.fetch(
            "SELECT message, excerpt, pointer, cause FROM ingest.reject"
        )
        assert len(rejects) >= 2
        assert shown_in(str(rejects), [MAIL, "reject-canary@canary.example"]) == []
    finally:
        await connection.close()


async def test_dead_letters_say_why_without_saying_what(company: Company) -> None:
    """What cannot be read is kept as bytes; the reason that people are shown repeats none of it."""
    await company.produce(
        "crm.deals",
        [
            f'{{"specversion": "1.0", "name": "{NAME}", "mail": "{MAIL}"'.encode(),
            json.dumps({"id": MAIL, "type": NAME, "data": {"amount": AMOUNT}}).encode(),
            json.dumps(
                {
                    "specversion": "1.0",
                    "id": "x",
                    "source": "/x",
                    "type": "attain.deal.v1",
                    "subject": "deal/crm:t:dead",
                    "time": NAME,
                    "data": {"amount": NAME, "owner": [MAIL]},
                }
            ).encode(),
        ],
    )
    for service in ("metrics", "commissions"):
        letters = await company.dead_letters(service, at_least=3)
        assert shown_in(json.dumps(letters), [*PERSONAL]) == [], letters
    assert shown_in(company.logs(), [*PERSONAL]) == []


async def test_topics_hold_no_secrets(company: Company, answers: list[httpx.Response]) -> None:
    del answers
    await company.call(machine("events:write"), "ingest", "POST", "/v1/events", json={})
    admin = AIOKafkaAdminClient(bootstrap_servers=company.bootstrap)
    await admin.start()
    topics = [name for name in await admin.list_topics() if name.startswith(company.prefix)]
    await admin.close()
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=company.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found = 0
        secrets = [secret.encode() for secret in secrets_of(company)]
        while found < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    found += 1
                    carried = b"".join(value for _, value in record.headers)
                    whole = (record.key or b"") + (record.value or b"") + carried
                    raw = re.findall(rb'"(?:body|data_base64)":\s*"([^"]+)"', whole)
                    whole += b"".join(base64.b64decode(piece + b"==") for piece in raw)
                    assert [s[:20] for s in secrets if s in whole] == [], record.topic
        assert found > 20
    finally:
        await consumer.stop()
