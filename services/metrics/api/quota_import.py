"""Quotas from a CSV file: what each line would do, and all of it or nothing.

The columns are those of the exported list. What the service itself writes there (in_force, start,
end, changed_at, changed_by) is read over; `revision`, where it is filled, must still be the
quota's. A line that says what is stored changes nothing, so that a file sent twice acts once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from services.metrics import quotas as store
from services.metrics.api.quotas import Writer, quota_from
from services.metrics.api.sight import Sight, sight_of
from services.metrics.api.target_models import QuotaBody, QuotaView
from services.metrics.quotas import Place, Quota
from services.metrics.reliefs import approved_reliefs
from shared.errors import InvalidValue, Refused
from shared.http.models import WireModel
from shared.http.problems import MAX_FAULTS, Fault, problem

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

MAX_LINES = 2_000
CSV = "text/csv"

STATED = frozenset(f.alias or name for name, f in QuotaBody.model_fields.items())
WRITTEN = frozenset(f.alias or name for name, f in QuotaView.model_fields.items()) - STATED
"""Columns of the export that are not for stating."""

LISTS = frozenset({"changes", "ramp", "leave"})
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n")

State = Literal["new", "changed", "unchanged", "refused"]

router = APIRouter(prefix="/v1/quotas", tags=["quotas"])


class LineFault(WireModel):
    """What is wrong in a line. column: null for the line as a whole."""

    column: str | None
    reason: str


class LineView(WireModel):
    """What one line does. line: its number in the file, where the columns' names are line 1."""

    line: int
    id: str | None
    state: State
    faults: list[LineFault] = []  # noqa: RUF012 - pydantic copies it


class ImportView(WireModel):
    """What a file does, or did. applied: whether it is saved."""

    applied: bool
    new: int
    changed: int
    unchanged: int
    refused: int
    lines: list[LineView]


@dataclass(slots=True)
class _Line:
    number: int
    cells: Mapping[str, str]
    id: str | None = None
    state: State = "refused"
    faults: list[LineFault] = field(default_factory=list)

    def refuse(self, column: str | None, reason: str) -> None:
        self.state = "refused"
        self.faults.append(LineFault(column=column, reason=reason))

    def refuse_as(self, fault: InvalidValue) -> None:
        """Refuse it in the column that a fault points at."""
        column = fault.pointer.strip("#/").partition("/")[0]
        self.refuse(column if column in STATED | WRITTEN else "id", fault.message)


@router.post(
    "/import",
    response_model=ImportView,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                CSV: {
                    "schema": {
                        "type": "string",
                        "description": "columns as in the exported list; id, period and amount at "
                        "least; lists as JSON",
                    }
                }
            },
        }
    },
)
async def import_quotas(
    request: Request,
    principal: Writer,
    preview: Annotated[bool, Query(description="say what it would do, save nothing")] = False,  # noqa: FBT002 - a query's parameter
) -> object:
    """State quotas from a CSV file: all of its lines, or, where one is refused, none."""
    lines = _read(await _text(request))
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        if not preview:
            await store.lock_all(tx)
        sight = await sight_of(request, principal, tx)
        quotas = await _quotas(tx, sight, lines, principal.subject)
        refused = any(line.faults for line in lines)
        if not preview and not refused:
            # One journal entry says why: lines of one reason are saved together.
            for reason, together in groupby(sorted(quotas, key=itemgetter(0)), key=itemgetter(0)):
                await store.save_quotas(tx, [quota for _, quota in together], reason or None)
    if preview or not refused:
        return _report(lines, applied=not preview)
    return _refusal(lines)


async def _text(request: Request) -> str:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != CSV:
        msg = f"Send the file as it is, with Content-Type: {CSV}."
        raise Refused("unsupported-media-type", msg, status=415)
    body = await request.body()
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidValue("the file is not UTF-8; export it as UTF-8") from None


