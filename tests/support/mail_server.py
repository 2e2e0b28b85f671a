"""A local SMTP server that keeps every mail, with faults on demand.

Alone: `python -m tests.support.mail_server --port N --record FILE` writes one JSON line a mail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections import deque
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from types import TracebackType
from typing import Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.listen import bound_socket


@dataclass(frozen=True)
class ReceivedMail:
    """One accepted mail: its envelope and its parsed content."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    over_tls: bool
    login: str

    @property
    def message(self) -> EmailMessage:
        """The mail as its reader's program understands it."""
        return message_from_bytes(self.raw, EmailMessage, policy=default)

    def part(self, kind: str) -> str:
        """The decoded `plain` or `html` part; empty when there is none."""
        body = self.message.get_body(preferencelist=(kind,))
        return "" if body is None else str(body.get_content())

    def record(self) -> dict[str, object]:
        """What a JSON line keeps of it."""
        message = self.message
        return {
            "from": self.sender,
            "to": list(self.recipients),
            "subject": str(message["Subject"]),
            "message_id": str(message["Message-ID"]),
            "in_reply_to": str(message["In-Reply-To"] or ""),
            "text": self.part("plain"),
            "html": self.part("html"),
        }


@dataclass
class MailServer:
    """The server. Use it as an async context manager, or `start` and `stop`.

    data_replies: SMTP replies to the next mails' content instead of accepting it ("451 later").
    recipient_replies: replies to RCPT by address ("550 no such user").
    hang_s: silence before each mail's content is answered; hang_after_s: it is accepted first.
    """

    host: str = "127.0.0.1"
    port: int = 0
    record: Path | None = None
    tls_context: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    received: list[ReceivedMail] = field(default_factory=list)
    data_replies: deque[str] = field(default_factory=deque)
    recipient_replies: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    hang_after_s: float = 0.0
    _server: asyncio.Server | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Bind and serve."""
        loop = asyncio.get_running_loop()
        listener = bound_socket(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._released.clear()
        self._server = await loop.create_server(self._protocol, sock=listener)

    async def stop(self) -> None:
        """Stop serving; hanging answers are let go. The port stays the same at the next start."""
        self._released.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    def _protocol(self) -> SMTP:
        return SMTP(
            self,
            hostname="mail.local.test",
            enable_SMTPUTF8=True,
            tls_context=self.tls_context,
            require_starttls=self.tls_context is not None,
            auth_required=self.login is not None,
            authenticator=self._authenticate if self.login else None,
            loop=asyncio.get_running_loop(),
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
    ) -> AuthResult:
        del server, session, envelope, mechanism
        if isinstance(given, LoginPassword) and self.login is not None:
            name, password = (part.encode() for part in self.login)
            if (given.login, given.password) == (name, password):
                return AuthResult(success=True, auth_data=self.login[0])
        return AuthResult(success=False, handled=False)

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Accept a recipient, unless a refusal was ordered."""
        del server, session
        if address in self.recipient_replies:
            return self.recipient_replies[address]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail, unless a refusal was ordered."""
        await self._hang(self.hang_s)
        if self.data_replies:
            return self.data_replies.popleft()
        mail = ReceivedMail(
            sender=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
            raw=envelope.original_content or b"",
            over_tls=server.transport is not None
            and server.transport.get_extra_info("ssl_object") is not None,
            login=_login_of(session),
        )
        self.received.append(mail)
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(mail.record(), ensure_ascii=False) + "\n")
        await self._hang(self.hang_after_s)
        return "250 OK"

    async def _hang(self, seconds: float) -> None:
        if seconds:
            try:
                await asyncio.wait_for(self._released.wait(), seconds)
            except TimeoutError:
                return


def _login_of(session: Session) -> str:
    name: object = session.auth_data
    return name if isinstance(name, str) else ""


async def _serve(host: str, port: int, record: Path | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with MailServer(host, port, record) as server:
        sys.stdout.write(json.dumps({"listening": server.port}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A local SMTP server that keeps every mail.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--record", type=Path, help="JSON-lines file of accepted mails")
    options = parser.parse_args()
    asyncio.run(_serve(options.host, options.port, options.record))


if __name__ == "__main__":
    main()
