"""How long after a webhook its number is there: in the KPI, on the statement, in Slack.

All services run, on the wall clock. HubSpot webhooks of one event each come at an even rate. Most
change one of some thousand deals. Some are probes: one makes the only deal of a rep of its own won,
which moves that rep's bookings and statement; another moves a close date for the second time, of
which the manager hears in Slack.

When a number is there the database itself says: a trigger on the very rows that are read notifies
this process when their transaction commits. A read that begins then shows the number, so its own
time is not in it (`reads` measures that). Slack is a stand-in in this process. Both are exact to
what this process takes to wake up, some milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import asyncpg
import httpx

from deploy.demo.caught_up import watching
from deploy.demo.stage import Stage
from deploy.demo.story import WEBHOOK_SECRET, introduce
from deploy.embedded.ports import free_port
from shared.clock import to_epoch_ms, to_text
from shared.http.auth import Role
from tests.bench.company import port_of, whole
from tests.bench.lab import Lab
from tests.bench.report import Goal, Result, at_most, compared, percentile
from tests.bench.throughput import THIRD_COMPONENT
from tests.bench.webhooks import property_event, webhook
from tests.bench.wire import wire
from tests.simulator import Company
from tests.simulator.emit import CLOUDEVENTS_BATCH, CLOUDEVENTS_SOURCE
from tests.simulator.people import TENANT
from tests.simulator.reference import OPEN_STAGES, PIPELINE, WON
from tests.simulator.setup import HOOK_PATH
from tests.support.slack_server import Body, SlackServer, texts_of

PER_SECOND = 200
PAY_PROBES_PER_SECOND = 10
SLACK_PROBES_PER_SECOND = 4
SLACK_TEAMS = 12
"""Each has a channel of its own: Slack, and so the service, takes one message a second in each."""

DEALS = 3_000
CONNECTIONS = 16
AT_ONCE = 8
EVENTS_PER_BATCH = 500
WARM_UP_S = 3.0
LATE_S = 30.0
"""What has not appeared so long after the last webhook has failed."""

FIRST_DEAL, FIRST_PAY, FIRST_SLACK = 40_000_000_000, 41_000_000_000, 42_000_000_000
AMOUNT = 10_000
SECONDS = "s"
MEDIAN, TAIL = 50, 99
GOAL, SLACK_GOAL = at_most(1.0), at_most(2.0)
CHANNEL = "probes"

_TRIGGERS = f"""
CREATE FUNCTION public.tell_bench() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{CHANNEL}', TG_ARGV[0] || ' ' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    RETURN NULL;
END $$;
CREATE TRIGGER tell_bench AFTER INSERT OR UPDATE ON metrics.cell FOR EACH ROW
    WHEN (NEW.measure = 'booked' AND NEW.people LIKE 'pay-%')
    EXECUTE FUNCTION public.tell_bench('kpi', 'people');
CREATE TRIGGER tell_bench AFTER INSERT OR UPDATE ON commissions.statement FOR EACH ROW
    WHEN (NEW.payee LIKE 'pay-%' AND NEW.own <> 0)
    EXECUTE FUNCTION public.tell_bench('statement', 'payee');
"""


@dataclass(slots=True)
class Seen:
    """When what was first seen, by `time.monotonic`: the probes' names, by where they appear."""

    kpi: dict[str, float] = field(default_factory=dict)
    statement: dict[str, float] = field(default_factory=dict)
    slack: dict[str, float] = field(default_factory=dict)

    def told(self, *notified: object) -> None:
        """A notification of the database: where, and the rep."""
        place, _, name = str(notified[-1]).partition(" ")
        held = self.kpi if place == "kpi" else self.statement
        held.setdefault(name, time.monotonic())


@dataclass
class TimedSlack(SlackServer):
    """Slack's stand-in, which notes when it was told of which probe."""

    seen: Seen = field(default_factory=Seen)

    def _keep(self, method: str, hook: str, channel: str, ts: str, body: Body) -> None:
        now = time.monotonic()
        for word in " ".join(texts_of(body)).split():
            if word.startswith("slack-deal-"):
                self.seen.slack.setdefault(word, now)
        super()._keep(method, hook, channel, ts, body)


