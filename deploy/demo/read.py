"""What the services answer, over their public interfaces, as figures and for showing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.figures import Name, Value, What, months, quarters, scopes
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

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Office:
    """Reads from the services as somebody who may see all."""

    clients: dict[str, httpx.AsyncClient]

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

    async def kpi(self, kpi: str, of: str, period: str = "") -> JsonObject:
        """A KPI of a rep, a team or `org`; the reps' ids are those of people."""
        query = {"period": period} if period else {}
        if of in self.teams:
            query["team"] = of
        elif of != ORGANISATION:
            query["rep"] = of
        return await self.get("metrics", f"/v1/kpis/{kpi}", **query)
