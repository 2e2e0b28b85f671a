"""Statements: what a payee earns under a plan in a period, down to the events behind each line."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

import asyncpg
import msgspec
from fastapi import APIRouter, Query, Request, Response

from services.commissions.api.context import (
    Id,
    IdFilter,
    Reader,
    Snapshot,
    not_found,
    snapshot,
)
from services.commissions.domain.explain import explain_line, explain_statement, sealed
from services.commissions.rating import sheet_of
from services.commissions.shown import shown_at
from services.commissions.statement_files.render import (
    MEDIA_TYPES,
    FileFormat,
    file_name,
    file_of,
    format_wanted,
)
from services.commissions.statement_rows import statement_write
from services.commissions.store import AccountKey
from shared.clock import WallClock
from shared.errors import InvalidValue
from shared.http.models import DecimalText, Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import etag

router = APIRouter(prefix="/v1/statements", tags=["statements"])

PROOF_FORMAT = "attain.statement-proof.v1"
"""Names what a proof is; the checker reads this form."""

_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The statement, in the form asked for",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
            **{
                MEDIA_TYPES[form]: {"schema": {"type": "string", "format": "binary"}}
                for form in (FileFormat.XLSX, FileFormat.PDF)
            },
        },
    }
}
AsOf = Annotated[
    Instant | None,
    Query(description="as it was shown at this instant; now, when not given"),
]


class View(StrEnum):
    """Which figures: those the statement shows, or what it would be today."""

    SHOWN = "shown"
    RECOMPUTED = "recomputed"


class ClosedVersion(WireModel):
    """A statement as a close fixed it. reopened_at: until then it was shown; null: it still is."""

    hash: str
    closed_with: str
    closed_at: Instant
    reopened_at: Instant | None
    statement: dict[str, Any]


class StatementView(WireModel):
    """One statement's figures. A closed one's never change.

    held_pay: put on hold in the period, less what was released. draw_balance: what a recoverable
    draw still has to get back.
    """

    payee: str
    plan: str
    period: str
    state: str
    currency: str
    own: DecimalText
    difference: DecimalText
    carry_out: DecimalText
    payable: DecimalText
    held_pay: DecimalText
    draw_balance: DecimalText
    payout_currency: str
    payout_amount: DecimalText | None
    hash: str


@router.get("", response_model=Page[StatementView])
async def statements(  # noqa: PLR0913, PLR0917 - one argument a filter
    request: Request,
    principal: Reader,
    page: Paging,
    payee: IdFilter = None,
    plan: IdFilter = None,
    period: IdFilter = None,
) -> object:
    """Statements of the people whom the caller sees."""
    after = page.after(str, str, str) or ("", "", "0001-01-01")
    async with snapshot(request, principal) as view:
        rows = await view.tx.fetch(
            f"SELECT * FROM ({_ALL_STATEMENTS}) s "  # noqa: S608 - constants
            "WHERE ($1::text[] IS NULL OR payee = ANY($1)) AND ($2::text IS NULL OR payee = $2) "
            "AND ($3::text IS NULL OR plan_id = $3) AND ($4::text IS NULL OR period = $4) "
            "AND (payee, plan_id, start_day) > ($5, $6, $7) "
            "ORDER BY payee, plan_id, start_day LIMIT $8",
            view.visible,
            payee,
            plan,
            period,
            after[0],
            after[1],
            date.fromisoformat(str(after[2])),
            page.fetch,
        )
    found = page_of(rows, page, key=_list_key, show=_list_view)
    return listed(request, found, StatementView)


@router.get("/{payee}/{plan}/{period}", responses=_FILES, response_class=Response)
async def statement(  # noqa: PLR0913, PLR0917 - the parts of the path
    request: Request,
    principal: Reader,
    payee: Id,
    plan: Id,
    period: Id,
    view: View = View.SHOWN,
    as_of: AsOf = None,
    form: Annotated[
        FileFormat | None, Query(alias="format", description="goes before the Accept header")
    ] = None,
) -> Response:
    """A statement with its lines, totals, exceptions and hash: JSON, or a CSV, XLSX or PDF file.

    A closed one reads as it was fixed, byte for byte; `view=recomputed` shows it as of today, and
    `as_of` as it was shown at an instant in the past.
    """
    wanted = format_wanted(request.headers.get("accept", ""), form)
    account = AccountKey(payee, plan)
    async with snapshot(request, principal) as seen:
        if as_of is None:
            document, digest = await _document(seen, account, period, view)
        else:
            document, digest = await _past_document(seen, account, period, view, as_of)
    if wanted is FileFormat.JSON:
        return Response(document, media_type="application/json", headers={"ETag": etag(digest)})
    decoded: dict[str, Any] = msgspec.json.decode(document)
    return _attached(
        await file_of(decoded, wanted),
        MEDIA_TYPES[wanted],
        file_name(decoded, wanted),
        {"ETag": etag(f"{digest}-{wanted}")},
    )


@router.get("/{payee}/{plan}/{period}/proof")
async def proof(request: Request, principal: Reader, payee: Id, plan: Id, period: Id) -> Response:
    """A statement with its explanation and hash in one file: what `attain verify` checks."""
    account = AccountKey(payee, plan)
    async with snapshot(request, principal) as seen:
        document, tree = await _with_tree(seen, account, period)
    file = sealed({"format": PROOF_FORMAT, "statement": document, "explanation": tree})
    name = file_name(document, FileFormat.JSON)
    return _attached(msgspec.json.encode(file, order="sorted"), "application/json", name, {})


def _attached(content: bytes, media_type: str, name: str, headers: dict[str, str]) -> Response:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers={**disposition, **headers})


@router.get("/{payee}/{plan}/{period}/versions")
async def versions(
    request: Request, principal: Reader, payee: Id, plan: Id, period: Id
) -> list[ClosedVersion]:
    """What closes fixed for this statement, the oldest first: what it showed, and from when."""
    async with snapshot(request, principal) as seen:
        rows = await seen.tx.fetch(
            "SELECT r.hash, r.closed_with, r.closed_at, r.reopened_at, r.document::text "
            "FROM reopened_statement r WHERE r.payee = $1 AND r.plan_id = $2 AND r.period = $3 "
            "AND ($4::text[] IS NULL OR r.payee = ANY($4)) UNION ALL "
            "SELECT f.hash, f.closed_with, p.closed_at, NULL, f.document::text "
            "FROM fixed_statement f JOIN period p ON p.period = f.closed_with "
            "WHERE f.payee = $1 AND f.plan_id = $2 AND f.period = $3 "
            "AND ($4::text[] IS NULL OR f.payee = ANY($4)) ORDER BY closed_at",
            payee,
            plan,
            period,
            seen.visible,
        )
    return [
        ClosedVersion(
            hash=row["hash"],
            closed_with=row["closed_with"],
            closed_at=row["closed_at"],
            reopened_at=row["reopened_at"],
            statement=msgspec.json.decode(row["document"]),
        )
        for row in rows
    ]


@router.get("/{payee}/{plan}/{period}/explanation")
async def explanation(  # noqa: PLR0913, PLR0917 - the parts of the path
    request: Request,
    principal: Reader,
    payee: Id,
    plan: Id,
    period: Id,
    view: View = View.SHOWN,
) -> Response:
    """The whole statement as a tree: lines, carried difference, carry, payout, and a sentence."""
    async with snapshot(request, principal) as seen:
        tree = await _tree(seen, AccountKey(payee, plan), period, view)
    return Response(msgspec.json.encode(tree), media_type="application/json")


@router.get("/{payee}/{plan}/{period}/lines/{line:path}/explanation")
async def line_explanation(  # noqa: PLR0913, PLR0917 - the parts of the path
    request: Request,
    principal: Reader,
    payee: Id,
    plan: Id,
    period: Id,
    line: str,
    view: View = View.SHOWN,
) -> Response:
    """One line as a tree, from the source's event ids to the amount, and one plain sentence."""
    account = AccountKey(payee, plan)
    async with snapshot(request, principal) as seen:
        if view is View.RECOMPUTED or not await _fixed(seen, account, period):
            tree = await _line_tree(seen, account, period, line)
        else:
            whole = await _tree(seen, account, period, view)
            lines: list[dict[str, Any]] = whole["lines"]
            tree = next((entry for entry in lines if entry["key"] == line), None)
    if tree is None:
        raise not_found("line")
    return Response(msgspec.json.encode(tree), media_type="application/json")


