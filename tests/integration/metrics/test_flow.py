"""Pipeline flow and pushes over a random life, through the running service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio

from services.metrics.domain.flow import OUTFLOWS, FlowClass
from shared.clock import to_text
from shared.events.envelope import Envelope
from shared.http.auth import Role
from tests.integration.metrics.company import T0, at, company, deal
from tests.integration.metrics.harness import Metrics

CURRENCIES = ("USD", "USD", "EUR")
OWNERS = ("ana", "ben", "cem")
RATE_CHANGES = at(27)
"""The last day on which an exchange rate begins; later ones convert alike on both ends."""

WINDOWS: tuple[dict[str, str], ...] = (
    {},
    {"period": "2026-Q1"},
    {"period": "2026-02"},
    {"from": "2026-02-15", "to": "2026-04-16"},
)
SCOPES: tuple[dict[str, str], ...] = ({}, {"rep": "ana"}, {"rep": "ben"}, {"team": "emea"})


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def life(metrics: Metrics) -> None:
    """Twelve deals for eighty days."""
    await metrics.send([*company(), *happenings(random.Random(11))])
    await metrics.drain()
    await metrics.at(at(81))


def happenings(chance: random.Random) -> Iterator[Envelope]:
    """Deals that move, change hands, close and come back."""
    for number in range(12):
        born = chance.uniform(0, 50)
        first: dict[str, Any] = {
            "stage": "lead",
            "amount": _amount(chance),
            "currency": chance.choice(CURRENCIES),
        }
        yield deal(number, at(born), owner=chance.choice(OWNERS), close_date=_day(chance), **first)
        for _ in range(8):
            said: dict[str, Any] = chance.choice(
                [
                    {"stage": chance.choice(["lead", "proposal", "legal"])},
                    {"stage": chance.choice(["won", "lost", "proposal", "lead"])},
                    {"amount": _amount(chance)},
                    {"owner": chance.choice(OWNERS)},
                    {"close_date": _day(chance)},
                ]
            )
            yield deal(number, at(chance.uniform(born, 80)), **said)


def _amount(chance: random.Random) -> str | None:
    return None if chance.random() < 0.1 else str(chance.randrange(1, 10**6) / 100)


def _day(chance: random.Random) -> str:
    return (T0 + timedelta(days=chance.randrange(20, 120))).date().isoformat()


async def test_flow_balances_with_the_pipeline_of_both_instants(metrics: Metrics) -> None:
    chance = random.Random(5)
    moved = 0
    for _ in range(40):
        scope, window = chance.choice(SCOPES), chance.choice(WINDOWS)
        first, last = sorted(_instant(chance) for _ in range(2))
        until = {} if chance.random() < 0.3 else {"as_of": to_text(last)}
        flow = await metrics.get("/v1/kpis/K22", since=to_text(first), **scope, **window, **until)
        parts = flow["parts"]
        total = Decimal(parts["open"])
        for into in FlowClass:
            if into is not FlowClass.UNCHANGED:
                effect = Decimal(parts[into.value])
                total += -effect if into in OUTFLOWS else effect
        assert total == Decimal(parts["close"]) == Decimal(flow["value"]), (scope, window, parts)
        close = await metrics.get("/v1/kpis/K9", **scope, **window, **until)
        assert close["value"] == parts["close"], (scope, window, until)
        opened = await metrics.get("/v1/kpis/K9", as_of=to_text(first), **scope, **window)
        assert opened["value"] == parts["open"], (scope, window, to_text(first))
        moved += parts["open"] != parts["close"]
    assert moved >= 10


def _instant(chance: random.Random) -> datetime:
    return RATE_CHANGES + timedelta(hours=chance.randrange(1, 54 * 24))


async def test_pushes_never_fall(metrics: Metrics) -> None:
    for scope in SCOPES:
        counts = []
        for day in range(0, 81, 8):
            answer = await metrics.get("/v1/kpis/K19", as_of=to_text(at(day)), **scope)
            counts.append(int(answer["value"]))
        assert counts == sorted(counts), scope
    everybody = await metrics.get("/v1/kpis/K19")
    assert int(everybody["value"]) > 0


async def test_a_flow_begins_before_it_ends(metrics: Metrics) -> None:
    later, sooner = to_text(at(50)), to_text(at(40))
    refused = await metrics.api.get(
        "/v1/kpis/K22", headers=metrics.token(Role.ADMIN), params={"since": later, "as_of": sooner}
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "#query/since"
