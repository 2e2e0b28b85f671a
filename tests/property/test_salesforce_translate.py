"""Salesforce's translation over any messages: the fold is the state that was told last, whole."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.adapters.salesforce_fields import id_18
from shared.facts.fact import read_fact
from shared.facts.record import Record, canonical
from tests.unit.ingest.salesforce_messages import (
    ORG_15,
    ORG_18,
    SALESFORCE,
    message,
    notification,
    read_body,
    verify,
)

DEALS = ("0065g00000TqLmA", "0065g00000TqLmB", "0065g00000tqlma")
USERS = ("0055g00000HkRsT", "0055g00000HkRsTAAV")
TENANT = f"salesforce:{ORG_18}"
IDS = st.text(
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=11, max_size=11
).map(lambda digits: id_18("04l5" + digits))
AMOUNTS = st.integers(-(10**28) + 1, 10**28 - 1).map(lambda units: Decimal(units).scaleb(-10))
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20
).filter(lambda text: text == text.strip())
"""What XML can carry; spaces around a text are not the text's."""


@dataclass(frozen=True, slots=True)
class Told:
    """One notification: what it holds, and what Attain must know by it."""

    id: str
    deal: str
    second: int
    fields: dict[str, str | None]
    means: dict[str, Any] = field(compare=False)


def _field(name: str, target: str, values: st.SearchStrategy[tuple[str, Any]]) -> Any:  # noqa: ANN401 - a strategy
    cleared = st.just((None, None))
    return st.tuples(st.just(name), st.just(target), values | cleared)


CHOICES = [
    _field("Amount", "amount", AMOUNTS.map(lambda number: (f"{number:e}", number))),
    _field("StageName", "stage", TEXTS.map(lambda text: (text, text))),
    _field("Name", "name", TEXTS.map(lambda text: (text, text))),
    _field("OwnerId", "owner", st.sampled_from(USERS).map(lambda u: (u, f"{TENANT}:{id_18(u)}"))),
    _field("CloseDate", "close_date", st.dates().map(lambda day: (f"{day}", f"{day}"))),
    _field(
        "CurrencyIsoCode",
        "currency",
        st.sampled_from(["EUR", "USD"]).map(lambda code: (code, code)),
    ),
    _field(
        "Probability",
        "probability",
        st.integers(0, 1000).map(lambda n: (f"{n / 10}", Decimal(n) / 1000)),
    ),
]


@st.composite
def told(draw: st.DrawFn) -> Told:
    """A notification with some of the fields, at one of three seconds."""
    chosen = draw(st.lists(st.sampled_from(CHOICES), min_size=1, unique=True))
    fields: dict[str, str | None] = {}
    means: dict[str, Any] = {}
    for strategy in chosen:
        name, target, (text, value) = draw(strategy)
        fields[name] = text
        means[target] = value
    closed = draw(st.sampled_from([None, ("false", "false"), ("true", "false"), ("true", "true")]))
    if closed is not None:
        fields |= {"IsClosed": closed[0], "IsWon": closed[1]}
        means["status"] = {0: "open", 1: "lost", 2: "won"}[closed.count("true")]
    second = draw(st.integers(0, 2))
    return Told(draw(IDS), draw(st.sampled_from(DEALS)), second, fields, means)


def written(one: Told, *, long: bool) -> str:
    time = {"SystemModstamp": f"2026-03-14T15:20:0{one.second}.000Z"}
    deal = id_18(one.deal) if long else one.deal
    return notification({"Id": deal, **one.fields, **time}, own=False, id_=one.id)


def known(record: Record, target: str) -> Any:  # noqa: ANN401 - a value to compare
    value = record.value(target)
    is_number = target in {"amount", "probability"} and value is not None
    return Decimal(value) if is_number else value


@settings(max_examples=60, deadline=None)
@given(
    notifications=st.lists(told(), min_size=1, max_size=8, unique_by=lambda one: one.id),
    order=st.randoms(use_true_random=False),
    org=st.sampled_from([ORG_15, ORG_18]),
    long=st.booleans(),
)
def test_the_fold_is_the_latest_state(
    notifications: list[Told], order: random.Random, org: str, *, long: bool
) -> None:
    """In any order, repeated and cut into any messages; in both forms of the ids."""
    sent = [*notifications, *order.sample(notifications, len(notifications) // 2)]
    order.shuffle(sent)
    records: dict[str, Record] = defaultdict(Record)
    straight: dict[str, Record] = defaultdict(Record)
    while sent:
        batch = [sent.pop() for _ in range(order.randint(1, len(sent)))]
        body = message(*(written(one, long=long) for one in batch), org=org, session="key")
        verify(body)
        translation = read_body(SALESFORCE.redact(body))
        assert not translation.rejects
        assert not translation.skipped
        for fact in translation.facts:
            records[fact.subject].fold(read_fact(fact))
    for one in notifications:
        (fact,) = read_body(message(written(one, long=False))).facts
        straight[fact.subject].fold(read_fact(fact))
        alone = Record()
        alone.fold(read_fact(fact))
        assert {target: known(alone, target) for target in one.means} == one.means
    assert {k: canonical(r) for k, r in records.items()} == {
        k: canonical(r) for k, r in straight.items()
    }
    for deal in {one.deal for one in notifications}:
        expected: dict[str, Any] = {}
        of_deal = [one for one in notifications if one.deal == deal]
        for one in sorted(of_deal, key=lambda one: (one.second, one.id[:15])):
            expected |= one.means
        record = records[f"deal/{TENANT}:{id_18(deal)}"]
        assert {target: known(record, target) for target in expected} == expected
        note("one second, two states" if len({o.second for o in of_deal}) < len(of_deal) else "")
