"""What is told to the system, and in which order: traffic, ticks, closes and changes of the rules.

The company's year is told once. What differs from it at first (some quotas, the plan of the second
half-year, July's stage map) is put right on the way, and then changes what was computed before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from typing import Any

from tests.simulator import Company, Delivery, deliveries, setup_calls
from tests.simulator.history import History, Quota
from tests.simulator.setup import SetupCall
from tests.simulator.worktime import local_day, local_ms

WEBHOOK_SECRET = "a secret that HubSpot and Attain share in this run"
DUPLICATES = 0.08
DISORDER = 0.1
EVENTS_AT_SCALE_1 = 61_000
GROWTH = 1.04
CLOSE_ON = 16
"""A month is closed on this day of the next one: what comes late has come by then."""

STAGE_MAP_TOLD = (8, 16)
"""(month, day) on which July's stage map is told at last."""

PLAN_CHANGED = (9, 16)
PLAN_FROM_MONTH = 7
QUOTA_WRONG_EVERY = 3
QUOTAS_TOLD_FROM, QUOTAS_TOLD_UNTIL = 0.05, 0.9
"""Shares of the traffic between which quotas are put right."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The company's clock moves on."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Close:
    """A month is closed, for which the traffic waits. sent: deliveries accepted before it."""

    month: str
    sent: int


@dataclass(frozen=True, slots=True)
class RightQuota:
    """A quota gets its true amount."""

    quota: Quota


@dataclass(frozen=True, slots=True)
class Say:
    """Rules change: calls that state what holds from then on. what: for the log."""

    what: str
    calls: Sequence[SetupCall]


Step = Delivery | Tick | Close | RightQuota | Say


@dataclass(frozen=True)
class Script:
    """A run's story. closes: how many months are closed on the way. tick_days: between ticks."""

    company: Company
    traffic: Sequence[Delivery]
    closes: int
    tick_days: int

    @classmethod
    def write(cls, seed: int, events: int, *, closes: int, tick_days: int) -> Script:
        """A company whose year has at least so many events, and not many more."""
        scale = events / EVENTS_AT_SCALE_1
        while True:
            company = Company.generate(seed, scale)
            traffic = tuple(deliveries(company, duplicates=DUPLICATES, disorder=DISORDER))
            found = sum(delivery.events for delivery in traffic)
            if found >= events:
                return cls(company, traffic, closes, tick_days)
            scale *= GROWTH * events / found

    @property
    def history(self) -> History:
        """What truly happened, and the rules as they are in the end."""
        return self.company.history

    @cached_property
    def events(self) -> int:
        """Events in all deliveries."""
        return sum(delivery.events for delivery in self.traffic)

    @cached_property
    def closed_months(self) -> list[str]:
        """The months that are closed on the way."""
        return [f"{self.history.year}-{month:02d}" for month in range(1, self.closes + 1)]

    @cached_property
    def later_plans(self) -> dict[str, dict[str, Any]]:
        """Plan id → the document of its second version, in force from July."""
        return {plan: self._raised(document) for plan, document in self.history.plans.items()}

    def _raised(self, document: dict[str, Any]) -> dict[str, Any]:
        later = deepcopy(document)
        later["effective"] = {"from": self._day(PLAN_FROM_MONTH, 1).isoformat()}
        later["name"] = f"{document['name']}, second half"
        for component in later["components"]:
            for tier in component["rates"].get("tiers", [component["rates"]]):
                tier["rate"] = f"{Decimal(tier['rate'].rstrip('%')) + 1}%"
        return later

    @cached_property
    def wrong_quotas(self) -> dict[str, Quota]:
        """Quota id → as it is stated at first, of those that are stated wrongly."""
        return {
            quota.id: replace(quota, amount=str(int(quota.amount) * 9 // 10))
            for quota in self.history.quotas[::QUOTA_WRONG_EVERY]
        }

    def setup(self) -> Iterator[SetupCall]:
        """Who the company is, with what is wrong or missing at first."""
        late = self._stage_map_call()
        for call in self._all_calls():
            quota = self.wrong_quotas.get(call.path.rpartition("/")[2])
            if call.path.startswith("/v1/quotas/") and quota is not None:
                yield replace(call, body={**call.body, "amount": quota.amount})
            elif call != late:
                yield call

    def _all_calls(self) -> list[SetupCall]:
        return list(setup_calls(self.company, secret=WEBHOOK_SECRET))

    def _stage_map_call(self) -> SetupCall:
        maps = [c for c in self._all_calls() if c.path.startswith("/v1/stage-maps/")]
        return max(maps, key=lambda call: str(call.body["effective_from"]))

    def _day(self, month: int, day: int) -> date:
        return date(self.history.year, month, day)

    def steps(self) -> list[Step]:
        """Everything in order."""
        steps: list[Step] = []
        waiting = self._dated()
        quotas = [q for q in self.history.quotas if q.id in self.wrong_quotas]
        span = QUOTAS_TOLD_UNTIL - QUOTAS_TOLD_FROM
        places = [
            int(len(self.traffic) * (QUOTAS_TOLD_FROM + span * number / len(quotas)))
            for number in range(len(quotas))
        ]
        sent = 0
        for at_ms, group in groupby(self.traffic, lambda delivery: self._tick_of(delivery.at_ms)):
            for delivery in group:
                while places and places[0] <= sent:
                    places.pop(0)
                    steps.append(RightQuota(quotas.pop(0)))
                steps.append(delivery)
                sent += 1
            steps.append(Tick(at_ms))
            while waiting and local_day(at_ms) >= waiting[0][0]:
                due = waiting.pop(0)[1]
                steps.append(Close(due, sent) if isinstance(due, str) else due)
        steps += [RightQuota(quota) for quota in quotas]
        assert not waiting, "the year ends before everything was told"
        return steps

    def _dated(self) -> list[tuple[date, str | Say]]:
        plans = [
            SetupCall("PUT", "commissions", f"/v1/plans/{plan}/versions/2", document)
            for plan, document in self.later_plans.items()
        ]
        return sorted(
            [
                *((self._day(int(m[-2:]) + 1, CLOSE_ON), m) for m in self.closed_months),
                (self._day(*STAGE_MAP_TOLD), Say("stage-map change", [self._stage_map_call()])),
                (self._day(*PLAN_CHANGED), Say("plan change", plans)),
            ],
            key=lambda entry: entry[0],
        )

    def _tick_of(self, at_ms: int) -> int:
        """The next midnight of the company on which its clock moves; the last is the year's end."""
        day = local_day(at_ms) + timedelta(days=1)
        day += timedelta(days=-day.toordinal() % self.tick_days)
        return min(local_ms(day, time()), self.history.ends_ms)
