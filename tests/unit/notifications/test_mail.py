"""The e-mail channel against a local SMTP server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.notifications.channels.mail import MailChannel, SmtpSecurity, SmtpServer
from services.notifications.domain.attempts import Verdict
from services.notifications.domain.deliveries import Transition
from services.notifications.domain.messages import Form
from services.notifications.domain.routing import ChannelKind
from shared.clock import FixedClock
from shared.errors import Misconfigured
from tests.support.mail_server import MailServer
from tests.unit.notifications.builders import HOSTILE, MORNING, a_message, hostile_content

pytestmark = pytest.mark.asyncio

SENDER = "alerts@attain.example.com"
LONG_ID = "5b1c7f8e-0000-4000-8000-000000000001-and-longer-than-a-line-of-a-mail-is-allowed"
MAIL = a_message(ChannelKind.EMAIL, "boss@example.com")


@pytest_asyncio.fixture
async def mailbox() -> AsyncIterator[MailServer]:
    """A local SMTP server."""
    async with MailServer() as server:
        yield server


def mail(server: MailServer, timeout_s: float = 1.0) -> MailChannel:
    """A channel that hands over to `server`."""
    smtp = SmtpServer(server.host, server.port, SmtpSecurity.NONE, timeout_s=timeout_s)
    return MailChannel(smtp, SENDER, FixedClock(MORNING))


async def test_a_mail_has_text_and_html(mailbox: MailServer) -> None:
    outcome = await mail(mailbox).send(MAIL)
    assert outcome.verdict is Verdict.SENT
    received = mailbox.received[0]
    assert (received.sender, received.recipients) == (SENDER, ("boss@example.com",))
    message = received.message
    assert message["Subject"] == "Acme renewal is stalled"
    assert message["Message-ID"] == "<d-1@attain.example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    for kind in ("plain", "html"):
        body = received.part(kind)
        for text in ("12,400.00 EUR", "31 days in Proposal, limit 18", "/alerts/"):
            assert text in body
    assert message.get_content_type() == "multipart/alternative"


async def test_a_follow_up_answers_the_first_mail(mailbox: MailServer) -> None:
    channel = mail(mailbox)
    first = await channel.send(
        a_message(ChannelKind.EMAIL, "boss@example.com", delivery_id=LONG_ID)
    )
    follow_up = a_message(
        ChannelKind.EMAIL,
        "boss@example.com",
        form=Form.FOLLOW_UP,
        ref=first.ref,
        transition=Transition.RESOLVED,
        delivery_id="d-2",
    )
    await channel.send(follow_up)
    assert LONG_ID.encode() in mailbox.received[1].raw.split(b"References: ")[1]
    message = mailbox.received[1].message
    assert message["Subject"] == "Resolved: Acme renewal is stalled"
    assert message["In-Reply-To"] == message["References"] == f"<{LONG_ID}@attain.example.com>"
    assert message["Message-ID"] == "<d-2@attain.example.com>"


async def test_hostile_text_forges_no_header_and_no_markup(mailbox: MailServer) -> None:
    await mail(mailbox).send(
        a_message(ChannelKind.EMAIL, "boss@example.com", content=hostile_content())
    )
    received = mailbox.received[0]
    assert received.recipients == ("boss@example.com",)
    assert received.message["Bcc"] is None
    # Folding may put white space before it, which readers drop.
    assert str(received.message["Subject"]).strip() == " ".join(HOSTILE.split())
    page = received.part("html")
    assert "<!channel>" not in page
    assert "<b>" not in page
    assert "&lt;!channel&gt; *bold* &lt;https://evil.example|click&gt; &amp;" in page
    assert "<!channel> *bold* <https://evil.example|click> &" in received.part("plain")


async def test_a_refused_mail_is_tried_again_or_not(mailbox: MailServer) -> None:
    mailbox.data_replies.extend(["451 try later", "554 no thanks"])
    later, never = [await mail(mailbox).send(MAIL) for _ in range(2)]
    assert (later.verdict, later.reason) == (Verdict.RETRY, "mail refused: 451 try later")
    assert (never.verdict, never.reason) == (Verdict.FAILED, "mail refused: 554 no thanks")
    assert mailbox.received == []


async def test_a_refused_recipient_is_tried_again_or_not(mailbox: MailServer) -> None:
    mailbox.recipient_replies = {
        "gone@example.com": "550 no such user",
        "full@example.com": "452 mailbox full",
    }
    gone = await mail(mailbox).send(a_message(ChannelKind.EMAIL, "gone@example.com"))
    full = await mail(mailbox).send(a_message(ChannelKind.EMAIL, "full@example.com"))
    assert (gone.verdict, full.verdict) == (Verdict.FAILED, Verdict.RETRY)


@pytest.mark.parametrize("address", ["", "boss", "a@b.example\r\nBcc: x@y.example", "a b@c.d", "@"])
async def test_a_bad_address_is_final(mailbox: MailServer, address: str) -> None:
    outcome = await mail(mailbox).send(a_message(ChannelKind.EMAIL, address))
    assert outcome.verdict is Verdict.FAILED
    assert mailbox.received == []


async def test_a_server_that_hangs_is_tried_again(mailbox: MailServer) -> None:
    mailbox.hang_after_s = 5
    outcome = await mail(mailbox, timeout_s=0.3).send(MAIL)
    assert outcome.verdict is Verdict.RETRY
    assert "may have arrived" in outcome.reason
    mailbox.hang_after_s = 0
    await mail(mailbox).send(MAIL)
    # The double, if it was one, is recognisable.
    assert {received.message["Message-ID"] for received in mailbox.received} == {
        "<d-1@attain.example.com>"
    }


async def test_a_server_that_is_down_is_tried_again() -> None:
    server = MailServer()
    await server.start()
    channel = mail(server)
    await server.stop()
    assert (await channel.send(MAIL)).verdict is Verdict.RETRY
    await server.start()
    assert (await channel.send(MAIL)).verdict is Verdict.SENT
    await server.stop()


def _tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a certificate of its own, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(pem)
    return served, ssl.create_default_context(cafile=str(pem))


async def test_starttls_and_login(tmp_path: Path) -> None:
    served, trusted = _tls_contexts(tmp_path)
    async with MailServer(tls_context=served, login=("attain", "pass phrase")) as server:

        async def tried(password: str, context: ssl.SSLContext | None) -> tuple[Verdict, str]:
            smtp = SmtpServer(
                server.host,
                server.port,
                SmtpSecurity.STARTTLS,
                "attain",
                password,
                timeout_s=5,
                tls_context=context,
            )
            assert password not in repr(smtp)
            outcome = await MailChannel(smtp, SENDER, FixedClock(MORNING)).send(MAIL)
            return outcome.verdict, outcome.reason

        assert await tried("pass phrase", trusted) == (Verdict.SENT, "")
        assert await tried("wrong", trusted) == (Verdict.RETRY, "login refused: 535")
        assert (await tried("pass phrase", None))[0] is Verdict.RETRY
        assert [(mail.over_tls, mail.login) for mail in server.received] == [(True, "attain")]


async def test_starttls_is_not_given_up_for_a_server_without_it(mailbox: MailServer) -> None:
    smtp = SmtpServer(mailbox.host, mailbox.port, SmtpSecurity.STARTTLS, timeout_s=1)
    outcome = await MailChannel(smtp, SENDER, FixedClock(MORNING)).send(MAIL)
    assert outcome.verdict is Verdict.RETRY
    assert mailbox.received == []


async def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(Misconfigured):
        MailChannel(SmtpServer("h", 25), "no address", FixedClock(MORNING))
    open_login = SmtpServer("h", 25, SmtpSecurity.NONE, "user", "word")
    with pytest.raises(Misconfigured):
        MailChannel(open_login, SENDER, FixedClock(MORNING))
