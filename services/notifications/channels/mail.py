"""E-mail by SMTP, one connection a message."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum

import aiosmtplib

from services.notifications.channels.mail_message import alert_mail, mail_address
from services.notifications.domain.attempts import Outcome, Verdict
from services.notifications.domain.content import plain_line
from services.notifications.domain.deliveries import MessageRef
from services.notifications.domain.messages import OutgoingMessage
from services.notifications.domain.routing import ChannelKind
from shared.clock import Clock
from shared.errors import InvalidValue, Misconfigured

TIMEOUT_S = 30.0
"""For a whole delivery: mail servers delay their greeting to shake off spammers."""

QUIT_TIMEOUT_S = 2.0
PERMANENT_FROM = 500
"""SMTP replies from here on say that trying again is no use (RFC 5321 section 4.2.1)."""


class SmtpSecurity(StrEnum):
    """How the connection is protected. `none` is for a server on the same machine."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, and as whom."""

    host: str
    port: int
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    tls_context: ssl.SSLContext | None = None


class MailChannel:
    """Alerts by e-mail. A sent mail cannot change: what matters is followed up in its thread."""

    kind = ChannelKind.EMAIL

    def __init__(self, server: SmtpServer, sender: str, clock: Clock) -> None:
        """`sender` is the From address; its domain also ends the Message-IDs.

        Raises Misconfigured for a sender that is no address, and for a password that would
        travel unprotected.
        """
        if server.username is not None and server.security is SmtpSecurity.NONE:
            msg = "an SMTP password needs security starttls or tls"
            raise Misconfigured(msg)
        try:
            self._domain = mail_address(sender).domain
        except InvalidValue as error:
            msg = f"the sender of mail: {error.message}"
            raise Misconfigured(msg) from None
        self._server = server
        self._sender = sender
        self._clock = clock

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Hand the mail over to the server."""
        try:
            mail = alert_mail(
                message,
                sender=self._sender,
                domain=self._domain,
                written_at=self._clock.now(),
            )
        except InvalidValue:
            return Outcome(Verdict.FAILED, "the recipient's address is not a mail address")
        try:
            async with asyncio.timeout(self._server.timeout_s):
                await self._hand_over(mail)
        except Exception as error:  # noqa: BLE001 - a channel answers with an outcome, whatever broke
            return _failure(error, self._server.timeout_s)
        return Outcome(Verdict.SENT, ref=MessageRef(message.address, mail["Message-ID"]))

    async def _hand_over(self, mail: EmailMessage) -> None:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            # Given, because the default asks the name server and blocks the loop.
            local_hostname=self._domain,
            timeout=server.timeout_s,
            use_tls=server.security is SmtpSecurity.TLS,
            start_tls=server.security is SmtpSecurity.STARTTLS,
            tls_context=server.tls_context,
        )
        try:
            await client.connect()
            await client.send_message(mail)
            # The mail is accepted: a failing goodbye must not send it again.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_TIMEOUT_S)
        finally:
            client.close()


def _failure(error: Exception, timeout_s: float) -> Outcome:
    """What an error means for the delivery.

    Failed for good only where the server refuses this recipient or this mail permanently;
    a refused login, sender or connection is ours to repair while deliveries wait.
    """
    match error:
        case TimeoutError():
            reason = f"no answer within {timeout_s:g} s; the mail may have arrived"
            return Outcome(Verdict.RETRY, reason)
        case aiosmtplib.SMTPRecipientsRefused(recipients=[refused, *_]):
            return _refused("recipient refused", refused)
        case aiosmtplib.SMTPDataError():
            return _refused("mail refused", error)
        case aiosmtplib.SMTPAuthenticationError():
            return Outcome(Verdict.RETRY, f"login refused: {error.code}")
        case aiosmtplib.SMTPResponseException():
            return Outcome(Verdict.RETRY, _reply_text("server refused", error))
        case _:
            return Outcome(Verdict.RETRY, f"sending failed: {type(error).__name__}")


def _refused(what: str, error: aiosmtplib.SMTPResponseException) -> Outcome:
    verdict = Verdict.FAILED if error.code >= PERMANENT_FROM else Verdict.RETRY
    return Outcome(verdict, _reply_text(what, error))


def _reply_text(what: str, error: aiosmtplib.SMTPResponseException) -> str:
    return plain_line(f"{what}: {error.code} {error.message}", 200)
