"""How well commissions themselves work: cost, accuracy, disputes and speed of pay (K37)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from services.commissions.domain.rates import ZERO
from shared.money import EXACT

if TYPE_CHECKING:
    from shared.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Health:
    """Of the statements whose periods lie in the days asked for, in one plan currency.

    payout: payable. bookings: a payee's part of each deal, invoice or payment, credited inside the
    100 %, once whatever the number of components. corrected: Σ |what a closed line would be today -
    what was fixed|. None where there is nothing to divide by, or nothing happened yet.
    """

    currency: str
    statements: int
    payout: Decimal
    bookings: Decimal
    corrected: Decimal
    disputes: int
    days_to_resolve: Decimal | None
    days_to_pay: Decimal | None

    @property
    def effective_rate(self) -> Decimal | None:
        """Payout ÷ bookings."""
        return _share(self.payout, self.bookings)

    @property
    def accuracy(self) -> Decimal | None:
        """1 - corrected ÷ payout, at least 0."""
        wrong = _share(self.corrected, self.payout)
        return None if wrong is None else max(ZERO, EXACT.subtract(Decimal(1), wrong))

    @property
    def dispute_rate(self) -> Decimal | None:
        """Disputes ÷ statements."""
        return _share(Decimal(self.disputes), Decimal(self.statements))


_HEALTH = """
WITH told AS (
    SELECT s.payee, s.plan_id, s.period, s.currency, s.start_day, s.end_day,
           coalesce(f.payable, s.payable) AS payable,
           f.document AS fixed, s.document AS now
    FROM statement s LEFT JOIN fixed_statement f USING (payee, plan_id, period)
    WHERE s.start_day >= $1 AND s.end_day <= $2 AND ($3::text[] IS NULL OR s.payee = ANY($3))
), booked AS (
    SELECT currency, sum(amount) AS amount FROM (
        SELECT t.currency, max(c.converted) AS amount
        FROM told t JOIN credit c ON c.payee = t.payee AND c.plan_id = t.plan_id
             AND c.day >= t.start_day AND c.day < t.end_day
        WHERE c.converted IS NOT NULL AND c.document->>'to' IN ('owner', 'splits')
        GROUP BY t.currency, c.payee, c.plan_id, c.document->>'event_key'
    ) AS each GROUP BY currency
), corrected AS (
    SELECT currency, sum(abs(amount)) AS amount FROM (
        SELECT currency, payee, plan_id, period, key, sum(amount) AS amount FROM (
            SELECT t.currency, t.payee, t.plan_id, t.period, l->>'key' AS key,
                   -(l->>'amount')::numeric AS amount
            FROM told t CROSS JOIN json_array_elements(t.fixed->'lines') AS l
            UNION ALL
            SELECT t.currency, t.payee, t.plan_id, t.period, l->>'key', (l->>'amount')::numeric
            FROM told t CROSS JOIN json_array_elements(t.now->'lines') AS l
            WHERE t.fixed IS NOT NULL
        ) AS sides GROUP BY currency, payee, plan_id, period, key
    ) AS lines GROUP BY currency
), disputed AS (
    SELECT t.currency, count(*) AS number,
           avg(extract(epoch FROM d.resolved_at - d.raised_at) / 86400) AS days
    FROM told t JOIN dispute d USING (payee, plan_id, period) GROUP BY t.currency
), paid AS (
    SELECT t.currency, avg(r.paid_on - t.end_day + 1) AS days
    FROM told t JOIN pay_run_line l USING (payee, plan_id, period)
    JOIN pay_run r USING (pay_run_id) WHERE l.state = 'paid' AND r.paid_on IS NOT NULL
    GROUP BY t.currency
)
SELECT t.currency, count(*) AS statements, sum(t.payable) AS payout,
       coalesce(max(b.amount), 0) AS bookings, coalesce(max(c.amount), 0) AS corrected,
       coalesce(max(d.number), 0) AS disputes, max(d.days) AS days_to_resolve,
       max(p.days) AS days_to_pay
FROM told t LEFT JOIN booked b USING (currency) LEFT JOIN corrected c USING (currency)
LEFT JOIN disputed d USING (currency) LEFT JOIN paid p USING (currency)
GROUP BY t.currency ORDER BY t.currency
"""


async def health(
    tx: Connection, start: date, end: date, visible: Sequence[str] | None
) -> list[Health]:
    """By plan currency, for statement periods inside [start, end)."""
    return [
        Health(
            currency=row["currency"],
            statements=row["statements"],
            payout=row["payout"],
            bookings=row["bookings"],
            corrected=row["corrected"],
            disputes=row["disputes"],
            days_to_resolve=_days(row["days_to_resolve"]),
            days_to_pay=_days(row["days_to_pay"]),
        )
        for row in await tx.fetch(_HEALTH, start, end, visible)
    ]


def _share(part: Decimal, whole: Decimal) -> Decimal | None:
    """A fraction to six decimals."""
    return None if not whole else (part / whole).quantize(Decimal("1e-6"))


def _days(days: Decimal | None) -> Decimal | None:
    return None if days is None else days.quantize(Decimal("0.01"))
