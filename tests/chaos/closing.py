"""Closes months under fire, and keeps what a close fixed for the comparison at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from deploy.embedded.errors import StackError
from tests.chaos.calls import Caller
from tests.chaos.injection import Injector
from tests.chaos.matrix import Spot
from tests.simulator.history import Quota

SUBMITTED_BY, CLOSED_BY = "acme-frank", "acme-grace"
CLOSED_WITHIN_S = 240.0
PAUSE_S = 0.3
PAGE = "500"
SHOWN_CHARS = 400

Key = tuple[str, str, str]
"""Payee, plan, month."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What stood when a month was closed.

    sent: how many deliveries had been accepted. quotas: as stated then. statements: the month's
    rows of the list. documents: each statement and its explanation, byte for byte.
    """

    month: str
    sent: int
    quotas: dict[str, Quota]
    statements: dict[Key, dict[str, Any]]
    documents: dict[Key, tuple[bytes, bytes]]


@dataclass(slots=True)
class Closer:
    """Closes one month after the other. waiting: faults that are to befall these closes."""

    submitter: Caller
    closer: Caller
    injector: Injector
    waiting: list[Spot]
    closes_left: int
    closed: list[Closed] = field(default_factory=list)

    async def close(self, month: str, sent: int, quotas: dict[str, Quota]) -> None:
        """Close a month, its share of the faults befalling the tries."""
        share = -(-len(self.waiting) // self.closes_left)
        faults, self.waiting = self.waiting[:share], self.waiting[share:]
        self.closes_left -= 1
        deadline = asyncio.get_running_loop().time() + CLOSED_WITHIN_S
        path = f"/v1/periods/{month}"
        await self.take_back()
        await self.submitter.insist("POST", "commissions", f"{path}/submit", {})
        striking: asyncio.Task[bool] | None = None
        said = ""
        while not await self._is_closed(month):
            if asyncio.get_running_loop().time() > deadline:
                msg = f"{month} could not be closed within {CLOSED_WITHIN_S:.0f} s: {said}"
                raise StackError(msg)
            if faults and (striking is None or striking.done()):
                striking = asyncio.create_task(self.injector.strike(faults.pop(0)))
                await asyncio.sleep(PAUSE_S)
            answer = await self.closer.once("POST", "commissions", f"{path}/close", {})
            said = said if answer is None else f"{answer.status_code} {answer.text[:SHOWN_CHARS]}"
            await asyncio.sleep(PAUSE_S)
        if striking is not None:
            await striking
        self.waiting = faults + self.waiting
        self.closed.append(await self._fixed(month, sent, quotas))
        self.injector.note(f"{month} is closed: {len(self.closed[-1].statements)} statements")

    async def take_back(self) -> None:
        """Decide that deals deleted or merged after a close count no more, as the history does.

        Raises: StackError when they go on counting.
        """
        deadline = asyncio.get_running_loop().time() + CLOSED_WITHIN_S
        listing = f"/v1/held-deletions?state=open&limit={PAGE}"
        why = {"decision": "reverse", "reason": "gone in the CRM"}
        while rows := (await self.closer.insist("GET", "commissions", listing)).json()["data"]:
            if asyncio.get_running_loop().time() > deadline:
                msg = f"{len(rows)} deals that are gone go on counting, such as {rows[0]['deal']}"
                raise StackError(msg)
            for row in rows:
                path = f"/v1/held-deletions/{row['deal']}/decision"
                # Whatever comes of it under fire: what is left is listed again.
                await self.submitter.once("POST", "commissions", path, why)
                await self.closer.once("POST", "commissions", f"{path}/confirm")
            await asyncio.sleep(PAUSE_S)

    async def _is_closed(self, month: str) -> bool:
        answer = await self.closer.insist("GET", "commissions", "/v1/periods?limit=100")
        return any(row["id"] == month and row["state"] == "closed" for row in answer.json()["data"])

    async def _fixed(self, month: str, sent: int, quotas: dict[str, Quota]) -> Closed:
        path = f"/v1/statements?period={month}&limit={PAGE}"
        listed = (await self.closer.insist("GET", "commissions", path)).json()
        assert listed["next_cursor"] is None, "more statements than a page"
        rows = {(row["payee"], row["plan"], row["period"]): row for row in listed["data"]}
        documents = {key: await self.documents(key) for key in rows}
        return Closed(month, sent, quotas, rows, documents)

    async def documents(self, key: Key) -> tuple[bytes, bytes]:
        """A statement and its explanation, as they are now."""
        path = "/v1/statements/" + "/".join(key)
        return (
            (await self.closer.insist("GET", "commissions", path)).content,
            (await self.closer.insist("GET", "commissions", f"{path}/explanation")).content,
        )

    async def changed(self) -> list[str]:
        """Closed statements that no longer read as they were fixed."""
        return [
            " ".join(key)
            for closed in self.closed
            for key, kept in closed.documents.items()
            if await self.documents(key) != kept
        ]
