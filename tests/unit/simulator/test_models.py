"""What the simulated company says is readable by the product's own models."""

from __future__ import annotations

import json

import msgspec

from shared.events import records
from shared.events.catalogue import RECORD_KIND_BY_TYPE
from tests.simulator import Company, deliveries, setup_calls, stream_facts

DATED = {
    "/v1/people/": records.PersonData,
    "/v1/teams/": records.TeamData,
    "/v1/calendars/": records.CalendarData,
    "/v1/stage-maps/": records.StageMapData,
}


def test_events_and_setup_fit_the_models() -> None:
    company = Company.generate(2, 0.02)
    events = [
        event
        for one in deliveries(company, duplicates=0, disorder=0)
        if one.kind == "events"
        for event in json.loads(one.body)
    ]
    for event in events:
        kind = RECORD_KIND_BY_TYPE[event["type"]]
        msgspec.convert(event["data"], kind.model)
        assert event["subject"].startswith(kind.name + "/")
    assert {event["type"] for event in events} == {
        "attain.deal.v1",
        "attain.activity.v1",
        "attain.lead.v1",
    }
    for event in stream_facts(50, 2):
        msgspec.convert(event["data"], records.DealData)
    for call in setup_calls(company, secret="demo-secret"):
        for path, model in DATED.items():
            if call.path.startswith(path):
                msgspec.convert(call.body, model)
        if call.path == "/v1/rates":
            msgspec.convert(call.body["rows"], list[records.RateData])
