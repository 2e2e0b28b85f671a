"""One signed webhook, followed to the posting and to Slack by its trace, through real processes.

What is sampled is left to callers here, so that all there is comes from the one request that was.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.services import Infrastructure, environment, is_ready, role_url
from services.ingest.adapters.hubspot_signature import sign_v3
from shared.clock import to_epoch_ms
from shared.db.migrate import upgrade
from shared.db.roles import SERVICES, create_roles
from shared.http.auth import Role
from shared.http.keys import generate_key_pair, read_private_key, sign_token
from shared.telemetry.traces import Key
from tests.support.otlp_server import OtlpServer
from tests.support.slack_server import TOKEN, SlackServer
from tests.support.stack import ROOT

PROCESSES = (
    ("metrics", "consumer"),
    ("commissions", "api"),
    ("commissions", "consumer"),
    ("notifications", "consumer"),
    ("ingest", "api"),
)
PATIENCE_S = 60.0
SINCE = {"effective_from": "2025-01-01"}
HOOK_URL = "https://attain.example/v1/hooks/crm"
HOOK_SECRET = f"canary-hook-{secrets.token_hex(8)}"
PASSWORD = f"canary-db-{secrets.token_hex(8)}"

TRACE = secrets.token_hex(16)
CALLER_SPAN = secrets.token_hex(8)
SAMPLED = f"00-{TRACE}-{CALLER_SPAN}-01"
NOT_SAMPLED = f"00-{secrets.token_hex(16)}-{CALLER_SPAN}-00"

CANARIES = ("Canary Deal", "Canary Rep", "rep@canary.example", "12345.67", "1234.57")
"""Names, addresses and amounts that the facts hold."""

PLAN = {
    "id": "flat",
    "name": "Canary plan",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "month",
    "components": [
        {
            "id": "new",
            "kind": "commission",
            "credit": {"on": "deal.won", "to": "owner"},
            "rates": {"method": "flat", "rate": "10%"},
        }
    ],
}


@dataclass
class Company:
    """The processes and what speaks with them."""

    folder: Path
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)

    async def put(self, service: str, path: str, body: Mapping[str, Any]) -> None:
        """State something as an administrator."""
        token = sign_token(
            read_private_key(self.folder / "signing.json"),
            subject="admin",
            roles=(Role.ADMIN, Role.COMP_ADMIN),
            now=datetime.now(UTC),
        )
        answer = await self.clients[service].put(
            path, json=body, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.is_success, answer.text

    async def hook(self, traceparent: str, properties: Mapping[str, str]) -> str:
        """A signed delivery of the CRM about one deal; its request id."""
        body = json.dumps([_change(name, text) for name, text in properties.items()]).encode()
        sent_ms = str(round(time.time() * 1000))
        answer = await self.clients["ingest"].post(
            "/v1/hooks/crm?token=canary-query",
            content=body,
            headers={
                "Content-Type": "application/json",
                "X-HubSpot-Signature-v3": sign_v3(HOOK_SECRET, "POST", HOOK_URL, body, sent_ms),
                "X-HubSpot-Request-Timestamp": sent_ms,
                "traceparent": traceparent,
            },
        )
        assert answer.is_success, answer.text
        return str(answer.headers["X-Request-Id"])


def _change(name: str, text: str) -> dict[str, Any]:
    return {
        "eventId": secrets.randbelow(10**9),
        "subscriptionId": 1,
        "portalId": 4821,
        "appId": 3,
        "occurredAt": round(time.time() * 1000),
        "subscriptionType": "deal.propertyChange",
        "attemptNumber": 0,
        "objectId": 30_700_000_307,
        "propertyName": name,
        "propertyValue": text,
    }


async def test_a_webhook_is_followed_to_its_posting_and_to_slack(
    database_factory: Callable[[], Awaitable[str]],
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    generate_key_pair(tmp_path / "signing.json", tmp_path / "jwks.json")
    async with OtlpServer() as collector, SlackServer() as slack:
        told = Infrastructure(
            database_url=await database_factory(),
            role_passwords=dict.fromkeys(SERVICES, PASSWORD),
            kafka_bootstrap=kafka_bootstrap,
            jwks_path=tmp_path / "jwks.json",
            topic_prefix=topic_prefix,
            secrets_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            more={"notifications": _slack_settings(slack), "metrics": _metrics_settings()},
        )
        async with _running(told, tmp_path, collector) as company:
            await _state_what_is_needed(company)
            await company.hook(NOT_SAMPLED, _open_deal())
            await _until(lambda: len(slack.received) == 1, "the alert")
            assert collector.spans == []  # nobody asked for any of it

            request_id = await company.hook(SAMPLED, {"dealstage": "closedwon"})
            await _until(lambda: len(slack.received) == 2, "the all-clear")
            wanted = {
                ("attain-ingest", "POST /v1/hooks/{source}"),
                ("attain-ingest", "publish"),
                ("attain-metrics", "process metrics"),
                ("attain-metrics", "create metrics.signals"),
                ("attain-metrics", "publish metrics.signals"),
                ("attain-commissions", "process commissions"),
                ("attain-commissions", "post"),
                ("attain-notifications", "process notifications"),
                ("attain-notifications", "deliver slack"),
            }
            await _until(lambda: wanted <= _names(collector), "the spans", collector)
            logs = {name: path.read_text() for name, path in company.logs.items()}

    assert all(span.belongs_to(TRACE) for span in collector.spans)
    found = {(span.service, span.name): span for span in collector.spans}
    server = found["attain-ingest", "POST /v1/hooks/{source}"]
    assert server.parent == CALLER_SPAN
    assert server.attributes == {
        Key.METHOD: "POST",
        Key.ROUTE: "/v1/hooks/{source}",
        Key.STATUS: 204,
        Key.REQUEST_ID: request_id,
    }
    assert found["attain-ingest", "publish"].attributes[Key.KEPT] == "kafka"
    for reader in ("metrics", "commissions"):
        batch = found[f"attain-{reader}", f"process {reader}"]
        assert (TRACE, server.span) in batch.links
        assert batch.attributes[Key.TRACED] == 1
    _nothing_that_is_nobody_s_business(collector)
    for process in ("ingest-api", "notifications-consumer"):
        lines = [json.loads(line) for line in logs[process].splitlines() if TRACE in line]
        assert lines, process
        assert all(line["trace_id"] == TRACE and line["span_id"] for line in lines)


def _names(collector: OtlpServer) -> set[tuple[str, str]]:
    return {(span.service, span.name) for span in collector.spans}


def _nothing_that_is_nobody_s_business(collector: OtlpServer) -> None:
    known = {key.value for key in Key}
    for span in collector.spans:
        assert span.attributes.keys() <= known, span
        assert (span.failed, span.status_message, span.events) == (False, "", 0), span
    sent = b"".join(collector.requests)
    for canary in (*CANARIES, HOOK_SECRET, PASSWORD, "canary-query", TOKEN, "30700000307"):
        assert canary.encode() not in sent, canary


def _open_deal() -> dict[str, str]:
    overdue = datetime.now(UTC) - timedelta(days=30)
    return {
        "dealname": "Canary Deal",
        "amount": "12345.67",
        "deal_currency_code": "USD",
        "hubspot_owner_id": "55",
        "dealtype": "newbusiness",
        "dealstage": "proposal",
        "closedate": str(to_epoch_ms(overdue.replace(hour=12))),
    }


async def _state_what_is_needed(company: Company) -> None:
    stages = {
        "proposal": {"order": 1, "status": "open"},
        "closedwon": {"order": 2, "status": "won"},
    }
    rep = {"name": "Canary Rep", "email": "rep@canary.example", "manager": "boss"}
    for service, path, body in (
        ("ingest", "/v1/calendars/org", {**SINCE, "time_zone": "UTC", "currency": "USD"}),
        ("ingest", "/v1/stage-maps/hubspot:4821:default", {**SINCE, "stages": stages}),
        ("ingest", "/v1/people/boss", {**SINCE, "name": "Boss"}),
        (
            "ingest",
            "/v1/people/rep",
            {**SINCE, **rep, "identities": {"hubspot:4821:55": True}},
        ),
        (
            "ingest",
            "/v1/sources/crm",
            {
                "adapter": "hubspot",
                "tenant": "4821",
                "secret": HOOK_SECRET,
                "public_url": HOOK_URL,
            },
        ),
        ("commissions", "/v1/plans/flat/versions/1", PLAN),
        (
            "commissions",
            "/v1/assignments/rep-flat",
            {"payee": "rep", "plan": "flat", "from": "2025-01-01"},
        ),
    ):
        await company.put(service, path, body)


def _slack_settings(slack: SlackServer) -> dict[str, str]:
    told = {
        "SLACK_TOKEN": TOKEN,
        "SLACK_BASE_URL": slack.api_url,
        "ALLOW_INSECURE_SLACK_BASE_URL": "true",
        "SLACK_DEFAULT_CHANNEL": "C0SALES",
        "SLACK_INTERVAL_S": "0",
    }
    return {f"ATTAIN_NOTIFICATIONS_{name}": value for name, value in told.items()}


def _metrics_settings() -> dict[str, str]:
    return {
        "ATTAIN_METRICS_TICK_INTERVAL_S": "0.1",
        "ATTAIN_METRICS_NEXT_STEP_DAYS": "3650",
    }


@asynccontextmanager
async def _running(
    told: Infrastructure, folder: Path, collector: OtlpServer
) -> AsyncIterator[Company]:
    await create_roles(told.database_url, told.role_passwords)
    for service in SERVICES:
        url = role_url(told.database_url, service, PASSWORD)
        await asyncio.to_thread(upgrade, service, url)
    company = Company(folder)
    async with AsyncExitStack() as exits:
        for service, command in PROCESSES:
            port = await exits.enter_async_context(
                _process(company, told, service, command, collector)
            )
            if command == "api":
                client = httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False)
                company.clients[service] = await exits.enter_async_context(client)
        yield company


@asynccontextmanager
async def _process(
    company: Company, told: Infrastructure, service: str, command: str, collector: OtlpServer
) -> AsyncIterator[int]:
    port, name = free_port(), f"{service}-{command}"
    company.logs[name] = company.folder / f"{name}.log"
    with company.logs[name].open("wb") as log:
        child = subprocess.Popen(
            (sys.executable, "-m", f"services.{service}", command),
            cwd=ROOT,
            env={
                **{n: v for n, v in os.environ.items() if not n.startswith(("ATTAIN_", "OTEL_"))},
                **environment(service, told, port),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_TRACES_SAMPLER": "parentbased_always_off",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            },
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not await is_ready(port):
            assert child.poll() is None, company.logs[name].read_text()[-2000:]
            assert time.monotonic() < deadline, f"{name} is not ready"
            await asyncio.sleep(0.05)
        yield port
    finally:
        child.terminate()
        await asyncio.to_thread(child.wait, 30)


async def _until(holds: Callable[[], bool], what: str, collector: OtlpServer | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        seen = sorted(_names(collector)) if collector is not None else ""
        assert time.monotonic() < deadline, f"{what} never came; there is {seen}"
        await asyncio.sleep(0.05)
