"""Calls to the public interfaces, repeated until answered: a killed service comes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from deploy.demo.stage import TOKEN_LIFETIME_S, Stage
from deploy.embedded.errors import StackError
from shared.http.auth import Role
from shared.http.keys import read_private_key, sign_token
from tests.simulator.history import Quota
from tests.simulator.setup import SetupCall

ANSWERED_WITHIN_S = 120.0
PAUSE_S = 0.3
TIMEOUT_S = 35.0
SHOWN_CHARS = 400
ROLES = (Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE)
WAIT_AND_SEE = frozenset({408, 425, 429, 500, 502, 503, 504})


class Refused(StackError):
    """A service refuses what it should do."""

    def __init__(self, response: httpx.Response) -> None:
        request = response.request
        super().__init__(
            f"{request.method} {request.url} was answered with {response.status_code}: "
            f"{response.text[:SHOWN_CHARS]}"
        )
        self.response = response


@dataclass(slots=True)
class Caller:
    """One person at the public interfaces. Every request has a connection of its own."""

    stage: Stage
    person: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        token = sign_token(
            read_private_key(self.stage.signing_key),
            subject=self.person,
            person_id=self.person,
            roles=ROLES,
            now=datetime.now(UTC),
            lifetime_s=TOKEN_LIFETIME_S,
        )
        self.headers = {"Authorization": f"Bearer {token}"}

    async def once(
        self,
        method: str,
        service: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """One try; None where the outcome is unknown."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            try:
                return await client.request(
                    method,
                    self.stage.url(service) + path,
                    json=body,
                    headers={**self.headers, **(headers or {})},
                )
            except httpx.HTTPError:
                return None

    async def insist(
        self,
        method: str,
        service: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Ask until a service says yes or no. Raises Refused, or StackError when it never does."""
        headers = {"Idempotency-Key": uuid.uuid4().hex, **(headers or {})}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWERED_WITHIN_S
        last = None
        while loop.time() < deadline:
            answer = await self.once(method, service, path, body, headers)
            last = answer or last
            if answer is not None and answer.is_success:
                return answer
            if answer is not None and answer.status_code not in WAIT_AND_SEE:
                raise Refused(answer)
            await asyncio.sleep(PAUSE_S)
        if last is not None:
            raise Refused(last)
        msg = f"{method} {service}{path} was not answered within {ANSWERED_WITHIN_S:.0f} s"
        raise StackError(msg)

    async def say(self, calls: Iterable[SetupCall]) -> None:
        """Make calls one after the other."""
        for call in calls:
            await self.insist(call.method, call.service, call.path, call.body)

    async def put_quota(self, quota: Quota) -> None:
        """State a quota that exists already; again, where somebody else was quicker."""
        names = ("person", "team", "measure", "period", "amount", "currency")
        body = {name: getattr(quota, name) for name in names}
        path = f"/v1/quotas/{quota.id}"
        while True:
            found = await self.insist("GET", "metrics", path)
            if Decimal(found.json()["amount"]) == Decimal(quota.amount):
                return
            seen = {"If-Match": found.headers["ETag"]}
            try:
                await self.insist("PUT", "metrics", path, body, seen)
            except Refused as refusal:
                if refusal.response.status_code != httpx.codes.PRECONDITION_FAILED:
                    raise
