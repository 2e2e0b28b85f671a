"""SQL of the projection: credits, exceptions, statements, the ledger, what closes fixed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credits import Credit, credit_as_row, credit_from_row
from services.commissions.domain.ledger import Account, Place, Transaction
from services.commissions.domain.periods import parse_period
from shared.money import quantise

if TYPE_CHECKING:
    from shared.db.pool import Connection

UNASSIGNED = "unassigned"
"""Kind of exception: somebody would be credited who is on no plan that day."""


class AccountKey(NamedTuple):
    """Whose earnings under which plan. As a root's id: `<payee>|<plan>`."""

    payee: str
    plan_id: str

    @property
    def root_id(self) -> str:
        """The root's id; neither part holds a `|`."""
        return f"{self.payee}|{self.plan_id}"

    @classmethod
    def of(cls, root_id: str) -> AccountKey:
        """The inverse of `root_id`."""
        payee, _, plan_id = root_id.rpartition("|")
        return cls(payee, plan_id)


class Span(NamedTuple):
    """What is wanted of an account: from a day on, and before another one."""

    account: AccountKey
    since: date
    until: date


def _columns(spans: Sequence[Span]) -> tuple[list[str], list[str], list[date], list[date]]:
    return (
        [span.account.payee for span in spans],
        [span.account.plan_id for span in spans],
        [span.since for span in spans],
        [span.until for span in spans],
    )


_WANTED = (
    "unnest($1::text[], $2::text[], $3::date[], $4::date[]) AS a(payee, plan_id, since, until)"
)


class Waiting(NamedTuple):
    """A row of credit_exception."""

    deal_id: str
    kind: str
    event_key: str
    plan_id: str
    component_id: str
    payee: str
    day: date
    message: str


def deal_named(root: str) -> str | None:
    """The deal by whose name rows go; None where their root is no deal (`activity/…`)."""
    return None if "/" in root else root


class Borders(NamedTuple):
    """Until when all is closed, and the first day of the period after those that have begun."""

    closed_until: date
    begun_until: date


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """What is stored of a statement: enough to see whether it changed."""

    period: str
    start_day: date
    end_day: date
    version: int
    document: str


