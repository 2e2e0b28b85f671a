"""Reading a fact: what is refused, and where the message points."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.errors import InvalidValue
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.facts.fact import read_fact
from tests.support.paid_deals import START, fact


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"close_date": "2025-02-31"}, "/data/close_date"),
        ({"created_at": "2025-13-45T29:00:00.000Z"}, "/data/created_at"),
        ({"closed_at": "2025-02-31T09:00:00.000Z"}, "/data/closed_at"),
        ({"amount": "NaN"}, "/data/amount"),
        ({"amount": "1e400"}, "/data/amount"),
        ({"amount": 12.5}, "/data/amount"),
        ({"currency": "dollars"}, "/data/currency"),
        ({"unheard_of": 1}, "/data"),
    ],
)
def test_impossible_values_are_refused_where_they_stand(
    fields: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_fact(fact("deal", "a:b:1", 1, **fields))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": "attain.deal.v9"}, "/type"),
        ({"subject": "invoice/a:b:1"}, "/subject"),
        ({"subject": "deal/"}, "/subject"),
        ({"sequence": sequence_of(START.replace(year=2026))}, "/sequence"),
        ({"recordedtime": "2025-02-31T09:00:00.000Z"}, ""),
    ],
)
def test_an_envelope_that_cannot_be_is_refused(changes: dict[str, str], pointer: str) -> None:
    envelope: Envelope = msgspec.structs.replace(fact("deal", "a:b:1", 1, name="A"), **changes)
    with pytest.raises(InvalidValue) as refused:
        read_fact(envelope)
    assert refused.value.pointer == pointer


def test_a_dated_patch_names_its_day() -> None:
    envelope = fact(
        "person", "ana", 1, effective_from="2025-02-01", role="ae", teams={"east": True}
    )
    assert read_fact(envelope).fields == {"role@2025-02-01": "ae", "teams:east@2025-02-01": True}


def test_without_a_day_it_holds_from_the_source_time() -> None:
    envelope = msgspec.structs.replace(
        fact("person", "ana", 0), data=encode_data({"manager": "bob"})
    )
    assert read_fact(envelope).fields == {"manager@2025-01-01T00:00:00.000Z": "bob"}
