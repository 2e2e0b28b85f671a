"""Salesforce's side of the wire: the same deals in a second CRM, told by outbound messages.

Every change queues a notification; what is sent later is the record as it is *then*, in the fields
that the message was set up with, changed at a whole second. Messages that meet no acknowledgement
come again with the same notification ids. A deleted record comes empty. Salesforce merges no deals,
so one that was merged counts as deleted here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from decimal import Decimal
from xml.sax.saxutils import escape

from tests.simulator.history import Change, Deal, History, Value
from tests.simulator.worktime import from_ms

ORGANIZATION = "00D5g000004Kq7TEAS"
"""Its fifteen characters are what older set-ups show; the last three check them."""

NOTIFICATIONS_PER_MESSAGE = 100
SESSION_ID = "00D5g000004Kq7T!AQ8AQJv9canary.session.of.the.simulator"
"""Messages carry one where an administrator ticked the box; it must be found nowhere else."""

FIELDS = {
    "name": "Name",
    "amount": "Amount",
    "currency": "CurrencyIsoCode",
    "stage": "StageName",
    "close_date": "CloseDate",
    "owner": "OwnerId",
    "type": "Type",
    "next_step": "NextStep",
    "created_at": "CreatedDate",
}
"""Field of the history → field chosen in the outbound message."""

TYPES = {"new": "New Customer", "expansion": "Existing Customer - Upgrade"}
TYPE_OPTIONS = {f"type.{name}": meaning for meaning, name in TYPES.items()}
"""Options of the connection that say what the values of Type mean."""

ACKNOWLEDGED = b"<Ack>true</Ack>"

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_OPPORTUNITY, _USER, _NOTIFICATION, _ACTION = "006", "005", "04l", "04k"
_GONE = ("deleted", "merged_into")


def salesforce_id(prefix: str, number: int) -> str:
    """An id of 18 characters: its kind, the instance, a number, and three check characters."""
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    short = f"{prefix}5g{digits:0>10}"
    checks = (short[:5], short[5:10], short[10:])
    return short + "".join(
        _CHECK[sum(1 << place for place, letter in enumerate(part) if letter.isupper())]
        for part in checks
    )


def opportunity_id(deal_id: str) -> str:
    """The id that a deal of the history has in Salesforce."""
    return salesforce_id(_OPPORTUNITY, int(deal_id.rpartition(":")[2]))


def record_id(deal_id: str) -> str:
    """The same as a record id of Attain."""
    return f"salesforce:{ORGANIZATION}:{opportunity_id(deal_id)}"


def identity(hubspot_identity: str) -> str:
    """Who owns deals in Salesforce, by the identity that the history has for them."""
    user = salesforce_id(_USER, int(hubspot_identity.rpartition(":")[2]))
    return f"salesforce:{ORGANIZATION}:{user}"


def hook_url(url: str, secret: str) -> str:
    """The address as an administrator types it into the outbound message."""
    return f"{url}?secret={secret}"


def queued(history: History) -> Iterator[tuple[int, dict[str, str]]]:
    """(instant, notification) of every change that the message's fields are concerned by."""
    number = 0
    for deal in history.deals:
        for at_ms in sorted({change.at_ms for change in deal.changes if _concerns(change.field)}):
            number += 1
            yield at_ms, {"id": salesforce_id(_NOTIFICATION, number), "deal": deal.id}


def _concerns(field: str) -> bool:
    return field in FIELDS or field in _GONE


class Opportunities:
    """The records of the history, as they were at any instant."""

    def __init__(self, history: History) -> None:
        self._deals = {deal.id: deal for deal in history.deals}

    def message(self, notifications: list[dict[str, str]], sent_ms: int) -> bytes:
        """The message that is sent at `sent_ms`, whenever its notifications were queued."""
        told = "".join(
            f"<Notification><Id>{one['id']}</Id>"
            '<sObject xsi:type="sf:Opportunity" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
            f"{_fields(self._deals[one['deal']], sent_ms)}</sObject></Notification>"
            for one in notifications
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
            '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f"<OrganizationId>{ORGANIZATION}</OrganizationId>"
            f"<ActionId>{salesforce_id(_ACTION, 1)}</ActionId><SessionId>{SESSION_ID}</SessionId>"
            "<EnterpriseUrl>https://acme.example/services/Soap/c/64.0</EnterpriseUrl>"
            "<PartnerUrl>https://acme.example/services/Soap/u/64.0</PartnerUrl>"
            f"{told}</notifications></soapenv:Body></soapenv:Envelope>"
        ).encode()

    def state(self, deal_id: str, at_ms: int) -> Mapping[str, Value]:
        """The values of a deal's fields at an instant; empty when it is gone."""
        return _state(self._deals[deal_id], at_ms)


def _state(deal: Deal, at_ms: int) -> dict[str, Value]:
    state = {change.field: change.value for change in _until(deal, at_ms)}
    return {} if any(state.get(name) for name in _GONE) else state


def _until(deal: Deal, at_ms: int) -> list[Change]:
    return deal.changes[: bisect_right(deal.changes, at_ms, key=lambda change: change.at_ms)]


def _fields(deal: Deal, at_ms: int) -> str:
    state = _state(deal, at_ms)
    values = {"Id": opportunity_id(deal.id)}
    if state:
        values |= {
            name: _text(field, state[field])
            for field, name in FIELDS.items()
            if state.get(field) is not None
        }
        changed_ms = max(change.at_ms for change in _until(deal, at_ms) if _concerns(change.field))
        values["LastModifiedDate"] = _instant(changed_ms)
    empty = [name for field, name in FIELDS.items() if field in state and state[field] is None]
    texts = [f"<sf:{name}>{escape(text)}</sf:{name}>" for name, text in values.items()]
    return "".join([*texts, *(f'<sf:{name} xsi:nil="true"/>' for name in empty)])


def _text(field: str, value: Value) -> str:
    match field:
        case "amount":
            return repr(float(Decimal(str(value))))  # as Salesforce writes its numbers
        case "owner":
            return identity(str(value)).rpartition(":")[2]
        case "type":
            return TYPES[str(value)]
        case "created_at":
            return _instant(int(str(value)))
    return str(value)


def _instant(at_ms: int) -> str:
    """Salesforce knows seconds; the milliseconds that it writes are zeros."""
    return f"{from_ms(at_ms):%Y-%m-%dT%H:%M:%S}.000Z"