@dataclass(frozen=True, slots=True)
class Sending:
    """One webhook. probe: the name under which its effect appears, if it is one."""

    deal: int
    field: str
    value: str
    probe: str | None = None
    slack: bool = False


@dataclass(slots=True)
class Sent:
    """What was sent. due: of each probe, when it was to be sent. answered_s: after that, of all."""

    due: dict[str, float] = field(default_factory=dict)
    answered_s: list[float] = field(default_factory=list)


async def freshness(lab: Lab, *, seed: int, duration_s: float) -> list[Result]:
    """Latencies at 200 webhooks a second, over so long."""
    seen = Seen()
    plan = _sendings(seed, duration_s)
    channels = {f"slack-{number}": f"C0PROBE{number}" for number in range(SLACK_TEAMS)}
    async with (
        TimedSlack(port=free_port(), seen=seen) as slack,
        whole(lab, slack, channels=channels) as stage,
        _listening(stage, seen),
    ):
        await _prepare(stage, seed, plan)
        sent = await _send(stage, plan, duration_s)
        await _all_seen(seen, sent)
        await _check(stage, seen)
    return _results(seen, sent)


def _results(seen: Seen, sent: Sent) -> list[Result]:
    results: list[Result] = []
    floors: dict[int, Result] = {}
    for share in (MEDIAN, TAIL):
        name = f"freshness: webhook → acknowledged, p{share} (floor)"
        floors[share] = Result(name, percentile(sent.answered_s, share), SECONDS)
    results += floors.values()
    places: tuple[tuple[str, Mapping[str, float], Goal], ...] = (
        ("KPI visible", seen.kpi, GOAL),
        ("statement visible", seen.statement, GOAL),
        ("Slack received", seen.slack, SLACK_GOAL),
    )
    for name, at, goal in places:
        took_s = [at[probe] - due for probe, due in sent.due.items() if probe in at]
        for share in (MEDIAN, TAIL):
            full, held = f"freshness: webhook → {name}, p{share}", goal if share == TAIL else None
            value = percentile(took_s, share)
            results.append(compared(full, value, SECONDS, floors[share], goal=held))
    return results


@asynccontextmanager
async def _listening(stage: Stage, seen: Seen) -> AsyncIterator[None]:
    connection = await asyncpg.connect(stage.stack.endpoints.database_url)
    try:
        await connection.execute(_TRIGGERS)
        await connection.add_listener(CHANNEL, seen.told)
        yield
    finally:
        await connection.close()


# ---- what is sent ------------------------------------------------------------------------------


def _sendings(seed: int, duration_s: float) -> list[Sending]:
    """Every webhook in its order; probes begin once everything is warm."""
    rng = Random(f"{seed}/freshness")
    begins = round(PER_SECOND * WARM_UP_S)
    pay_every, slack_every = (
        PER_SECOND // PAY_PROBES_PER_SECOND,
        PER_SECOND // SLACK_PROBES_PER_SECOND,
    )
    later = f"{to_epoch_ms(_noon(days=30))}"
    plan = []
    for place in range(begins + round(PER_SECOND * duration_s)):
        number = place - begins
        if number >= 0 and number % pay_every == 0:
            rep = number // pay_every
            plan.append(Sending(FIRST_PAY + rep, "dealstage", WON, f"pay-{rep}"))
        elif number >= 0 and number % slack_every == 1:
            deal = number // slack_every
            name = f"slack-deal-{deal}"
            plan.append(Sending(FIRST_SLACK + deal, "closedate", later, name, slack=True))
        else:
            plan.append(_change(rng))
    return plan


def _change(rng: Random) -> Sending:
    deal = FIRST_DEAL + rng.randrange(DEALS)
    draw = rng.random()
    if draw < 0.4:
        return Sending(deal, "amount", f"{rng.randrange(2_000, 90_000)}.{rng.randrange(100):02d}")
    if draw < 0.8:
        return Sending(deal, "dealstage", rng.choice((*OPEN_STAGES, WON, "closedlost")))
    return Sending(deal, "hs_next_step", rng.choice(("Call", "Demo", "Contract", "Review")))


