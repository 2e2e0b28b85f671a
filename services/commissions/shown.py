"""Statements as they were shown on a past instant.

While a period is closed its statement is what the close fixed, also when it was opened again later.
Before and between closes it is what the ledger had posted by then: postings are never changed and
carry the instant at which they were recorded, so nothing else needs to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from services.commissions.domain.ledger import Account
from services.commissions.domain.lines import LineKind
from services.commissions.domain.rates import ZERO
from services.commissions.store import AccountKey
from shared.clock import to_text as instant_text
from shared.errors import Refused
from shared.money import EXACT, to_text

if TYPE_CHECKING:
    import asyncpg

    from shared.db.pool import Connection

Document = dict[str, Any]
NOT_POSTED = (
    *("attainment", "corrects", "landed_before", "taken", "payout", "held", "exceptions", "hash"),
)
"""What of a statement is on no account, and so is not known of an open one in the past."""

_STAY = re.compile(r"~[0-9]+$", re.ASCII)
_WHOLE = frozenset({"difference", "settlement"})
_OF_A_CREDIT = frozenset(
    {
        LineKind.CREDIT,
        LineKind.BUDGET_CAP,
        LineKind.OVERRIDE,
        LineKind.DEAL_CAP,
        LineKind.ATTAINMENT_CAP,
        LineKind.HOLD,
        LineKind.RELEASE,
        LineKind.CLAWBACK,
    }
)
_OF_A_COMPONENT = frozenset({LineKind.COMPONENT_CAP, LineKind.FLOOR, LineKind.GATE})


@dataclass(frozen=True, slots=True)
class _Posted:
    """What one line of a statement came to on the accounts. changed_at: its last posting."""

    key: str
    sums: dict[Account, Decimal]
    changed_at: datetime

    def of(self, account: Account) -> Decimal:
        """The sum on an account."""
        return self.sums.get(account, ZERO)


async def shown_at(tx: Connection, account: AccountKey, period: str, as_of: datetime) -> Document:
    """A statement as it was shown at an instant; `as_shown` says where that is known from.

    Raises Refused (404) where nothing of it had been posted by then.
    """
    fixed = await _fixed_then(tx, account, period, as_of)
    if fixed is not None:
        return fixed
    rows = await _postings(tx, account, period, as_of)
    if not rows:
        raise await _nothing_yet(tx, account, period, as_of)
    before = await tx.fetch(
        "SELECT p.account, sum(p.amount) AS amount "
        "FROM posting p JOIN ledger_transaction t ON t.id = p.transaction_id "
        "WHERE p.payee = $1 AND p.plan_id = $2 AND p.end_day <= $3 AND t.recorded_at <= $4 "
        "AND p.account IN ('carry', 'draw') GROUP BY p.account",
        account.payee,
        account.plan_id,
        rows[0]["start_day"],
        as_of,
    )
    left = {Account(row["account"]): row["amount"] for row in before}
    return _from_ledger(account, period, rows, left, as_of)


async def _fixed_then(
    tx: Connection, account: AccountKey, period: str, as_of: datetime
) -> Document | None:
    """What a close had fixed, and no reopening taken back, at an instant."""
    row = await tx.fetchrow(
        "SELECT * FROM (SELECT r.document::text AS document, r.closed_at, r.reopened_at "
        "FROM reopened_statement r WHERE r.payee = $1 AND r.plan_id = $2 AND r.period = $3 "
        "UNION ALL SELECT f.document::text, p.closed_at, NULL FROM fixed_statement f "
        "JOIN period p ON p.period = f.closed_with "
        "WHERE f.payee = $1 AND f.plan_id = $2 AND f.period = $3) v "
        "WHERE closed_at <= $4 AND (reopened_at IS NULL OR reopened_at > $4) "
        "ORDER BY closed_at DESC LIMIT 1",
        account.payee,
        account.plan_id,
        period,
        as_of,
    )
    if row is None:
        return None
    document: Document = msgspec.json.decode(row["document"])
    closed, reopened = instant_text(row["closed_at"]), row["reopened_at"]
    said = f"As the close of {closed} fixed it."
    if reopened is not None:
        said += f" It was opened again on {instant_text(reopened)}."
    document["as_shown"] = {
        "as_of": instant_text(as_of),
        "source": "close",
        "closed_at": closed,
        "reopened_at": None if reopened is None else instant_text(reopened),
        "said": said,
    }
    return document


async def _postings(
    tx: Connection, account: AccountKey, period: str, as_of: datetime
) -> Sequence[asyncpg.Record]:
    """Sums by line and account; payments of pay runs are no part of a statement."""
    return await tx.fetch(
        "SELECT p.line_key, p.account, p.currency, p.start_day, p.end_day, "
        "sum(p.amount) AS amount, max(t.recorded_at) AS changed_at "
        "FROM posting p JOIN ledger_transaction t ON t.id = p.transaction_id "
        "WHERE p.payee = $1 AND p.plan_id = $2 AND p.period = $3 AND t.recorded_at <= $4 "
        "AND p.line_key NOT LIKE 'payrun/%' "
        "GROUP BY p.line_key, p.account, p.currency, p.start_day, p.end_day ORDER BY p.line_key",
        account.payee,
        account.plan_id,
        period,
        as_of,
    )


async def _nothing_yet(
    tx: Connection, account: AccountKey, period: str, as_of: datetime
) -> Refused:
    first: datetime | None = await tx.fetchval(
        "SELECT min(t.recorded_at) FROM posting p JOIN ledger_transaction t "
        "ON t.id = p.transaction_id WHERE p.payee = $1 AND p.plan_id = $2 AND p.period = $3",
        account.payee,
        account.plan_id,
        period,
    )
    if first is None:
        msg = "There is no such statement, or it is not yours to see."
        return Refused("not-found", msg, status=404)
    msg = (
        f"Nothing of this statement had been posted by {instant_text(as_of)}; "
        f"its first posting was recorded at {instant_text(first)}."
    )
    return Refused("not-posted-yet", msg, status=404)


def _from_ledger(
    account: AccountKey,
    period: str,
    rows: Sequence[asyncpg.Record],
    left: Mapping[Account, Decimal],
    as_of: datetime,
) -> Document:
    posted = _by_key(rows)
    whole = {entry.key: entry for entry in posted if entry.key in _WHOLE}
    own = [entry for entry in posted if entry.key not in _WHOLE]
    settled = whole.get("settlement") or _Posted("settlement", {}, as_of)
    landed = whole.get("difference") or _Posted("difference", {}, as_of)
    carry_in = left.get(Account.CARRY, ZERO)
    until = instant_text(max(entry.changed_at for entry in posted))
    return {
        "payee": account.payee,
        "plan": account.plan_id,
        "period": period,
        "start": rows[0]["start_day"].isoformat(),
        "end": rows[0]["end_day"].isoformat(),
        "currency": rows[0]["currency"],
        "state": "open",
        "lines": [line for entry in own if (line := _line(entry, account.plan_id)) is not None],
        "attainment": [],
        "own": to_text(_sum(own, Account.EARNED)),
        "difference": to_text(landed.of(Account.EARNED)),
        "corrects": [],
        "landed_before": None,
        "carry_in": to_text(carry_in),
        "taken": None,
        "carry_out": to_text(EXACT.add(carry_in, settled.of(Account.CARRY))),
        "payable": to_text(settled.of(Account.PAYABLE)),
        "payout": {"currency": None, "amount": None, "rate": None},
        "held": [],
        "exceptions": [],
        "held_pay": to_text(_sum(own, Account.HELD)),
        "draw": _draw(left.get(Account.DRAW, ZERO), settled.of(Account.DRAW)),
        "hash": None,
        "as_shown": {
            "as_of": instant_text(as_of),
            "source": "ledger",
            "recorded_until": until,
            "not_known": list(NOT_POSTED),
            "said": f"Open: put together from what the ledger had posted until {until}. "
            "What is on no account is not shown.",
        },
    }


def _by_key(rows: Iterable[asyncpg.Record]) -> list[_Posted]:
    found: dict[str, _Posted] = {}
    for row in rows:
        entry = found.get(row["line_key"]) or _Posted(row["line_key"], {}, row["changed_at"])
        sums = {**entry.sums, Account(row["account"]): row["amount"]}
        found[entry.key] = _Posted(entry.key, sums, max(entry.changed_at, row["changed_at"]))
    return list(found.values())


def _sum(entries: Iterable[_Posted], account: Account) -> Decimal:
    total = ZERO
    for entry in entries:
        total = EXACT.add(total, entry.of(account))
    return total


def _draw(before: Decimal, moved: Decimal) -> Document | None:
    """What a recoverable draw had to get back, which stands on its account below 0."""
    if not before and not moved:
        return None
    return {
        "amount": None,
        "advance": None,
        "recovered": None,
        "balance_in": to_text(-before),
        "balance_out": to_text(-EXACT.add(before, moved)),
    }


def _line(entry: _Posted, plan_id: str) -> Document | None:
    """A line, named by its key; None where all that was posted of it was taken back."""
    amount, held = entry.of(Account.EARNED), entry.of(Account.HELD)
    if not amount and not held:
        return None
    kind, component, deal = named(entry.key, plan_id)
    return {
        "key": entry.key,
        "kind": kind.value,
        "component": component,
        "plan_version": None,
        "deal": deal,
        "day": None,
        "credited": None,
        "amount": to_text(amount),
        "why": f"posted last at {instant_text(entry.changed_at)}",
    }


def named(key: str, plan_id: str) -> tuple[LineKind, str | None, str | None]:
    """(kind, component, deal) as a line's key says them; the deal where the credit is a deal's."""
    prefix, _, rest = key.partition(":")
    try:
        kind = LineKind(prefix)
    except ValueError:
        kind, rest = LineKind.CREDIT, key
    if kind in _OF_A_COMPONENT:
        return kind, rest.partition("/")[0], None
    if kind not in _OF_A_CREDIT:
        return kind, None, None
    event, found, tail = rest.partition(f"/{plan_id}/")
    if not found:
        return kind, None, None
    deal = _STAY.sub("", event.removeprefix("deal:")) if event.startswith("deal:") else None
    return kind, tail.partition("/")[0], deal
