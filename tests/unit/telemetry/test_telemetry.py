"""The metrics catalogue is whole and holds no ids; logs hold no secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel, SecretStr

from shared.telemetry.catalogue import CATALOGUE, Kind, Telemetry, as_markdown
from shared.telemetry.logs import bound, configure_logging, logger

ID_LIKE = {"id", "deal", "person", "rep", "payee", "account", "event", "key", "email", "name"}


@contextmanager
def logged(service: str = "test") -> Iterator[StringIO]:
    """What is logged inside, as text."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    configure_logging(service, "debug", stream)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_the_catalogue_is_what_a_process_exposes() -> None:
    telemetry = Telemetry("test")
    kinds = {Counter: Kind.COUNTER, Gauge: Kind.GAUGE, Histogram: Kind.HISTOGRAM}
    exposed = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type)
        for family in telemetry.registry.collect()
    }
    assert exposed == {(metric.name, metric.kind.value) for metric in CATALOGUE}
    built = [value for value in vars(telemetry).values() if type(value) in kinds]
    assert len(built) == len(CATALOGUE)


def test_names_units_and_labels() -> None:
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert metric.name.startswith("attain_")
        assert metric.meaning.endswith(".")
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets)
        assert list(metric.buckets) == sorted(metric.buckets)
        assert not ID_LIKE.intersection(metric.labels)
        assert not any(label.endswith("_id") for label in metric.labels)
        assert metric.name in as_markdown()


def test_two_services_in_one_process_do_not_mix() -> None:
    first, second = Telemetry("a"), Telemetry("b")
    first.facts_accepted.labels("crm.deals").inc(3)
    assert b'attain_facts_accepted_total{topic="crm.deals"} 3.0' in first.exposition()
    assert b"crm.deals" not in second.exposition()


class Settings(BaseModel):
    """Something with a secret inside."""

    password: SecretStr
    plain: str


def test_a_line_is_json_with_the_ids_of_the_moment() -> None:
    with logged("ingest") as stream:
        with bound(request_id="r1"):
            logger("x").info("facts_accepted", count=3, amount=Decimal("1.50"), path=Path("/a"))
        logging.getLogger("aiokafka").warning("from %s", "elsewhere")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["event"] == "facts_accepted"
    assert first["request_id"] == "r1"
    assert first["service"] == "ingest"
    assert first["level"] == "info"
    assert first["amount"] == "1.50"
    assert first["at"].endswith("Z")
    assert second["event"] == "from elsewhere"
    assert "request_id" not in second


CANARY = "canary4711"


def test_secrets_do_not_reach_a_log_line() -> None:
    jwt = f"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ{CANARY}.{CANARY}"
    with logged() as stream:
        log = logger("x")
        log.info("a", token=CANARY, authorization=CANARY, client_secret=CANARY, password=CANARY)
        log.info("b", nested={"Set-Cookie": CANARY, "list": [{"api_key": CANARY}]})
        log.info("c", typed=SecretStr(CANARY))
        log.info("c", settings=Settings(password=SecretStr(CANARY), plain=CANARY))
        log.info("d", url=f"postgresql://attain:{CANARY}@db:5432/attain")
        log.info("e", text=f"sent Bearer {CANARY}x to them", other=jwt)
        log.info("f", hook=f"https://hooks.slack.com/services/T0/B0/{CANARY}")
        log.info("g", body=CANARY.encode(), unknown=object())
        log.info("calling %s", f"https://user:{CANARY}@host/")
        logging.getLogger("other").error("bearer %s", CANARY + "x" * 8)
    assert len(stream.getvalue().splitlines()) == 10
    assert CANARY not in stream.getvalue()


def _fail(secret: str) -> None:
    local = f"{secret} in a local"
    try:
        Settings.model_validate({"password": {"x": secret}, "plain": [secret]})
    except ValueError as failure:
        message = f"bad settings ({len(local)})\nDETAIL: Key (email)=({secret})"
        raise RuntimeError(message) from failure


def test_an_exception_is_logged_without_its_values() -> None:
    with logged() as stream:
        try:
            _fail(CANARY)
        except RuntimeError:
            logger("x").exception("handler_failed")
            logging.getLogger("uvicorn.error").exception("oops")
    for line in stream.getvalue().splitlines():
        entry = json.loads(line)["exception"]
        assert entry["type"] == "builtins.RuntimeError"
        assert entry["message"].startswith("bad settings")
        assert any("_fail" in frame for frame in entry["frames"])
        assert entry["because_of"]["type"].endswith("ValidationError")
    assert CANARY not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_a_line_is_bounded() -> None:
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"a": deep}
    with logged() as stream:
        logger("x").info("a", text="x" * 100_000, many=list(range(10_000)), deep=deep)
    assert len(stream.getvalue()) < 5_000
