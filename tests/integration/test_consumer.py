"""The consumer, marks and settle on real Kafka and PostgreSQL, with two workers."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal

import msgspec

from shared.events.envelope import Envelope
from tests.support import paid_deals
from tests.support.paid_deals import Workers, fact, paid_by_owner, send


def company(seed: int, deals: int, payments: int) -> list[Envelope]:
    """Facts whose deals and payments lie in different topics and partitions, in random order."""
    chance = random.Random(seed)
    events = []
    for number in range(deals):
        events.append(fact("deal", f"a:b:{number}", 1, owner=f"rep-{number % 3}"))
        if number % 7 == 0:
            events.append(fact("deal", f"a:b:{number}", 9, owner="rep-9"))
        if number % 11 == 0:
            events.append(fact("deal", f"a:b:{number}", 5, deleted=True))
    for number in range(payments):
        amount = str(chance.randrange(1, 10_000))
        events.append(
            fact("payment", f"a:b:p{number}", 2, amount=amount, deal=f"a:b:{number % deals}")
        )
        if number % 5 == 0:
            moved = f"a:b:{chance.randrange(deals)}"
            events.append(fact("payment", f"a:b:p{number}", 3, deal=moved))
    events += chance.sample(events, len(events) // 10)
    chance.shuffle(events)
    return events


def expected(events: list[Envelope]) -> dict[str, Decimal]:
    """The same by brute force: the last statement of each field wins."""
    known: dict[str, dict[str, tuple[str, object]]] = defaultdict(dict)
    for event in events:
        for name, value in msgspec.json.decode(event.data).items():
            before = known[event.subject].get(name)
            if before is None or before[0] < event.sequence:
                known[event.subject][name] = (event.sequence, value)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for subject, fields in known.items():
        if subject.startswith("payment/"):
            deal = known[f"deal/{fields['deal'][1]}"]
            if "deleted" not in deal:
                sums[str(deal["owner"][1])] += Decimal(str(fields["amount"][1]))
    return {owner: amount for owner, amount in sums.items() if amount}


async def test_two_workers_lose_and_double_nothing(
    database: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """900 payments of 40 deals: every batch shares roots with the other worker's."""
    await paid_deals.create_schema(database)
    events = company(seed=7, deals=40, payments=900)
    await send(kafka_bootstrap, topic_prefix, events)
    async with Workers(database, kafka_bootstrap, topic_prefix) as workers:
        await workers.drain(len(events))
    assert await paid_by_owner(database) == expected(events)
