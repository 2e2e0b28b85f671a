"""Exchange rates of several tables in one request."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Raw

from services.ingest.domain.checks import Unacceptable, classify
from services.ingest.domain.cloudevents import EventsRefused
from services.ingest.domain.reference import DEFAULT_RATE_TABLE, MAX_RATES, rate_facts
from shared.errors import Refused
from shared.events.envelope import Envelope, invalid_from_msgspec


class _Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: list[Raw]


def rate_rows(body: bytes, *, now: datetime) -> tuple[Envelope, ...]:
    """The facts that `{"rows": [{"table", "from", "to", "day", "rate"}, …]}` states, in order.

    A row without a table is about `org`. Raises EventsRefused with a pointer for every row that
    cannot be taken; Refused for a body that is no JSON (400) or has too many rows (413).
    """
    try:
        rows = msgspec.json.decode(body, type=_Rows).rows
    except msgspec.ValidationError as error:
        raise EventsRefused((classify(invalid_from_msgspec(error)),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the body is no readable JSON object: {error}"
        raise Refused("malformed-json", msg, status=400) from None
    if len(rows) > MAX_RATES:
        msg = f"at most {MAX_RATES} rates in one request, got {len(rows)}"
        raise Refused("batch-too-large", msg, status=413)
    facts: list[Envelope] = []
    problems: list[Unacceptable] = []
    for index, row in enumerate(rows):
        place = f"/rows/{index}"
        try:
            facts.append(_fact(row, now))
        except EventsRefused as refusal:
            problems.extend(
                Unacceptable(each.code, each.message, pointer=_from_row(each.pointer)).at(place)
                for each in refusal.problems
            )
        except Unacceptable as fault:
            problems.append(fault.at(place))
    if problems:
        raise EventsRefused(tuple(problems))
    if not facts:
        raise EventsRefused((Unacceptable("nothing-stated", "state a row", pointer="/rows"),))
    return tuple(facts)


def _fact(row: Raw, now: datetime) -> Envelope:
    try:
        fields = msgspec.json.decode(row, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unacceptable("invalid-value", f"a row is an object: {error}") from None
    table = fields.pop("table", None)
    try:
        name = DEFAULT_RATE_TABLE if table is None else msgspec.json.decode(table, type=str)
    except msgspec.DecodeError:
        raise Unacceptable("invalid-value", "a table's name is text", pointer="/table") from None
    (fact,) = rate_facts(name, msgspec.json.encode({"rates": [fields]}), now=now)
    return fact


def _from_row(pointer: str) -> str:
    """A pointer that led into the only row of a table's request."""
    return pointer.removeprefix("/rates/0")