_FIGURES = (
    "payee, plan_id, period, start_day, currency, own, difference, carry_out, payable, "
    "payout_currency, payout_amount, hash, held_pay"
)
_ALL_STATEMENTS = (
    f"SELECT {_FIGURES}, draw_out AS draw_balance, 'closed' AS state "  # noqa: S608 - constants
    f"FROM fixed_statement UNION ALL SELECT {_FIGURES}, draw_balance, "
    "coalesce((SELECT p.state FROM period p WHERE p.period = o.period), 'open') AS state "
    "FROM statement o WHERE end_day > (SELECT day FROM closed_until)"
)


def _list_key(row: asyncpg.Record) -> tuple[str, str, str]:
    return (row["payee"], row["plan_id"], row["start_day"].isoformat())


def _list_view(row: asyncpg.Record) -> StatementView:
    return StatementView(
        payee=row["payee"],
        plan=row["plan_id"],
        period=row["period"],
        state=row["state"],
        currency=row["currency"],
        own=row["own"],
        difference=row["difference"],
        carry_out=row["carry_out"],
        payable=row["payable"],
        held_pay=row["held_pay"],
        draw_balance=row["draw_balance"],
        payout_currency=row["payout_currency"],
        payout_amount=row["payout_amount"],
        hash=row["hash"],
    )


async def _fixed(seen: Snapshot, account: AccountKey, period: str) -> bool:
    found: bool = await seen.tx.fetchval(
        "SELECT EXISTS (SELECT FROM fixed_statement WHERE payee = $1 AND plan_id = $2 "
        "AND period = $3 AND ($4::text[] IS NULL OR payee = ANY($4)))",
        account.payee,
        account.plan_id,
        period,
        seen.visible,
    )
    return found


