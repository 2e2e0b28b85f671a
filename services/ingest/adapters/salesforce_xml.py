"""Outbound messages as XML: SOAP 1.1, read strictly and within limits.

A message is one fixed form in three namespaces. Whatever XML allows beyond it (document types,
entities, processing instructions, elements of other namespaces, XInclude among them) is refused as
soon as it is met, so that a hostile body costs no more than its first such byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from services.ingest.domain.checks import Unacceptable

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
OUTBOUND = "http://soap.sforce.com/2005/09/outbound"
SOBJECT = "urn:sobject.enterprise.soap.sforce.com"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

MAX_BYTES = 1_048_576
MAX_DEPTH = 16
MAX_ELEMENTS = 50_000
MAX_ATTRIBUTES = 16
MAX_NAMESPACES = 1_000
MAX_TAG_BYTES = 4_096
MAX_NOTIFICATIONS = 100
"""Salesforce sends no more in one message."""

_SKELETON = ("", f"{{{SOAP}}}Envelope", f"{{{SOAP}}}Body", f"{{{OUTBOUND}}}notifications")
"""What an element at depth 1, 2 and 3 is."""

_IN_NOTIFICATIONS, _IN_NOTIFICATION, _IN_RECORD = 4, 5, 6
"""Depths of a message's own elements, of a notification's, and of a record's fields."""

_PARENT = {_IN_NOTIFICATION: "Notification", _IN_RECORD: "sObject"}
"""Of the elements of a message, those that hold others."""

_LONG_TAG = re.compile(rb"<[^<>!][^<>]{%d}" % MAX_TAG_BYTES)
_START_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the first notification. session: byte range of the session id's text."""

    organization: str
    session: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Notification:
    """One record as it was when the message was sent.

    object_type: as Salesforce names it; "" when it is of another namespace. fields: absent = not
    sent; None = sent as empty. Fields that hold further fields (addresses) are left out. start,
    end: where it stands in the body, in bytes.
    """

    id: str
    object_type: str
    fields: Mapping[str, str | None]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """One outbound message."""

    organization: str
    notifications: tuple[Notification, ...]


def read_head(body: bytes) -> Head:
    """The message's head, read without the rest. Raises Unacceptable (`malformed-xml`)."""
    reader = _Reader(body, head_only=True)
    with suppress(_HeadEnds):
        _parse(body, reader)
    return Head(reader.organization_or_refuse(), reader.session)


def read_message(body: bytes) -> Message:
    """The whole message. Raises Unacceptable (`malformed-xml`, `too-large`)."""
    reader = _Reader(body)
    _parse(body, reader)
    if not reader.notifications:
        _refuse("the message holds no notification")
    return Message(reader.organization_or_refuse(), tuple(reader.notifications))


def without_session(body: bytes) -> bytes:
    """`body` without the text of its session id, which is a key to the CRM; else byte for byte."""
    session = read_head(body).session
    return body if session is None else body[: session[0]] + body[session[1] :]


class _HeadEnds(Exception):
    """The first notification begins."""


def _refuse(message: str) -> NoReturn:
    raise Unacceptable("malformed-xml", message)


def _parse(body: bytes, reader: _Reader) -> None:
    if len(body) > MAX_BYTES:
        msg = f"an outbound message has at most {MAX_BYTES} bytes"
        raise Unacceptable("too-large", msg)
    if _LONG_TAG.search(body):
        _refuse(f"a tag has at most {MAX_TAG_BYTES} bytes")
    if b"\x00" in body:
        # A byte-order mark outweighs the encoding that the parser is given; UTF-16 is full of NULs.
        _refuse("not XML in UTF-8")
    parser = DefusedXMLParser(target=reader, encoding="utf-8", forbid_dtd=True)
    reader.parser = parser
    try:
        parser.feed(body)
        parser.close()
    except DefusedXmlException:
        _refuse("document types and entities are not accepted")
    except ParseError as error:
        line, column = error.position
        _refuse(f"not well-formed XML in UTF-8, at line {line}, column {column}")


@dataclass(slots=True)
class _Open:
    """The notification that is being read."""

    start: int
    id: str = ""
    object_type: str | None = None
    fields: dict[str, str | None] = field(default_factory=dict)


