"""What a fact must satisfy before it is let in, beyond the form its model gives.

Everything behind ingest relies on it: a date that is in no calendar, a currency that does not
exist, a binary float or a NUL character would otherwise stop a consumer long after the sender
could still mend it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import inspect

from services.ingest.domain.currencies import CURRENCIES
from shared.clock import parse_instant
from shared.errors import InvalidValue
from shared.events.catalogue import RECORD_KINDS, RecordKind
from shared.events.envelope import INSTANT_PATTERN, Envelope
from shared.events.records import Currency, Day, ExternalId
from shared.facts.fact import WHOLE_LIST, Fact, read_fact
from shared.money import parse_decimal

MAX_DATA_BYTES = 256 * 1024
"""Of one event's data: four times what CloudEvents asks every receiver to take."""

MAX_DEPTH = 32
"""Of nesting inside a custom value: deeper documents are mistakes or attacks."""

MAX_RECORD_ID = 200
"""Characters of a record's id, as `ExternalId` has it."""

MAX_INTEGER = 2**63 - 1


class Unacceptable(InvalidValue):
    """A fact or event that is not let in. `code` is stable: the last part of a problem's type."""

    def __init__(self, code: str, message: str, *, pointer: str = "") -> None:
        super().__init__(message, pointer=pointer)
        self.code = code

    def at(self, pointer: str) -> Unacceptable:
        """The same error, placed under `pointer`."""
        return Unacceptable(self.code, self.message, pointer=pointer + self.pointer)


def accept(envelope: Envelope) -> Fact:
    """The fact in `envelope`, checked whole.

    Raises Unacceptable with a JSON pointer into the event (`/data/amount`).
    """
    if len(memoryview(envelope.data)) > MAX_DATA_BYTES:
        msg = f"the data has more than {MAX_DATA_BYTES} bytes"
        raise Unacceptable("too-large", msg, pointer="/data")
    try:
        fact = read_fact(envelope)
    except InvalidValue as error:
        if error.pointer == "/sequence":  # the one thing that is wrong with a well-formed sequence
            msg = "dated more than ten minutes after it arrived; check the sender's clock"
            raise Unacceptable("future-dated", msg, pointer="/time") from None
        raise _classified(error) from None
    except UnicodeDecodeError:
        raise Unacceptable("invalid-value", "the data is not UTF-8", pointer="/data") from None
    except RecursionError:
        raise Unacceptable("invalid-value", "nested too deeply", pointer="/data") from None
    _check_record_id(fact.record_id)
    if not fact.fields:
        msg = "the data states nothing; name at least one field"
        raise Unacceptable("nothing-stated", msg, pointer="/data")
    _check_fields(fact)
    if (rule := _RULES.get(fact.kind.name)) is not None:
        for field, message in rule(fact):
            raise Unacceptable("invalid-value", message, pointer=f"/data/{field}")
    return fact


def instant_or_refuse(text: str, pointer: str = "/time") -> Any:  # noqa: ANN401 - a datetime
    """`text` as an aware UTC datetime. Raises Unacceptable where it names no instant."""
    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        msg = "this is no RFC 3339 instant; write it like 2026-03-31T09:30:00.000Z"
        raise Unacceptable("invalid-value", msg, pointer=pointer) from None