@dataclass(frozen=True, slots=True)
class StatementWrite:
    """A statement to store. `document` is canonical JSON."""

    account: AccountKey
    period: str
    start_day: date
    end_day: date
    currency: str
    own: Decimal
    difference: Decimal
    carry_out: Decimal
    payable: Decimal
    payout_currency: str
    payout_amount: Decimal | None
    hash: str
    waiting: bool
    document: str
    held_pay: Decimal
    draw_balance: Decimal


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger transaction of one account, with the days of the periods it posts to."""

    account: AccountKey
    number: int
    id: str
    transaction: Transaction
    days: Mapping[str, tuple[date, date]]


# ---- credits and what waits -------------------------------------------------------------------


async def write_credits(
    tx: Connection,
    gone: Sequence[tuple[str, str]],
    new: Sequence[tuple[str, Credit]],
    budgets: Sequence[str | None],
) -> None:
    """Remove credits by (root, key) and add others; a changed one is in both.

    budgets: for each new one, the component whose budget pays it.
    """
    if gone:
        await tx.execute(
            "DELETE FROM credit c USING unnest($1::text[], $2::text[]) AS g(deal_id, key) "
            "WHERE c.deal_id = g.deal_id AND c.key = g.key",
            [deal_id for deal_id, _ in gone],
            [key for _, key in gone],
        )
    if new:
        await tx.execute(
            "INSERT INTO credit (deal_id, key, payee, plan_id, day, original, currency, "
            "converted, document, budget) SELECT deal_id, key, payee, plan_id, day, original, "
            "currency, converted, document::json, budget FROM unnest($1::text[], $2::text[], "
            "$3::text[], $4::text[], $5::date[], $6::numeric[], $7::text[], $8::numeric[], "
            "$9::text[], $10::text[]) AS n(deal_id, key, payee, plan_id, day, original, currency, "
            "converted, document, budget)",
            [deal_id for deal_id, _ in new],
            [credit.key for _, credit in new],
            [credit.payee for _, credit in new],
            [credit.plan_id for _, credit in new],
            [credit.day for _, credit in new],
            [credit.original for _, credit in new],
            [credit.currency for _, credit in new],
            [credit.converted for _, credit in new],
            [canonical_json(credit_as_row(credit)) for _, credit in new],
            list(budgets),
        )


async def write_exceptions(
    tx: Connection, deal_ids: Sequence[str], waiting: Sequence[Waiting]
) -> None:
    """Replace all that waits of these deals."""
    if deal_ids:
        await tx.execute(
            "DELETE FROM credit_exception WHERE deal_id = ANY($1::text[])", list(deal_ids)
        )
    if waiting:
        await tx.execute(
            "INSERT INTO credit_exception (deal_id, kind, event_key, plan_id, component_id, "
            "payee, day, message) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], "
            "$4::text[], $5::text[], $6::text[], $7::date[], $8::text[])",
            *(list(column) for column in zip(*waiting, strict=True)),
        )


async def load_credits(tx: Connection, spans: Sequence[Span]) -> dict[AccountKey, list[Credit]]:
    """Credits of accounts by day, each key once.

    An invoice that moves between deals is for a moment a credit of both; the mark of the one that
    is not settled yet has the account rated again.
    """
    found: dict[AccountKey, list[Credit]] = {}
    last: tuple[str, str] | None = None
    for row in await tx.fetch(
        "SELECT c.payee, c.plan_id, c.key, c.document::text AS document FROM credit c "  # noqa: S608 - constants
        f"JOIN {_WANTED} ON c.payee = a.payee AND c.plan_id = a.plan_id "
        "AND c.day >= a.since AND c.day < a.until ORDER BY c.key, c.deal_id",
        *_columns(spans),
    ):
        if last != row["key"]:
            account = AccountKey(row["payee"], row["plan_id"])
            found.setdefault(account, []).append(
                credit_from_row(msgspec.json.decode(row["document"]))
            )
        last = row["key"]
    return found


async def load_waiting(tx: Connection, spans: Sequence[Span]) -> dict[AccountKey, list[Waiting]]:
    """What waits for accounts by day, those on no plan left out."""
    found: dict[AccountKey, list[Waiting]] = {}
    for row in await tx.fetch(
        "SELECT e.deal_id, e.kind, e.event_key, e.plan_id, e.component_id, e.payee, e.day, "  # noqa: S608 - constants
        f"e.message FROM credit_exception e JOIN {_WANTED} "
        "ON e.payee = a.payee AND e.plan_id = a.plan_id "
        "AND e.day >= a.since AND e.day < a.until WHERE e.kind <> $5 "
        "ORDER BY e.event_key, e.kind, e.component_id, e.deal_id",
        *_columns(spans),
        UNASSIGNED,
    ):
        account = AccountKey(row["payee"], row["plan_id"])
        found.setdefault(account, []).append(Waiting(*row.values()))
    return found


# ---- statements -------------------------------------------------------------------------------


async def hold_borders(tx: Connection, *, lock: bool) -> Borders:
    """Both borders; locked, neither moves before this transaction ends."""
    suffix = " FOR SHARE" if lock else ""
    rows = await tx.fetch(
        "SELECT c.day AS closed_until, b.day AS begun_until "  # noqa: S608 - constants
        f"FROM closed_until c CROSS JOIN begun_until b{suffix}"
    )
    return Borders(rows[0]["closed_until"], rows[0]["begun_until"])


async def load_fixed(
    tx: Connection, spans: Sequence[Span], fiscal_start_month: int
) -> dict[AccountKey, list[FixedStatement]]:
    """What closes fixed of accounts, by the day on which a period begins."""
    found: dict[AccountKey, list[FixedStatement]] = {}
    for row in await tx.fetch(
        "SELECT f.payee, f.plan_id, f.period, f.difference, f.carry_in, f.carry_out, f.payable, "  # noqa: S608 - constants
        "f.hash, f.draw_in, f.draw_out, f.document::text AS document FROM fixed_statement f "
        f"JOIN {_WANTED} ON f.payee = a.payee AND f.plan_id = a.plan_id "
        "AND f.start_day >= a.since AND f.start_day < a.until ORDER BY f.start_day",
        *_columns(spans),
    ):
        lines = msgspec.json.decode(row["document"])["lines"]
        found.setdefault(AccountKey(row["payee"], row["plan_id"]), []).append(
            FixedStatement(
                period=parse_period(row["period"], fiscal_start_month),
                lines={line["key"]: quantise(Decimal(line["amount"])) for line in lines},
                difference=row["difference"],
                carry_in=row["carry_in"],
                carry_out=row["carry_out"],
                payable=row["payable"],
                hash=row["hash"],
                draw_in=row["draw_in"],
                draw_out=row["draw_out"],
            )
        )
    return found


async def load_statements(
    tx: Connection, spans: Sequence[Span]
) -> dict[AccountKey, list[StoredStatement]]:
    """Stored statements of accounts, of periods that end after a day and begin before another."""
    found: dict[AccountKey, list[StoredStatement]] = {}
    for row in await tx.fetch(
        "SELECT s.payee, s.plan_id, s.period, s.start_day, s.end_day, s.version, "  # noqa: S608 - constants
        f"s.document::text AS document FROM statement s JOIN {_WANTED} "
        "ON s.payee = a.payee AND s.plan_id = a.plan_id "
        "AND s.end_day > a.since AND s.start_day < a.until",
        *_columns(spans),
    ):
        found.setdefault(AccountKey(row["payee"], row["plan_id"]), []).append(
            StoredStatement(*list(row.values())[2:])
        )
    return found


async def write_statements(
    tx: Connection,
    gone: Sequence[tuple[AccountKey, str]],
    new: Sequence[StatementWrite],
) -> None:
    """Remove statements that hold nothing any more, and write those that changed."""
    if gone:
        await tx.execute(
            "DELETE FROM statement s USING unnest($1::text[], $2::text[], $3::text[]) "
            "AS g(payee, plan_id, period) WHERE s.payee = g.payee AND s.plan_id = g.plan_id "
            "AND s.period = g.period",
            [account.payee for account, _ in gone],
            [account.plan_id for account, _ in gone],
            [period for _, period in gone],
        )
    if not new:
        return
    await tx.execute(
        """
        INSERT INTO statement AS s (payee, plan_id, period, start_day, end_day, currency, own,
            difference, carry_out, payable, payout_currency, payout_amount, hash, waiting,
            document, held_pay, draw_balance, version)
        SELECT payee, plan_id, period, start_day, end_day, currency, own, difference, carry_out,
            payable, payout_currency, payout_amount, hash, waiting, document::json, held_pay,
            draw_balance, 1
        FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::date[], $6::text[],
                    $7::numeric[], $8::numeric[], $9::numeric[], $10::numeric[], $11::text[],
                    $12::numeric[], $13::text[], $14::boolean[], $15::text[], $16::numeric[],
                    $17::numeric[])
             AS n(payee, plan_id, period, start_day, end_day, currency, own, difference,
                  carry_out, payable, payout_currency, payout_amount, hash, waiting, document,
                  held_pay, draw_balance)
        ON CONFLICT (payee, plan_id, period) DO UPDATE SET
            start_day = excluded.start_day, end_day = excluded.end_day,
            currency = excluded.currency, own = excluded.own, difference = excluded.difference,
            carry_out = excluded.carry_out, payable = excluded.payable,
            payout_currency = excluded.payout_currency, payout_amount = excluded.payout_amount,
            hash = excluded.hash, waiting = excluded.waiting, document = excluded.document,
            held_pay = excluded.held_pay, draw_balance = excluded.draw_balance,
            version = s.version + 1
        """,
        [w.account.payee for w in new],
        [w.account.plan_id for w in new],
        [w.period for w in new],
        [w.start_day for w in new],
        [w.end_day for w in new],
        [w.currency for w in new],
        [w.own for w in new],
        [w.difference for w in new],
        [w.carry_out for w in new],
        [w.payable for w in new],
        [w.payout_currency for w in new],
        [w.payout_amount for w in new],
        [w.hash for w in new],
        [w.waiting for w in new],
        [w.document for w in new],
        [w.held_pay for w in new],
        [w.draw_balance for w in new],
    )


# ---- the ledger -------------------------------------------------------------------------------


async def load_posted(
    tx: Connection, spans: Sequence[Span]
) -> dict[AccountKey, dict[Place, tuple[Decimal, date, date]]]:
    """What is posted to periods of such days: place → (sum, the period's days)."""
    found: dict[AccountKey, dict[Place, tuple[Decimal, date, date]]] = {}
    for row in await tx.fetch(
        "SELECT p.account, p.payee, p.plan_id, p.period, p.line_key, p.currency, "  # noqa: S608 - constants
        f"sum(p.amount) AS amount, p.start_day, p.end_day FROM posting p JOIN {_WANTED} "
        "ON p.payee = a.payee AND p.plan_id = a.plan_id "
        "AND p.end_day > a.since AND p.start_day < a.until "
        "GROUP BY p.account, p.payee, p.plan_id, p.period, p.line_key, p.currency, "
        "p.start_day, p.end_day HAVING sum(p.amount) <> 0",
        *_columns(spans),
    ):
        account, payee, plan_id, period, line_key, currency, amount, start_day, end_day = row
        place = Place(Account(account), payee, plan_id, period, line_key, currency)
        found.setdefault(AccountKey(payee, plan_id), {})[place] = (amount, start_day, end_day)
    return found


async def last_numbers(tx: Connection, accounts: Sequence[AccountKey]) -> dict[AccountKey, int]:
    """How many transactions each account has."""
    rows = await tx.fetch(
        "SELECT a.payee, a.plan_id, (SELECT max(number) FROM ledger_transaction t "
        "WHERE t.payee = a.payee AND t.plan_id = a.plan_id) AS number "
        "FROM unnest($1::text[], $2::text[]) AS a(payee, plan_id)",
        [a.payee for a in accounts],
        [a.plan_id for a in accounts],
    )
    return {AccountKey(row["payee"], row["plan_id"]): row["number"] or 0 for row in rows}


async def write_entries(tx: Connection, entries: Sequence[Entry]) -> None:
    """Add transactions and their postings. The database refuses uneven ones and closed periods."""
    if not entries:
        return
    await tx.execute(
        "INSERT INTO ledger_transaction (id, payee, plan_id, number, actor, plan_hash, event_ids, "
        "reverses) SELECT id, payee, plan_id, number, actor, plan_hash, event_ids::json, reverses "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], "
        "$7::text[], $8::text[]) "
        "AS n(id, payee, plan_id, number, actor, plan_hash, event_ids, reverses)",
        [e.id for e in entries],
        [e.account.payee for e in entries],
        [e.account.plan_id for e in entries],
        [e.number for e in entries],
        [e.transaction.cause.actor for e in entries],
        [e.transaction.cause.plan_hash for e in entries],
        [canonical_json(e.transaction.cause.event_ids) for e in entries],
        [e.transaction.reverses for e in entries],
    )
    rows = [
        (
            entry.id,
            ordinal,
            posting.place.account.value,
            posting.place.payee,
            posting.place.plan_id,
            posting.place.period,
            *entry.days[posting.place.period],
            posting.place.key,
            posting.place.currency,
            posting.amount,
        )
        for entry in entries
        for ordinal, posting in enumerate(entry.transaction.postings)
    ]
    await tx.execute(
        "INSERT INTO posting (transaction_id, ordinal, account, payee, plan_id, period, "
        "start_day, end_day, line_key, currency, amount) SELECT * FROM unnest($1::text[], "
        "$2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::date[], $8::date[], "
        "$9::text[], $10::text[], $11::numeric[])",
        *(list(column) for column in zip(*rows, strict=True)),
    )


def canonical_json(value: object) -> str:
    """JSON text with sorted keys: equal values, equal texts."""
    return msgspec.json.encode(value, order="sorted").decode()


def by_account(roots: Iterable[str]) -> list[AccountKey]:
    """Accounts of root ids."""
    return [AccountKey.of(root_id) for root_id in roots]