async def _document(
    seen: Snapshot, account: AccountKey, period: str, view: View
) -> tuple[bytes, str]:
    """A statement's JSON and its hash. Raises Refused (404)."""
    if view is View.SHOWN:
        row = await seen.tx.fetchrow(
            "SELECT document::text AS document, hash FROM fixed_statement WHERE payee = $1 "
            "AND plan_id = $2 AND period = $3 AND ($4::text[] IS NULL OR payee = ANY($4))",
            account.payee,
            account.plan_id,
            period,
            seen.visible,
        )
        if row is not None:
            return row["document"].encode(), row["hash"]
    row = await seen.tx.fetchrow(
        "SELECT s.document::text AS document, s.hash, s.version, "
        "coalesce((SELECT p.state FROM period p WHERE p.period = s.period), 'open') AS state, "
        "s.end_day <= (SELECT day FROM closed_until) AS is_closed, "
        "EXISTS (SELECT FROM mark WHERE kind = 'account' AND root_id = $5) OR EXISTS (SELECT FROM "
        "root WHERE reference_version < (SELECT version FROM reference_version)) AS recalculating "
        "FROM statement s WHERE s.payee = $1 AND s.plan_id = $2 AND s.period = $3 "
        "AND ($4::text[] IS NULL OR s.payee = ANY($4))",
        account.payee,
        account.plan_id,
        period,
        seen.visible,
        account.root_id,
    )
    if row is None or (row["is_closed"] and view is View.SHOWN):
        raise not_found("statement")
    document = {
        **msgspec.json.decode(row["document"]),
        "state": "closed" if row["is_closed"] else row["state"],
        "recalculating": row["recalculating"],
    }
    return msgspec.json.encode(document, order="sorted"), f"{row['hash']}-{row['version']}"


async def _past_document(
    seen: Snapshot, account: AccountKey, period: str, view: View, as_of: datetime
) -> tuple[bytes, str]:
    """A statement's JSON as it was shown at an instant, and what names it. Raises Refused (404)."""
    if view is not View.SHOWN:
        msg = "view=recomputed is of today; leave it out, or leave out as_of"
        raise InvalidValue(msg, pointer="/view")
    if as_of > max(seen.now, WallClock().now()):
        msg = "as_of lies in the future; nobody has been shown that yet"
        raise InvalidValue(msg, pointer="/as_of")
    if not seen.sees(account.payee):
        raise not_found("statement")
    document = await shown_at(seen.tx, account, period, as_of)
    shown = document["as_shown"]
    digest = f"{document['hash'] or shown['recorded_until']}-{shown['as_of']}"
    return msgspec.json.encode(document, order="sorted"), digest


async def _with_tree(
    seen: Snapshot, account: AccountKey, period: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A statement and its explanation, of one moment. Raises Refused (404)."""
    if await _fixed(seen, account, period):
        document, _ = await _document(seen, account, period, View.SHOWN)
        return msgspec.json.decode(document), await _tree(seen, account, period, View.SHOWN)
    if seen.sees(account.payee):
        year = seen.reference.year_of(seen.period(period).start)
        sheet = await sheet_of(seen.tx, account, year, seen.reference)
        found = None if sheet is None else sheet.statement(period)
        if sheet is not None and found is not None and not found.closed:
            # Of the sheet that is explained: what is stored may still be recalculated.
            written = statement_write(account, found).document
            return msgspec.json.decode(written), explain_statement(found, sheet.rater)
    raise not_found("statement")


async def _tree(seen: Snapshot, account: AccountKey, period: str, view: View) -> dict[str, Any]:
    """A statement's explanation, as it was fixed or as of now. Raises Refused (404)."""
    if view is View.SHOWN and await _fixed(seen, account, period):
        stored = await seen.tx.fetchval(
            "SELECT explanation::text FROM fixed_statement "
            "WHERE payee = $1 AND plan_id = $2 AND period = $3",
            account.payee,
            account.plan_id,
            period,
        )
        tree: dict[str, Any] = msgspec.json.decode(stored)
        return tree
    if seen.sees(account.payee):
        year = seen.reference.year_of(seen.period(period).start)
        sheet = await sheet_of(seen.tx, account, year, seen.reference)
        found = None if sheet is None else sheet.statement(period)
        if sheet is not None and found is not None:
            return explain_statement(found, sheet.rater)
    raise not_found("statement")


async def _line_tree(
    seen: Snapshot, account: AccountKey, period: str, key: str
) -> dict[str, Any] | None:
    if not seen.sees(account.payee):
        return None
    year = seen.reference.year_of(seen.period(period).start)
    sheet = await sheet_of(seen.tx, account, year, seen.reference)
    found = None if sheet is None else sheet.statement(period)
    if sheet is None or found is None:
        return None
    for line in found.lines:
        if line.key == key:
            return explain_line(line, sheet.rater)
    return None