def escape(token: str) -> str:
    """`token` as one step of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


_MISSING = re.compile(r"^Object missing required field `([^`]+)`$")
_KEY = re.compile(r"^(?P<message>.*) - at `key` in `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_WANTS_TEXT = re.compile(r"^Expected `str[^`]*`, got `(int|float)`$")


def _classified(error: InvalidValue) -> Unacceptable:
    """The same error with a code, a complete pointer, and advice where it is known."""
    # The decoder does not name the key of a map it was in; the pointer ends where that begins.
    pointer, unnamed, _ = error.pointer.partition("//")
    message, code = error.message, "invalid-value"
    if pointer in {"/type", "/subject"}:
        return Unacceptable("unknown-" + pointer[1:], message, pointer=pointer)
    if (missing := _MISSING.match(message)) is not None:
        where = pointer if unnamed else f"{pointer}/{missing[1]}"
        return Unacceptable("missing-attribute", f"{missing[1]} is required", pointer=where)
    if (key := _KEY.match(message)) is not None:
        message, pointer = key["message"], f"{pointer}/{key['path'].replace('.', '/')}"
        message = f"a member's name is malformed: {message}"
    elif _WANTS_TEXT.match(message) or message == "Number out of range":
        code = "number-not-text"
        message += '; amounts, rates and ids travel as text: "1200.50"'
    return Unacceptable(code, message, pointer=pointer.rstrip("/"))


def classify(error: InvalidValue) -> Unacceptable:
    """`error` with a code; unchanged where it has one."""
    return error if isinstance(error, Unacceptable) else _classified(error)


def _check_record_id(record_id: str) -> None:
    if len(record_id) > MAX_RECORD_ID or not _RECORD_ID.match(record_id):
        msg = "the id in the subject has 1 to 200 characters, none of | @ / * or control characters"
        raise Unacceptable("unknown-subject", msg, pointer="/subject")


@dataclass(frozen=True, slots=True)
class _Form:
    """Which checks the values and the member names of one field need."""

    currency: bool = False
    day: bool = False
    instant: bool = False
    member_is_day: bool = False


def _text_patterns(declared: inspect.Type) -> Iterator[str]:
    if isinstance(declared, inspect.Metadata):
        yield from _text_patterns(declared.type)
    elif isinstance(declared, inspect.UnionType):
        for option in declared.types:
            yield from _text_patterns(option)
    elif isinstance(declared, inspect.StrType) and declared.pattern:
        yield declared.pattern


def _pattern_of(alias: Any) -> str:  # noqa: ANN401 - an Annotated alias
    return next(_text_patterns(inspect.type_info(alias)))


_CURRENCY, _DAY = _pattern_of(Currency), _pattern_of(Day)
_RECORD_ID = re.compile(_pattern_of(ExternalId))


def _form(declared: inspect.Type) -> _Form:
    patterns = set(_text_patterns(declared))
    options = declared.types if isinstance(declared, inspect.UnionType) else (declared,)
    keys = {
        pattern
        for option in options
        if isinstance(option, inspect.DictType)
        for pattern in _text_patterns(option.key_type)
    }
    return _Form(
        currency=_CURRENCY in patterns,
        day=_DAY in patterns,
        instant=INSTANT_PATTERN in patterns,
        member_is_day=_DAY in keys,
    )


def _forms(kind: RecordKind) -> dict[str, _Form]:
    declared = inspect.type_info(kind.model)
    fields = declared.fields if isinstance(declared, inspect.StructType) else ()
    return {field.encode_name: _form(field.type) for field in fields}


_FORMS: Mapping[str, Mapping[str, _Form]] = {k.name: _forms(k) for k in RECORD_KINDS.values()}

_UNRESTRICTED: Mapping[str, frozenset[str]] = {
    kind.name: frozenset(name for name, form in _FORMS[kind.name].items() if form == _Form())
    for kind in RECORD_KINDS.values()
    if not kind.dated
}
"""Fields of whose text the model has said all: most of what comes needs no further look."""


def _check_fields(fact: Fact) -> None:
    unrestricted = _UNRESTRICTED.get(fact.kind.name, frozenset())
    for name, value in fact.fields.items():
        if name not in unrestricted or not isinstance(value, str) or "\x00" in value:
            _check_field(fact.kind, name, value)


def _check_field(kind: RecordKind, name: str, value: object) -> None:
    effective_from = ""
    if kind.dated:
        name, _, effective_from = name.rpartition("@")
    field, _, member = name.partition(":")
    pointer = f"/data/{field}" + (f"/{escape(member)}" if member else "")
    if len(effective_from) == len("2026-01-01"):
        _check_day(effective_from, "/data/effective_from")
    form = _FORMS[kind.name][field]
    if isinstance(value, str):
        if form.currency and value not in CURRENCIES:
            msg = "this is no currency of ISO 4217"
            raise Unacceptable("unknown-currency", msg, pointer=pointer)
        if form.day:
            _check_day(value, pointer)
        if form.instant:
            instant_or_refuse(value, pointer)
    if form.member_is_day and member != WHOLE_LIST:
        _check_day(member, pointer)
    _check_text(member, pointer)
    _check_plain(value, pointer, MAX_DEPTH)


def _check_day(text: str, pointer: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        msg = "this is no calendar date; write it like 2026-03-31"
        raise Unacceptable("invalid-value", msg, pointer=pointer) from None


def _check_text(text: str, pointer: str) -> None:
    if "\x00" in text:
        msg = "text cannot hold the character NUL: PostgreSQL does not store it"
        raise Unacceptable("invalid-value", msg, pointer=pointer)


def _check_plain(value: object, pointer: str, depth_left: int) -> None:
    """Free values: no floats, for a double loses cents; nothing too deep, big or unstorable."""
    if depth_left == 0:
        msg = f"nested more than {MAX_DEPTH} deep"
        raise Unacceptable("invalid-value", msg, pointer=pointer)
    if isinstance(value, str):
        _check_text(value, pointer)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) > MAX_INTEGER):
        msg = 'a number with a fraction, or of more than 64 bits, travels as text: "1200.50"'
        raise Unacceptable("number-not-text", msg, pointer=pointer)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, pointer)
            _check_plain(inner, f"{pointer}/{escape(key)}", depth_left - 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{pointer}/{index}", depth_left - 1)


Broken = Iterator[tuple[str, str]]
"""Pairs of a field's name and what is wrong with it."""