def _read(text: str) -> list[_Line]:
    """The lines of a file. Raises InvalidValue for what no line can be read for."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        msg = f"this is no CSV: {error}"
        raise InvalidValue(msg, pointer=f"#line/{reader.line_num}") from None
    if not rows:
        raise InvalidValue("the file is empty; its first line names the columns", pointer="#line/1")
    columns = [_cell(cell).strip() for cell in rows[0][1]]
    _check_columns(columns)
    if len(rows) - 1 > MAX_LINES:
        raise InvalidValue(f"a file has at most {MAX_LINES} lines; cut it in parts")
    lines = []
    seen: dict[str, int] = {}
    for number, row in rows[1:]:
        line = _Line(number, dict(zip(columns, map(_cell, row), strict=False)))
        line.id = line.cells.get("id") or None
        if len(row) != len(columns):
            line.refuse(None, f"it has {len(row)} cells for {len(columns)} columns")
        elif line.id is None:
            line.refuse("id", "every quota has an id of its own")
        elif line.id in seen:
            line.refuse("id", f"line {seen[line.id]} states the same quota")
        else:
            seen[line.id] = number
        lines.append(line)
    return lines


def _check_columns(columns: Sequence[str]) -> None:
    unknown = sorted(set(columns) - STATED - WRITTEN)
    if unknown:
        msg = f"unknown columns; known are {', '.join(sorted(STATED | WRITTEN))}"
        raise InvalidValue(msg, pointer="#line/1")
    if len(set(columns)) < len(columns):
        raise InvalidValue("a column is named twice", pointer="#line/1")
    missing = sorted({"id", "period", "amount"} - set(columns))
    if missing:
        raise InvalidValue(f"columns are missing: {', '.join(missing)}", pointer="#line/1")


def _cell(text: str) -> str:
    """A cell without the apostrophe that an export puts before what looks like a formula."""
    if text.startswith("'") and text[1:].lstrip(" ").startswith(_FORMULA_START):
        return text[1:]
    return text


async def _quotas(
    tx: Connection, sight: Sight, lines: Sequence[_Line], by: str
) -> list[tuple[str, Quota]]:
    """(reason, quota) of every line that changes something; the others are marked."""
    bodies = [(line, body) for line in lines if not line.faults and (body := _body(line))]
    ids = [str(line.id) for line, _ in bodies]
    known = await store.quotas_by_id(tx, ids)
    reliefs = await approved_reliefs(tx, ids)
    stated: list[tuple[_Line, QuotaBody, Quota]] = []
    for line, body in bodies:
        quota_id = str(line.id)
        try:
            _check_id(quota_id)
            found = quota_from(
                sight, quota_id, body, known.get(quota_id), by, reliefs.get(quota_id, [])
            )
        except InvalidValue as fault:
            line.refuse_as(fault)
        else:
            stated.append((line, body, found))
    holders = await store.holders_of(tx, {quota.place for _, _, quota in stated})
    return [
        (body.reason or "", quota)
        for line, body, quota in stated
        if _changes(line, quota, known.get(quota.id), holders)
    ]


def _changes(line: _Line, quota: Quota, stored: Quota | None, holders: dict[Place, str]) -> bool:
    """Whether a line is to be saved; its state is noted, and its place is taken."""
    there = stored if stored is not None and not stored.deleted else None
    if there is not None and _same(quota, there):
        line.state = "unchanged"
        return False
    try:
        _check_revision(line, there)
        store.check_single(quota, holders.get(quota.place))
    except InvalidValue as fault:
        line.refuse_as(fault)
        return False
    except Refused as refusal:
        line.refuse(None, refusal.message)
        return False
    if there is not None and holders.get(there.place) == quota.id:
        del holders[there.place]
    holders[quota.place] = quota.id
    line.state = "new" if there is None else "changed"
    return True


def _check_id(quota_id: str) -> None:
    if len(quota_id) > 200 or any(c in "|@/*" or not c.isprintable() for c in quota_id):  # noqa: PLR2004 - as in paths
        msg = "an id has at most 200 characters, without | @ / *"
        raise InvalidValue(msg, pointer="/id")


def _check_revision(line: _Line, there: Quota | None) -> None:
    stated = line.cells.get("revision", "")
    if stated and stated != str(0 if there is None else there.revision):
        msg = "the quota has changed since this was exported; export it again"
        raise InvalidValue(msg, pointer="/revision")


def _same(quota: Quota, there: Quota) -> bool:
    """Whether a line says what is stored."""
    said, stored = quota.wire(), there.wire()
    return (said.person, said.team, said.measure, said.period, said.currency) == (
        stored.person,
        stored.team,
        stored.measure,
        stored.period,
        stored.currency,
    ) and (quota.stated, quota.amount, quota.terms) == (there.stated, there.amount, there.terms)


def _body(line: _Line) -> QuotaBody | None:
    """The line as a body; None, with its faults noted, where it is none."""
    said: dict[str, Any] = {}
    for name in STATED:
        cell = line.cells.get(name, "")
        if not cell:
            continue
        if name in LISTS:
            try:
                said[name] = json.loads(cell) if cell.startswith("[") else cell.split()
            except ValueError:
                line.refuse(name, "this is no JSON list")
        else:
            said[name] = cell
    if line.faults:
        return None
    try:
        return QuotaBody.model_validate_json(json.dumps(said))
    except ValidationError as wrong:
        for fault in wrong.errors(include_url=False, include_input=False)[:MAX_FAULTS]:
            column = str(fault["loc"][0]) if fault["loc"] else None
            line.refuse(column, str(fault["msg"]).removeprefix("Value error, "))
        return None


def _report(lines: Sequence[_Line], *, applied: bool) -> ImportView:
    counts = {state: sum(line.state == state for line in lines) for state in _STATES}
    return ImportView(
        applied=applied,
        new=counts["new"],
        changed=counts["changed"],
        unchanged=counts["unchanged"],
        refused=counts["refused"],
        lines=[
            LineView(line=line.number, id=line.id, state=line.state, faults=line.faults)
            for line in lines
        ],
    )


_STATES: tuple[State, ...] = ("new", "changed", "unchanged", "refused")


def _refusal(lines: Sequence[_Line]) -> Response:
    faults = [
        Fault(
            pointer=f"#line/{line.number}" + (f"/{fault.column}" if fault.column else ""),
            detail=fault.reason,
        )
        for line in lines
        for fault in line.faults
    ]
    refused = sum(line.state == "refused" for line in lines)
    msg = f"{refused} of {len(lines)} lines are refused, so nothing is saved; see each fault."
    return problem("invalid-value", msg, status=422, faults=faults)
