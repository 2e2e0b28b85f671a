"""CloudEvents over HTTP: three modes, and every way to be refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from services.ingest.domain.cloudevents import MAX_BATCH_EVENTS, EventsRefused, read_events
from shared.errors import Refused
from shared.events.envelope import Envelope, decode, encode

RECEIVED = datetime(2026, 3, 31, 9, 30, tzinfo=UTC)
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
BATCH = {"content-type": "Application/CloudEvents-Batch+JSON"}


def posted(**changed: object) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/billing/sync",
        "type": "attain.deal.v1",
        "subject": "deal/acme:main:307",
        "time": "2026-03-31T09:29:00.412Z",
        "data": {"amount": "1200.50", "currency": "EUR", "stage": "won"},
    } | changed
    return {name: value for name, value in event.items() if value is not ...}


def read(headers: dict[str, str], body: object) -> tuple[Envelope, ...]:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return read_events(headers, raw, received_at=RECEIVED, raw_id="raw-1")


def refusal(headers: dict[str, str], body: object) -> list[tuple[str, str]]:
    with pytest.raises(EventsRefused) as refused:
        read(headers, body)
    return [(problem.pointer, problem.code) for problem in refused.value.problems]


def test_a_structured_event_becomes_a_fact() -> None:
    (fact,) = read(STRUCTURED, posted())
    assert fact.type == "attain.deal.v1"
    assert fact.subject == "deal/acme:main:307"
    assert fact.source == "/billing/sync"
    assert fact.time == "2026-03-31T09:29:00.412Z"
    assert fact.recordedtime == "2026-03-31T09:30:00.000Z"
    assert fact.sequence == "001774949340412" + "0" * 20
    assert fact.rawid == "raw-1"
    assert decode(encode(fact)).id == fact.id


def test_an_event_sent_again_has_the_same_id_and_another_has_not() -> None:
    (fact,) = read(STRUCTURED, posted())
    assert read(STRUCTURED, posted(foo="an extension"))[0].id == fact.id
    for change in ({"id": "e-2"}, {"source": "/other"}, {"subject": "deal/acme:main:308"}):
        assert read(STRUCTURED, posted(**change))[0].id != fact.id


def test_what_the_cloudevents_package_sends_is_read() -> None:
    attributes = {name: value for name, value in posted().items() if name != "data"}
    attributes |= {"time": datetime(2026, 3, 31, 9, 29, 0, 412000, tzinfo=UTC), "sequence": "7"}
    attributes |= {"subject": "deal/acme:main:Zürich 50%", "datacontenttype": "application/json"}
    event = CloudEvent(attributes=attributes, data=posted()["data"])
    read_back = []
    for write in (to_structured, to_binary):
        message = write(event, JSONFormat())
        headers = {name.lower(): value for name, value in message.headers.items()}
        (fact,) = read(headers, message.body)
        assert fact.subject == "deal/acme:main:Zürich 50%"
        assert fact.sequence.endswith("0007")
        assert fact.sequence.startswith("001774949340412")
        read_back.append((fact.id, msgspec.json.decode(fact.data)))
    assert read_back[0] == read_back[1]


def binary_headers(**changed: str) -> dict[str, str]:
    attributes = {f"ce-{name}": value for name, value in posted(data=...).items()}
    headers = {"content-type": "application/json", **attributes}
    return headers | {name.replace("_", "-"): value for name, value in changed.items()}


def test_binary_mode_reads_attributes_from_headers() -> None:
    headers = binary_headers(ce_source='"/a \\"quoted\\" one"', ce_backfill="true")
    (fact,) = read(headers, b'{"amount": "1"}')
    assert fact.source == '/a "quoted" one'
    assert fact.backfill
    assert refusal(binary_headers(ce_subject="deal/%ff"), b"{}") == [("/subject", "invalid-value")]
    assert refusal(binary_headers(ce_revision="4"), b"{}") == [("/revision", "invalid-value")]
    assert refusal(binary_headers(), b"") == [("/data", "missing-attribute")]
    assert refusal(binary_headers(), b"{") == [("/data", "invalid-value")]
    assert refusal(binary_headers() | {"content-type": "text/csv"}, b"a,b") == [
        ("/datacontenttype", "invalid-value")
    ]
    headers = binary_headers()
    del headers["ce-id"]
    assert refusal(headers, b"{}") == [("/id", "missing-attribute")]


def test_a_batch_is_taken_whole_or_refused_whole() -> None:
    facts = read(BATCH, [posted(), posted(id="e-2", subject="deal/acme:main:308")])
    assert [fact.subject for fact in facts] == ["deal/acme:main:307", "deal/acme:main:308"]
    assert read(BATCH, []) == ()
    bad = [posted(), posted(time=...), 17, posted(data={"amount": 12.5})]
    assert refusal(BATCH, bad) == [
        ("/1/time", "missing-attribute"),
        ("/2", "invalid-value"),
        ("/3/data/amount", "number-not-text"),
    ]


def test_a_refusal_names_its_one_code_or_says_that_there_are_several() -> None:
    with pytest.raises(EventsRefused) as same:
        read(BATCH, [posted(data={"currency": "XYZ"})] * 150)
    assert same.value.code == "unknown-currency"
    assert (len(same.value.problems), same.value.unnamed) == (100, 50)
    with pytest.raises(EventsRefused) as mixed:
        read(BATCH, [posted(data={"currency": "XYZ"}), posted(time=...)])
    assert mixed.value.code == "invalid-events"


def test_data_may_come_as_base64_but_not_twice() -> None:
    encoded = base64.b64encode(b'{"amount": "1"}').decode()
    (fact,) = read(STRUCTURED, posted(data=..., data_base64=encoded))
    assert msgspec.json.decode(fact.data) == {"amount": "1"}
    for change in ({"data_base64": encoded}, {"data": ..., "data_base64": "not base64!"}):
        assert refusal(STRUCTURED, posted(**change)) == [("/data_base64", "invalid-value")]


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"specversion": "0.3"}, "/specversion", "invalid-value"),
        ({"id": ...}, "/id", "missing-attribute"),
        ({"id": ""}, "/id", "invalid-value"),
        ({"id": "x" * 257}, "/id", "invalid-value"),
        ({"id": "a\x00b"}, "/id", "invalid-value"),
        ({"source": ...}, "/source", "missing-attribute"),
        ({"type": "attain.deal.v9"}, "/type", "unknown-type"),
        ({"subject": ...}, "/subject", "missing-attribute"),
        ({"subject": "lead/acme:main:1"}, "/subject", "unknown-subject"),
        ({"subject": "deal/"}, "/subject", "unknown-subject"),
        ({"subject": "deal/a/b"}, "/subject", "unknown-subject"),
        ({"subject": "deal/" + "x" * 201}, "/subject", "unknown-subject"),
        ({"time": "2026-03-31T09:29:00"}, "/time", "invalid-value"),
        ({"time": "yesterday"}, "/time", "invalid-value"),
        ({"time": "0001-01-01T00:00:00+23:00"}, "/time", "invalid-value"),
        ({"time": "1969-12-31T23:59:59Z"}, "/time", "invalid-value"),
        ({"time": "2027-03-31T09:29:00Z"}, "/time", "future-dated"),
        ({"time": "2026-03-31T09:40:00.001Z"}, "/time", "future-dated"),
        ({"sequence": "seven"}, "/sequence", "invalid-value"),
        ({"sequence": "1" * 21}, "/sequence", "invalid-value"),
        ({"sequence": -1}, "/sequence", "invalid-value"),
        ({"backfill": "yes"}, "/backfill", "invalid-value"),
        ({"revision": 3}, "/revision", "invalid-value"),
        ({"sealed": "x"}, "/sealed", "invalid-value"),
        ({"data": ...}, "/data", "missing-attribute"),
        ({"data": None}, "/data", "invalid-value"),
        ({"data": {}}, "/data", "nothing-stated"),
        ({"data": {"amount": "NaN"}}, "/data/amount", "invalid-value"),
        ({"data": {"amount": "1e400"}}, "/data/amount", "invalid-value"),
        ({"data": {"amount": 12}}, "/data/amount", "number-not-text"),
        ({"data": {"amount": "1" * 19}}, "/data/amount", "invalid-value"),
        ({"data": {"currency": "XYZ"}}, "/data/currency", "unknown-currency"),
        ({"data": {"currency": "XXX"}}, "/data/currency", "unknown-currency"),
        ({"data": {"close_date": "2026-02-30"}}, "/data/close_date", "invalid-value"),
        (
            {"data": {"created_at": "2026-02-30T00:00:00.000Z"}},
            "/data/created_at",
            "invalid-value",
        ),
        ({"data": {"name": "a\x00b"}}, "/data/name", "invalid-value"),
        ({"data": {"probability": "1.01"}}, "/data/probability", "invalid-value"),
        ({"data": {"merged_into": "acme:main:307"}}, "/data/merged_into", "invalid-value"),
        ({"data": {"splits": {"a/b": "50%"}}}, "/data/splits", "invalid-value"),
        ({"data": {"custom": {"x/y": [1.5]}}}, "/data/custom/x~1y/0", "number-not-text"),
        ({"data": {"custom": {"x": 2**64}}}, "/data/custom/x", "number-not-text"),
        (
            {"data": {"product_lines": [{"amount": 9.99}]}},
            "/data/product_lines/0/amount",
            "number-not-text",
        ),
        ({"data": {"salary": "1"}}, "/data", "invalid-value"),
        ({"data": {"name": "x" * 300_000}}, "/data", "too-large"),
    ],
)
def test_an_event_that_cannot_be_taken(change: dict[str, Any], pointer: str, code: str) -> None:
    assert refusal(STRUCTURED, posted(**change)) == [(pointer, code)]


def test_ten_minutes_ahead_is_still_taken() -> None:
    assert read(STRUCTURED, posted(time="2026-03-31T09:40:00Z"))


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1.0"])
def test_a_json_number_is_never_taken_for_an_amount(number: bytes) -> None:
    for place in ('{"amount":"@"}', '{"custom":{"x":"@"}}'):
        body = msgspec.json.encode(posted(data=msgspec.Raw(place.encode())))
        ((pointer, code),) = refusal(STRUCTURED, body.replace(b'"@"', number))
        assert code == "number-not-text"
        assert pointer.startswith("/data/")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b'{"id": NaN}', b"\xff\xfe", b'{"a":' * 5000, b'{"x":"\\ud800"}']
)
def test_malformed_json(body: bytes) -> None:
    for headers in (STRUCTURED, BATCH):
        with pytest.raises(Refused) as refused:
            read(headers, b"[" + body if headers is BATCH else body)
        assert (refused.value.code, refused.value.status) == ("malformed-json", 400)


def test_nan_in_the_data_is_malformed() -> None:
    body = msgspec.json.encode(posted(data={"amount": "@"})).replace(b'"@"', b"NaN")
    with pytest.raises(Refused) as refused:
        read(STRUCTURED, body)
    assert refused.value.code == "malformed-json"


def test_deep_nesting_is_refused() -> None:
    for depth in (40, 3000):
        nested = b'{"custom":{"x":' + b"[" * depth + b"]" * depth + b"}}"
        body = msgspec.json.encode(posted(data=msgspec.Raw(nested)))
        with pytest.raises((EventsRefused, Refused)):
            read(STRUCTURED, body)


def test_too_many_events() -> None:
    with pytest.raises(Refused) as refused:
        read(BATCH, [0] * (MAX_BATCH_EVENTS + 1))
    assert (refused.value.code, refused.value.status) == ("batch-too-large", 413)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/cloudevents+avro", "text/plain"]
)
def test_other_content_types(content_type: str) -> None:
    with pytest.raises(Refused) as refused:
        read({"content-type": content_type}, posted())
    assert refused.value.status == 415


def test_times_below_the_millisecond_still_order() -> None:
    (first,) = read(STRUCTURED, posted(time="2026-03-31T09:29:00.412001Z"))
    (second,) = read(STRUCTURED, posted(time="2026-03-31T11:29:00.412002+02:00"))
    assert first.sequence < second.sequence
    assert first.time == second.time == "2026-03-31T09:29:00.412Z"


def test_trace_context_is_kept_when_it_is_sound() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert read(STRUCTURED, posted(traceparent=trace))[0].traceparent == trace
    assert read(STRUCTURED, posted(traceparent="x"))[0].traceparent is None
