"""What the services answer over their public interfaces, as figures and for showing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.figures import LEARNED, Name, Value, What, quarters, scopes, statement_months
from deploy.demo.sender import AT_ONCE
from deploy.demo.stage import Stage
from deploy.embedded.errors import StackError
from deploy.embedded.supervisor import together
from shared.http.auth import Role
from tests.oracle.kpis import ORGANISATION
from tests.simulator.history import History

TIMEOUT_S = 60.0
PAGE = 500
SHOWN_CHARS = 300
UNKNOWN_TO_THE_ORACLE = frozenset({"next_step"})

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Office:
    """Reads from the services as somebody who may see all. teams: their ids."""

    clients: dict[str, httpx.AsyncClient]
    teams: frozenset[str]

    async def get(self, service: str, path: str, **query: str) -> JsonObject:
        """One resource. Raises StackError with what was answered instead."""
        response = await self.clients[service].get(path, params=query)
        if not response.is_success:
            raise StackError(
                f"GET {response.request.url} was answered with {response.status_code}: "
                f"{response.text[:SHOWN_CHARS]}"
            )
        found: JsonObject = response.json()
        return found

    async def pages(self, service: str, path: str, **query: str) -> list[JsonObject]:
        """All entries of a list."""
        rows: list[JsonObject] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(service, path, limit=str(PAGE), **query, **cursor)
            rows += page["data"]
            if page["next_cursor"] is None:
                return rows
            cursor = {"cursor": page["next_cursor"]}

    async def kpi(self, kpi: str, of: str, **query: str) -> JsonObject:
        """A KPI of a rep, a team or `org`."""
        if of in self.teams:
            query["team"] = of
        elif of != ORGANISATION:
            query["rep"] = of
        return await self.get("metrics", f"/v1/kpis/{kpi}", **query)


@asynccontextmanager
async def office(stage: Stage, history: History) -> AsyncIterator[Office]:
    """Open connections to all services that answer questions."""
    roles = (Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE)
    headers = {"Authorization": f"Bearer {stage.token(*roles, subject='demo-reader')}"}
    async with AsyncExitStack() as opened:
        clients = {
            service: await opened.enter_async_context(
                httpx.AsyncClient(
                    base_url=stage.url(service), headers=headers, timeout=TIMEOUT_S, trust_env=False
                )
            )
            for service in ("metrics", "commissions", "notifications")
        }
        yield Office(clients, frozenset(team.id for team in history.teams))


async def read_figures(office: Office, history: History) -> dict[Name, Value]:
    """Every figure that `deploy.demo.figures.expected` names, as the services have it."""
    found: dict[Name, Value] = {}
    questions = iter([(of, q) for of in scopes(history) for q in (*quarters(history), "")])

    async def ask() -> None:
        for of, quarter in questions:
            asked = _of_quarter(office, of, quarter) if quarter else _of_now(office, of)
            found.update(await asked)

    await together(ask() for _ in range(AT_ONCE))
    found.update(await _stalled(office))
    found.update(await _pay(office, history))
    return found


async def _of_quarter(office: Office, of: str, quarter: str) -> dict[Name, Value]:
    attainment = await office.kpi("K1", of, period=quarter)
    # The oracle counts deals that were lost without a decision as lost.
    win_rate = await office.kpi("K5", of, period=quarter)
    activities = await office.kpi("K24", of, period=quarter)
    closed = win_rate["parts"]
    return {
        Name(What.BOOKINGS, of, quarter): number(attainment["parts"]["booked"]),
        Name(What.ATTAINMENT, of, quarter): number(attainment["value"]),
        Name(What.WON, of, quarter): number(closed["won"]),
        Name(What.LOST, of, quarter): Decimal(closed["lost"]) + Decimal(closed["no_decision"]),
        Name(What.WIN_RATE, of, quarter): number(closed["strict"]),
        Name(What.ACTIVITIES, of, quarter): number(activities["value"]),
    }


async def _of_now(office: Office, of: str) -> dict[Name, Value]:
    pipeline = await office.kpi("K9", of)
    weighted = await office.kpi("K10", of)
    return {
        Name(What.PIPELINE, of, ""): number(pipeline["value"]),
        Name(What.WEIGHTED, of, ""): number(weighted["value"]),
    }


async def _stalled(office: Office) -> dict[Name, Value]:
    """Deals by the rules that both know; see `deploy.demo.figures.LEARNED`."""
    found: dict[Name, Value] = {}
    for deal in await office.pages("metrics", "/v1/deals", stalled="true"):
        rules = set(deal["stalled_by"]) - UNKNOWN_TO_THE_ORACLE - LEARNED
        if rules:
            found[Name(What.STALLED, deal["id"], "")] = ", ".join(sorted(rules))
    return found


async def _pay(office: Office, history: History) -> dict[Name, Value]:
    """Statements; a month without one is a month without pay."""
    found: dict[Name, Value] = {}
    for name in (What.EARNED, What.PAYABLE):
        found |= {Name(name, who, month): Decimal(0) for who, month in statement_months(history)}
    for row in await office.pages("commissions", "/v1/statements"):
        found[Name(What.EARNED, row["payee"], row["period"])] = number(row["own"])
        found[Name(What.PAYABLE, row["payee"], row["period"])] = number(row["payout_amount"])
    return found


def number(text: str | None) -> Decimal | None:
    """An amount or a ratio in an answer; None stays."""
    return None if text is None else Decimal(text)


def recorded(path: Path) -> list[JsonObject]:
    """What a local server kept, one JSON object a line."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def top_lines(
    explanations: Iterable[JsonObject], count: int
) -> Iterator[tuple[JsonObject, JsonObject]]:
    """(statement, line) of the lines with the greatest amounts, in the plans' currency."""
    lines = [(one, line) for one in explanations for line in one["lines"]]
    lines.sort(key=lambda pair: Decimal(pair[1]["amount"]), reverse=True)
    yield from lines[:count]