def _noon(**ahead: float) -> datetime:
    return datetime.now(UTC).replace(hour=12, minute=0, second=0) + timedelta(**ahead)


async def _send(stage: Stage, plan: Sequence[Sending], duration_s: float) -> Sent:
    """Post each webhook when it is due, however long the ones before it take."""
    sent = Sent()
    waiting: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
    begins = time.monotonic() + 0.1
    counted_from = begins + len(plan) / PER_SECOND - duration_s

    async def connection() -> None:
        async with wire(port_of(stage, "ingest")) as inlet:
            while (place := await waiting.get()) is not None:
                number, due = place
                one = plan[number]
                now_ms = time.time_ns() // 1_000_000
                event = property_event(number, now_ms, one.deal, one.field, one.value)
                await inlet.exchange(webhook(HOOK_PATH, event, WEBHOOK_SECRET))
                if due >= counted_from:
                    sent.answered_s.append(time.monotonic() - due)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(connection())
        for number, one in enumerate(plan):
            due = begins + number / PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if one.probe is not None:
                sent.due[one.probe] = due
            waiting.put_nowait((number, due))
        for _ in range(CONNECTIONS):
            waiting.put_nowait(None)
    return sent


async def _all_seen(seen: Seen, sent: Sent) -> None:
    deadline = time.monotonic() + LATE_S
    while missing := _missing(seen, sent):
        if time.monotonic() > deadline:
            msg = f"{LATE_S:.0f} s after the last webhook there is nothing of {missing[:5]}"
            raise RuntimeError(msg)
        await asyncio.sleep(0.1)


def _missing(seen: Seen, sent: Sent) -> list[str]:
    missing = []
    for probe in sent.due:
        places = (seen.slack,) if probe.startswith("slack-") else (seen.kpi, seen.statement)
        missing += [probe for at in places if probe not in at]
    return missing


async def _check(stage: Stage, seen: Seen) -> None:
    """What the database told is what the interfaces show, for some of the probes."""
    today = datetime.now(UTC)
    window = {"from": f"{today - timedelta(days=1):%Y-%m-%d}"}
    window["to"] = f"{today + timedelta(days=2):%Y-%m-%d}"
    roles = (Role.ADMIN, Role.COMP_ADMIN, Role.FINANCE)
    headers = {"Authorization": f"Bearer {stage.token(*roles, subject='bench')}"}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as client:
        for rep in sorted(seen.kpi)[:3]:
            kpi = await client.get(
                f"{stage.url('metrics')}/v1/kpis/K1", params={"rep": rep, **window}
            )
            booked = kpi.raise_for_status().json()["parts"]["booked"]
            pay = await client.get(
                f"{stage.url('commissions')}/v1/statements", params={"payee": rep}
            )
            own = [row["own"] for row in pay.raise_for_status().json()["data"]]
            if Decimal(booked) != AMOUNT or not any(map(Decimal, own)):
                msg = f"{rep} booked {booked} and earned {own}, which is not what was announced"
                raise RuntimeError(msg)


# ---- who and what is there before --------------------------------------------------------------


async def _prepare(stage: Stage, seed: int, plan: Iterable[Sending]) -> None:
    company = Company.generate(seed, 0.01, datetime.now(UTC).year)
    for document in company.history.plans.values():
        document["components"].append(dict(THIRD_COMPONENT))
    probes = [one for one in plan if one.probe is not None]
    async with watching(stage.stack.endpoints) as watch:
        await introduce(stage, company)
        await _put_all(stage, "ingest", _people(company, probes))
        await watch.caught_up()
        await _put_all(stage, "commissions", _assignments(company, probes))
        await _post_deals(stage, company, probes)
        await watch.caught_up()


