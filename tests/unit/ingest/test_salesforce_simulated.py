"""A company's year told by outbound messages, read by the adapter."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from decimal import Decimal

import pytest

from services.ingest.adapters import ADAPTERS
from services.ingest.domain.translation import Delivery as Received
from services.ingest.domain.translation import RawRequest
from shared.clock import from_epoch_ms
from shared.facts.fact import read_fact
from shared.facts.record import Record
from tests.simulator import Company, Delivery, deliveries, salesforce
from tests.unit.ingest.salesforce_messages import CONNECTION, SECRET

ADAPTER = ADAPTERS["salesforce"]
CONNECTED = replace(
    CONNECTION,
    tenants=frozenset({salesforce.ORGANIZATION[:15]}),
    options=salesforce.TYPE_OPTIONS,
)


@pytest.fixture(scope="module")
def company() -> Company:
    return Company.generate(11, 0.1)


@pytest.fixture(scope="module")
def sent(company: Company) -> list[Delivery]:
    return list(deliveries(company, duplicates=0.2, disorder=0.3, with_salesforce=True))


def test_the_other_traffic_is_what_it_was_without(company: Company, sent: list[Delivery]) -> None:
    others = [one for one in sent if one.kind != "salesforce"]
    assert others == list(deliveries(company, duplicates=0.2, disorder=0.3))
    assert len(others) < len(sent)


def test_the_records_end_in_the_states_of_the_history(
    company: Company, sent: list[Delivery]
) -> None:
    records: dict[str, Record] = defaultdict(Record)
    wanted: set[str] = set()
    times_told: Counter[str] = Counter()
    for one in sent:
        if one.kind != "salesforce":
            continue
        target = salesforce.hook_url("/v1/hooks/sf", SECRET)
        received_at = from_epoch_ms(one.at_ms)
        ADAPTER.verify(RawRequest("POST", target, {}, one.body), CONNECTED, received_at)
        kept = ADAPTER.redact(one.body)
        assert salesforce.SESSION_ID.encode() in one.body
        assert b"canary" not in kept
        translation = ADAPTER.translate(Received("raw", received_at, {}, kept), CONNECTED)
        assert not translation.rejects
        assert 1 <= one.events <= salesforce.NOTIFICATIONS_PER_MESSAGE
        wanted.update(translation.wanted_reads)
        for fact in translation.facts:
            times_told[fact.id] += 1
            records[fact.subject].fold(read_fact(fact))
    assert max(times_told.values()) > 1
    assert wanted
    opportunities = salesforce.Opportunities(company.history)
    for deal in company.history.deals:
        state = opportunities.state(deal.id, company.history.ends_ms * 2)
        subject = f"deal/{salesforce.record_id(deal.id)}"
        if not state:
            assert subject in wanted
            continue
        for field in ("stage", "amount", "currency", "close_date", "type", "next_step", "owner"):
            value = state.get(field)
            if field == "owner" and value is not None:
                value = salesforce.identity(str(value))
            known = records[subject].value(field)
            if field == "amount" and value is not None:
                assert Decimal(known) == Decimal(str(value))
            else:
                assert known == value
