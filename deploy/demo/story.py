"""The year as it is told to the services: who the company is, then delivery by delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import time as day_time
from datetime import timedelta
from itertools import groupby

import httpx

from deploy.demo.caught_up import Watch
from deploy.demo.sender import AT_ONCE, Sender, Sent
from deploy.demo.stage import HEARS_BY, Stage
from deploy.embedded.errors import StackError
from deploy.embedded.supervisor import together
from shared.http.auth import Role
from tests.oracle import OracleResult, recompute
from tests.simulator import Company, Delivery, deliveries, setup_calls
from tests.simulator.setup import SetupCall
from tests.simulator.worktime import from_ms, instant_text, local_ms

DEFAULT_SCALE = 0.85
"""A company with more than 50,000 facts in its year."""

WEBHOOK_SECRET = "a secret that HubSpot and Attain share in this demo"  # noqa: S105 - of a company that does not exist
DUPLICATES = 0.05
DISORDER = 0.1
TICK_DAYS = (1, 16)
"""The company's clock moves on twice a month."""

ADMIN_ROLES = (Role.ADMIN, Role.COMP_ADMIN)
TIMEOUT_S = 60.0
SHOWN_CHARS = 500
CLOCKED = ("metrics", "commissions")
"""Services that live in the company's time."""


@dataclass(frozen=True, slots=True)
class Script:
    """What will be sent, and what should come out of it."""

    company: Company
    deliveries: Sequence[Delivery]
    outcome: OracleResult

    @property
    def events(self) -> int:
        """Facts in all deliveries, duplicates included."""
        return sum(delivery.events for delivery in self.deliveries)


@dataclass(frozen=True, slots=True)
class Told:
    """What happened while it was told. elapsed_s: from the first delivery until all was visible."""

    sent: Sent
    elapsed_s: float
    delays_s: Sequence[float]

    @property
    def events_per_s(self) -> float:
        """Facts through all services in a second."""
        return self.sent.events / self.elapsed_s


def write(seed: int, scale: float) -> Script:
    """Make up a company's year; it takes a second or two."""
    company = Company.generate(seed, scale)
    sent = tuple(deliveries(company, duplicates=DUPLICATES, disorder=DISORDER))
    return Script(company, sent, recompute(company.history))


async def introduce(stage: Stage, company: Company) -> None:
    """Say who the people are, how they are judged and how they are paid."""
    token = stage.token(*ADMIN_ROLES, subject="demo-admin")
    calls: dict[str, list[SetupCall]] = {}
    for call in setup_calls(company, secret=WEBHOOK_SECRET):
        calls.setdefault(call.service, []).append(call)
    # Ingest first: quotas and assignments name people.
    await _say(stage.url("ingest"), token, calls.pop("ingest"))
    calls["notifications"] = [
        SetupCall("PUT", "notifications", f"/v1/subscriptions/{person}", {"channels": [channel]})
        for person, channel in HEARS_BY.items()
    ]
    await together(_say(stage.url(service), token, own) for service, own in calls.items())


async def _say(base_url: str, token: str, calls: Sequence[SetupCall]) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False
    ) as client:
        for _, group in groupby(calls, lambda call: call.path.split("/")[2]):
            waiting = iter(list(group))
            await together(_say_each(client, waiting) for _ in range(AT_ONCE))


async def _say_each(client: httpx.AsyncClient, waiting: Iterator[SetupCall]) -> None:
    for call in waiting:
        response = await client.request(call.method, call.path, json=call.body)
        if not response.is_success:
            raise _refused(response)


async def tell(stage: Stage, script: Script, watch: Watch, on_sent: Callable[[int], None]) -> Told:
    """Send the year, moving the company's clock along; returns when everything is settled."""
    sender = Sender(
        base_url=stage.url("ingest"),
        token=stage.token(Role.ADMIN, subject="demo-machine"),
        secret=WEBHOOK_SECRET,
        on_sent=on_sent,
    )
    headers = {"Authorization": f"Bearer {stage.token(Role.ADMIN, subject='demo-clock')}"}
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, headers=headers) as clock:
        for until_ms, group in _by_tick(script):
            await sender.send(group)
            await watch.caught_up()
            for service in CLOCKED:
                body = {"now": instant_text(until_ms)}
                response = await clock.put(f"{stage.url(service)}/v1/clock", json=body)
                if not response.is_success:
                    raise _refused(response)
        await watch.caught_up(settled=True)
    return Told(sender.sent, time.monotonic() - began, watch.delays_s)


def _by_tick(script: Script) -> Iterator[tuple[int, list[Delivery]]]:
    """(instant, the deliveries sent before it), the last one at the year's end."""
    ends_ms = script.company.history.ends_ms

    def tick_of(delivery: Delivery) -> int:
        return min(next_tick_ms(delivery.at_ms), ends_ms)

    for until_ms, group in groupby(script.deliveries, tick_of):
        yield until_ms, list(group)


def next_tick_ms(at_ms: int) -> int:
    """The midnight of the company after the instant, on which its clock moves."""
    day = from_ms(at_ms).date()
    while (tick_ms := local_ms(day, day_time())) <= at_ms or day.day not in TICK_DAYS:
        day += timedelta(days=1)
    return tick_ms


def _refused(response: httpx.Response) -> StackError:
    request = response.request
    return StackError(
        f"{request.method} {request.url} was answered with {response.status_code}: "
        f"{response.text[:SHOWN_CHARS]}"
    )