def _people(company: Company, probes: Iterable[Sending]) -> Iterator[tuple[str, dict[str, Any]]]:
    since = {"effective_from": f"{company.history.year - 1}-01-01"}
    person = {**since, "role": "rep", "active": True}
    for number in range(SLACK_TEAMS):
        team, boss = f"slack-{number}", f"slack-boss-{number}"
        yield f"/v1/people/{boss}", {**person, "name": f"Boss {number}", "role": "manager"}
        yield f"/v1/teams/{team}", {**since, "name": f"Team {number}", "manager": boss}
        rep = {**person, "name": f"Rep {number}", "manager": boss, "teams": {team: True}}
        yield f"/v1/people/slack-rep-{number}", rep
    for probe in probes:
        if not probe.slack:
            yield f"/v1/people/{probe.probe}", {**person, "name": f"Rep {probe.probe}"}


def _assignments(
    company: Company, probes: Iterable[Sending]
) -> Iterator[tuple[str, dict[str, Any]]]:
    year = company.history.year
    for probe in probes:
        if not probe.slack:
            yield (
                f"/v1/assignments/{probe.probe}",
                {
                    "payee": probe.probe,
                    "plan": f"ae-{year}",
                    "from": f"{year}-01-01",
                    "to": None,
                    "payout_currency": "USD",
                },
            )


async def _put_all(
    stage: Stage, service: str, calls: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    token = stage.token(Role.ADMIN, Role.COMP_ADMIN, subject="bench")
    waiting = iter(list(calls))
    async with httpx.AsyncClient(
        base_url=stage.url(service),
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    ) as client:

        async def work() -> None:
            for path, body in waiting:
                answer = await client.put(path, json=body)
                if not answer.is_success:
                    msg = f"PUT {path}: {answer.status_code} {answer.text[:300]}"
                    raise RuntimeError(msg)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _post_deals(stage: Stage, company: Company, probes: Iterable[Sending]) -> None:
    events = list(_deals(company, probes))
    token = stage.token(Role.ADMIN, subject="bench")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": CLOUDEVENTS_BATCH}
    async with httpx.AsyncClient(timeout=60, trust_env=False, headers=headers) as client:
        for start in range(0, len(events), EVENTS_PER_BATCH):
            body = json.dumps(events[start : start + EVENTS_PER_BATCH])
            answer = await client.post(f"{stage.url('ingest')}/v1/events", content=body)
            if not answer.is_success:
                msg = f"POST /v1/events: {answer.status_code} {answer.text[:300]}"
                raise RuntimeError(msg)


def _deals(company: Company, probes: Iterable[Sending]) -> Iterator[dict[str, Any]]:
    """Deals as they were some days ago: too young for anybody to be told of them."""
    rng = Random("deals")
    owners = [p.identity for p in company.history.people if p.identity and not p.left_on]
    for number in range(DEALS):
        yield _new_deal(FIRST_DEAL + number, f"Deal {number}", rng.choice(owners), rng)
    for probe in probes:
        if not probe.slack:
            yield _new_deal(probe.deal, f"Deal of {probe.probe}", str(probe.probe), rng)
            continue
        number = probe.deal - FIRST_SLACK
        owner = f"slack-rep-{number % SLACK_TEAMS}"
        yield _new_deal(probe.deal, str(probe.probe), owner, rng)
        # Moved once already: the webhook moves it for the second time.
        moved = {"close_date": f"{_noon(days=20):%Y-%m-%d}"}
        yield _event(probe.deal, 2, datetime.now(UTC) - timedelta(hours=1), moved)


def _new_deal(number: int, name: str, owner: str, rng: Random) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(days=rng.uniform(1, 3))
    fields = {
        "name": name,
        "pipeline": PIPELINE,
        "stage": OPEN_STAGES[1],
        "amount": str(AMOUNT),
        "currency": "USD",
        "close_date": f"{_noon(days=10):%Y-%m-%d}",
        "owner": owner,
        "type": "new",
        "created_at": to_text(created),
    }
    return _event(number, 1, created, fields)


def _event(deal: int, number: int, at: datetime, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"bench-{deal}-{number}",
        "source": CLOUDEVENTS_SOURCE,
        "type": "attain.deal.v1",
        "subject": f"deal/{TENANT}:{deal}",
        "time": to_text(at),
        "datacontenttype": "application/json",
        "data": dict(fields),
    }
