from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from deploy.embedded.errors import StackError
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.services import (
    Role,
    Service,
    environment,
    infrastructure_of,
    inlets,
    is_ready,
    readers,
)
from deploy.embedded.stack import wipe
from deploy.embedded.state import Lock, State

DATABASE = "postgresql://admin:word@127.0.0.1:5432/attain"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_each_process_has_a_name_of_its_own() -> None:
    processes = [*readers(consumers=2), *inlets()]
    names = [process.name for process in processes]
    assert len(set(names)) == len(names) == 10
    assert Service("metrics", Role.CONSUMER).name == "metrics-consumer"
    assert Service("metrics", Role.CONSUMER, 2).name == "metrics-consumer-2"


def test_a_service_is_told_its_own_role_and_what_was_asked_for(state: State) -> None:
    more = {"metrics": {"ATTAIN_METRICS_CLOCK": "external"}}
    made = infrastructure_of(state, DATABASE, "127.0.0.1:9092", "x.", more)
    told = environment("metrics", made, 1234)
    assert told["ATTAIN_METRICS_DATABASE_URL"].startswith("postgresql://attain_metrics:")
    assert "word" not in told["ATTAIN_METRICS_DATABASE_URL"]
    assert told["ATTAIN_METRICS_PORT"] == "1234"
    assert told["ATTAIN_METRICS_CLOCK"] == "external"
    assert "ATTAIN_METRICS_SECRETS_KEY" not in told


def test_the_encryption_key_is_made_once_and_shown_in_no_log(state: State) -> None:
    first = infrastructure_of(state, DATABASE, "127.0.0.1:9092", "")
    again = infrastructure_of(State(state.root), DATABASE, "127.0.0.1:9092", "")
    assert first.secrets_key == again.secrets_key
    assert len(base64.urlsafe_b64decode(first.secrets_key)) == 32
    assert environment("ingest", first, 0)["ATTAIN_INGEST_SECRETS_KEY"] in first.secrets


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"\x00\x01 nonsense\n", False),
        (b"", False),
    ],
)
async def test_ready_is_what_answers_2xx(answer: bytes, *, ready: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, LOOPBACK, port):
        assert await is_ready(port) is ready
    assert not await is_ready(port)


def test_a_wipe_reaches_stacks_inside_and_refuses_one_that_is_up(state: State) -> None:
    inner = State(state.root / "demo")
    (inner.root / "kept").write_text("")
    (state.root / "jars").mkdir()
    with Lock(inner), pytest.raises(StackError, match="demo"):
        wipe(state)
    assert (inner.root / "kept").exists()
    wipe(state)
    assert not inner.root.exists()
    assert (state.root / "jars").exists()