class _Reader:
    """What the parser calls. It holds no tree, only the notification that is open."""

    def __init__(self, body: bytes, *, head_only: bool = False) -> None:
        self.parser: DefusedXMLParser | None = None
        self.session: tuple[int, int] | None = None
        self.notifications: list[Notification] = []
        self._body = body
        self._head_only = head_only
        self._organization: str | None = None
        self._depth = self._elements = self._namespaces = 0
        self._scopes: dict[str, list[str]] = {}
        self._path = [""] * (MAX_DEPTH + 1)
        self._nil = self._compound = False
        self._text: list[str] = []
        self._starts_at = 0
        self._open: _Open | None = None

    def organization_or_refuse(self) -> str:
        """The id of the organisation that the message names."""
        if not self._organization:
            _refuse("the message names no organisation (OrganizationId)")
        return self._organization

    def start_ns(self, prefix: str, uri: str) -> None:
        """A prefix begins to stand for a namespace."""
        self._namespaces += 1
        if self._namespaces > MAX_NAMESPACES:
            _refuse(f"a message declares at most {MAX_NAMESPACES} namespaces")
        self._scopes.setdefault(prefix, []).append(uri)

    def end_ns(self, prefix: str) -> None:
        """The prefix stands for what it stood for before."""
        self._scopes[prefix].pop()

    def pi(self, target: str, _text: str | None = None) -> None:
        """A processing instruction: an outbound message has none."""
        _refuse(f"processing instructions are not accepted: {target[:40]!r}")

    def data(self, text: str) -> None:
        """A piece of an element's text."""
        self._text.append(text)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._depth = depth = self._depth + 1
        self._elements += 1
        if depth > MAX_DEPTH or self._elements > MAX_ELEMENTS or len(attributes) > MAX_ATTRIBUTES:
            _refuse(
                f"at most {MAX_ELEMENTS} elements, nested {MAX_DEPTH} deep, "
                f"with {MAX_ATTRIBUTES} attributes each"
            )
        self._path[depth] = name = self._name(tag)
        self._text.clear()
        self._starts_at = self._offset()
        self._nil = attributes.get(f"{{{XSI}}}nil", "").strip() in {"true", "1"}
        if depth == len(_SKELETON) - 1 and self._organization is not None:
            _refuse("a message holds its notifications once")
        if depth == _IN_NOTIFICATIONS and name == "Notification":
            self._begin_notification()
        elif depth == _IN_NOTIFICATION and name == "sObject":
            self._begin_record(attributes.get(f"{{{XSI}}}type", ""))
        self._compound = depth > _IN_RECORD

    def _name(self, tag: str) -> str:
        """The element's own name, where an element of its namespace may stand here."""
        depth = self._depth
        if depth < len(_SKELETON):
            if tag != _SKELETON[depth]:
                _refuse(f"expected {_SKELETON[depth]}, got {tag[:100]!r}")
            return tag.rpartition("}")[2]
        namespace, _, name = tag.rpartition("}")
        parent = _PARENT.get(depth, self._path[depth - 1])
        if namespace[1:] != (SOBJECT if depth >= _IN_RECORD else OUTBOUND) or (
            self._path[depth - 1] != parent
        ):
            _refuse(f"{tag[:100]!r} cannot stand in {self._path[depth - 1][:40]!r}")
        return name

    def end(self, _tag: str) -> None:
        """An element ends."""
        depth, name = self._depth, self._path[self._depth]
        self._depth = depth - 1
        text: str | None = "".join(self._text).strip()
        self._text.clear()
        if depth == _IN_NOTIFICATIONS:
            self._end_part(name, text or "")
        elif depth == _IN_NOTIFICATION and name == "Id" and self._open is not None:
            self._open.id = text or ""
        elif depth == _IN_RECORD and not self._compound:
            self._end_field(name, None if self._nil or not text else text)
        if depth == _IN_RECORD:
            self._compound = False

    def close(self) -> None:
        """The document ends."""

    def _begin_notification(self) -> None:
        if self._head_only:
            raise _HeadEnds
        if self._organization is None:
            _refuse("OrganizationId stands before the notifications")
        if len(self.notifications) == MAX_NOTIFICATIONS:
            _refuse(f"a message has at most {MAX_NOTIFICATIONS} notifications")
        self._open = _Open(self._starts_at)

    def _begin_record(self, type_name: str) -> None:
        if self._open is None or self._open.object_type is not None:
            _refuse("a notification holds one sObject")
        prefix, colon, name = type_name.strip().partition(":")
        if not colon:
            prefix, name = "", prefix
        known = self._scopes.get(prefix)
        self._open.object_type = name if known and known[-1] == SOBJECT else ""

    def _end_part(self, name: str, text: str) -> None:
        if name == "Notification" and (done := self._open) is not None:
            if done.object_type is None:
                _refuse("a notification holds one sObject")
            end = self._body.index(b">", self._offset()) + 1
            self.notifications.append(
                Notification(done.id, done.object_type, done.fields, done.start, end)
            )
            self._open = None
        elif name in {"OrganizationId", "SessionId"} and self.notifications:
            _refuse(f"{name} stands before the notifications")
        elif name == "OrganizationId":
            if self._organization is not None:
                _refuse("a message names one organisation")
            self._organization = text
        elif name == "SessionId":
            if self.session is not None:
                _refuse("a message has one SessionId")
            tag = _START_TAG.match(self._body, self._starts_at)
            if tag is not None and text:
                self.session = (tag.end(), self._offset())

    def _end_field(self, name: str, text: str | None) -> None:
        if self._open is None:
            _refuse(f"{name[:40]!r} stands outside of a record")
        if self._open.fields.setdefault(name, text) != text:
            _refuse(f"a record states {name[:40]!r} twice, unlike")

    def _offset(self) -> int:
        """Where in the body the parser is: at the first byte of the tag it is reading."""
        position: int = self.parser.parser.CurrentByteIndex if self.parser is not None else 0
        return position
