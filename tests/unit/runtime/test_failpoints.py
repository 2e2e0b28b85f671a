"""Failpoints: off by default, at the hit that was named, once over restarts with a folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import Misconfigured
from shared.runtime import failpoints
from shared.runtime.failpoints import FailpointError, arm, failpoint


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


async def test_nothing_happens_when_nothing_is_armed() -> None:
    await failpoint("consume.polled")


async def test_it_acts_at_its_hit_only() -> None:
    arm("consume.polled=error@2")
    await failpoint("consume.polled")
    with pytest.raises(FailpointError):
        await failpoint("consume.polled")
    await failpoint("consume.polled")


async def test_it_can_cancel() -> None:
    arm("consume.polled=cancel")
    with pytest.raises(asyncio.CancelledError):
        await failpoint("consume.polled")


async def test_with_a_folder_it_waits_to_be_armed_and_acts_once(tmp_path: Path) -> None:
    arm(f"relay.sent=error!{tmp_path}", "metrics-consumer")
    await failpoint("relay.sent")
    (tmp_path / "armed").touch()
    with pytest.raises(FailpointError):
        await failpoint("relay.sent")
    assert (tmp_path / "metrics-consumer.relay.sent").exists()
    arm(f"relay.sent=error!{tmp_path}", "metrics-consumer")
    await failpoint("relay.sent")


async def test_a_directed_process_takes_each_order_once(tmp_path: Path) -> None:
    arm(f"@{tmp_path}")
    await failpoint("relay.sent")
    (tmp_path / "relay.sent").write_text("error")
    with pytest.raises(FailpointError):
        await failpoint("relay.sent")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"relay.sent.{os.getpid()}"]
    await failpoint("relay.sent")


async def test_a_held_process_waits_until_its_order_is_removed(tmp_path: Path) -> None:
    arm(f"@{tmp_path}")
    (tmp_path / "consume.polled").write_text("hold")
    holding = asyncio.create_task(failpoint("consume.polled"))
    taken = tmp_path / f"consume.polled.{os.getpid()}"
    while not taken.exists():
        await asyncio.sleep(0.005)
    assert not holding.done()
    taken.unlink()
    await asyncio.wait_for(holding, 5)


@pytest.mark.parametrize("text", ["nowhere=kill", "relay.sent=explode", "relay.sent"])
def test_a_name_or_action_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=failpoints.VARIABLE):
        arm(text)
