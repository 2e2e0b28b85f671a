"""The stand-ins as programs of their own, as the demo runs them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from services.notifications.channels.mail import MailChannel, SmtpSecurity, SmtpServer
from services.notifications.channels.slack import SlackApiChannel, slack_session
from services.notifications.domain.attempts import Verdict
from services.notifications.domain.routing import ChannelKind
from shared.clock import WallClock
from tests.support.slack_server import TOKEN
from tests.unit.notifications.builders import a_message

pytestmark = pytest.mark.asyncio


async def _started(module: str, record: Path) -> tuple[asyncio.subprocess.Process, dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--record", str(record), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def _stopped(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGTERM)
    return await asyncio.wait_for(process.wait(), 10)


async def test_the_slack_program_records_what_it_received(tmp_path: Path) -> None:
    record = tmp_path / "slack.jsonl"
    process, said = await _started("tests.support.slack_server", record)
    async with slack_session() as session:
        channel = SlackApiChannel(
            session, TOKEN, base_url=said["api_url"], allow_insecure_slack_base_url=True
        )
        outcome = await channel.send(a_message(ChannelKind.SLACK, "C0SALES"))
    assert outcome.verdict is Verdict.SENT
    assert await _stopped(process) == 0
    line = json.loads(record.read_text("utf-8"))
    assert (line["method"], line["channel"]) == ("chat.postMessage", "C0SALES")
    assert TOKEN not in record.read_text("utf-8")


async def test_the_mail_program_records_what_it_received(tmp_path: Path) -> None:
    record = tmp_path / "mail.jsonl"
    process, said = await _started("tests.support.mail_server", record)
    smtp = SmtpServer("127.0.0.1", int(said["listening"]), SmtpSecurity.NONE)
    channel = MailChannel(smtp, "alerts@example.com", WallClock())
    outcome = await channel.send(a_message(ChannelKind.EMAIL, "boss@example.com"))
    assert outcome.verdict is Verdict.SENT
    assert await _stopped(process) == 0
    line = json.loads(record.read_text("utf-8"))
    assert (line["to"], line["subject"]) == (["boss@example.com"], "Acme renewal is stalled")