def _stated(fact: Fact, field: str) -> Any:  # noqa: ANN401 - a JSON value
    """The value that the fact gives `field`, whatever day it holds from."""
    if not fact.kind.dated:
        return fact.fields.get(field)
    for name, value in fact.fields.items():
        if name.partition("@")[0] == field:
            return value
    return None


def _deal(fact: Fact) -> Broken:
    probability = _stated(fact, "probability")
    if probability is not None and not 0 <= parse_decimal(probability) <= 1:
        yield "probability", "a probability lies between 0 and 1"
    if _stated(fact, "merged_into") == fact.record_id:
        yield "merged_into", "a record cannot be merged into itself"


def _activity(fact: Fact) -> Broken:
    duration = _stated(fact, "duration_s")
    if duration is not None and duration < 0:
        yield "duration_s", "a duration is not negative"


def _person(fact: Fact) -> Broken:
    if _stated(fact, "manager") == fact.record_id:
        yield "manager", "nobody reports to themselves"
    email = _stated(fact, "email")
    if email is not None and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        yield "email", "write an e-mail address like ana@example.com"
    yield from _zone("timezone", _stated(fact, "timezone"))


def _team(fact: Fact) -> Broken:
    if _stated(fact, "parent") == fact.record_id:
        yield "parent", "a team cannot be above itself"


def _rate(fact: Fact) -> Broken:
    table, source, target, day = (_stated(fact, name) for name in ("table", "from", "to", "day"))
    if fact.record_id != f"{table}:{source}:{target}:{day}":
        yield "table", "the subject of a rate is rate/<table>:<from>:<to>:<day>, as in its data"
    if source == target:
        yield "to", "a rate joins two currencies"
    rate = _stated(fact, "rate")
    if rate is not None and parse_decimal(rate) <= 0:
        yield "rate", "a rate is greater than zero"


def _calendar(fact: Fact) -> Broken:
    month = _stated(fact, "fiscal_start_month")
    if month is not None and not 1 <= month <= 12:  # noqa: PLR2004 - months
        yield "fiscal_start_month", "a month is a number from 1 to 12"
    weekdays = _stated(fact, "weekdays")
    if weekdays is not None and (
        not weekdays or sorted(set(weekdays)) != weekdays or not set(weekdays) <= set(range(1, 8))
    ):
        yield "weekdays", "working days are numbers from 1 (Monday) to 7, ascending, at least one"
    country = _stated(fact, "country")
    if country is not None and not re.fullmatch(r"[A-Z]{2}", country):
        yield "country", "a country is two capital letters of ISO 3166"
    yield from _zone("time_zone", _stated(fact, "time_zone"))


def _zone(field: str, name: str | None) -> Broken:
    if name is None:
        return
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        yield field, "this is no time zone; write it like Europe/Berlin"


_RULES: Mapping[str, Callable[[Fact], Broken]] = {
    "deal": _deal,
    "activity": _activity,
    "person": _person,
    "team": _team,
    "rate": _rate,
    "calendar": _calendar,
}
