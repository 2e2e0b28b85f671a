"""An alert as an e-mail: text and HTML, with ids that a retry makes again."""

from __future__ import annotations

from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from services.notifications.domain.content import Content, plain_line
from services.notifications.domain.messages import OutgoingMessage
from shared.errors import InvalidValue

MAX_SUBJECT_CHARS = 150

# The standard policy takes these for free text, and encodes an id longer than a line: no mail
# program then finds the thread. (The type stubs ask for a base class that the registry adds.)
_headers = HeaderRegistry()
_headers.map_to_type("in-reply-to", MessageIDHeader)  # type: ignore[arg-type]
_headers.map_to_type("references", MessageIDHeader)  # type: ignore[arg-type]
_policy = SMTP.clone(header_factory=_headers)

_templates = Environment(
    loader=PackageLoader("services.notifications.channels"),
    autoescape=select_autoescape(enabled_extensions=("html",), default=False),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def mail_address(text: str) -> Address:
    """The bare address `name@domain`. Raises InvalidValue for anything else."""
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, MessageError):
        # The parser raises each of these for some malformed text.
        address = Address()
    if not address.username or not address.domain:
        msg = "expected a mail address like name@example.com"
        raise InvalidValue(msg)
    return address


def message_id(delivery_id: str, domain: str) -> str:
    """The Message-ID of a delivery: the same at every try, so that a mailbox can drop a double."""
    return f"<{delivery_id}@{domain}>"


def alert_mail(
    message: OutgoingMessage, *, sender: str, domain: str, written_at: datetime
) -> EmailMessage:
    """The mail that says `message`, answering the thread's first mail when there is one.

    sender: an address; domain: the part of Message-IDs after the @.
    Raises InvalidValue for an address that is none (a line break in it included).
    """
    mail = EmailMessage(policy=_policy)
    mail["From"] = _named("Attain", mail_address(sender))
    mail["To"] = mail_address(message.address)
    mail["Subject"] = plain_line(message.content.headline, MAX_SUBJECT_CHARS)
    mail["Date"] = format_datetime(written_at)
    mail["Message-ID"] = message_id(message.delivery_id, domain)
    if message.ref is not None:
        mail["In-Reply-To"] = message.ref.message
        mail["References"] = message.ref.message
    # RFC 3834: no automatic reply shall answer an automatic mail.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_rendered("alert.txt", message.content))
    mail.add_alternative(_rendered("alert.html", message.content), subtype="html")
    return mail


def _named(name: str, address: Address) -> Address:
    return Address(name, address.username, address.domain)


def _rendered(template: str, content: Content) -> str:
    return _templates.get_template(template).render(content=content)
