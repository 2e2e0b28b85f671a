"""Pay runs: which closed statements are paid together, their control totals, and payroll's file.

Everything a file shows is fixed with the run, so that the same run always gives the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from shared.money import exact_sum, round_to_minor, to_text


class LineValue(StrEnum):
    """What a column of a payroll's file may show of a line or of its run."""

    BATCH = "batch"
    PAY_DATE = "pay_date"
    PAYEE = "payee"
    NAME = "name"
    EMPLOYEE_NUMBER = "employee_number"
    PLAN = "plan"
    PERIOD = "period"
    AMOUNT = "amount"
    CURRENCY = "currency"
    STATEMENT_HASH = "statement_hash"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a value of the line, or a parameter that is stated once for the run."""

    header: str
    value: LineValue | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """How one payroll reads a file. date_format: of strftime."""

    name: str
    columns: tuple[Column, ...]
    delimiter: str = ","
    date_format: str = "%Y-%m-%d"
    decimal_point: str = "."
    needs_employee_numbers: bool = False

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that a run in this form has to state."""
        return frozenset(c.parameter for c in self.columns if c.parameter is not None)


@dataclass(frozen=True, slots=True)
class PayLine:
    """One closed statement to be paid. amount: above 0, in `currency`, the payout currency.

    plan_amount: the same in plan currency, as the ledger has it.
    """

    payee: str
    name: str
    employee_number: str | None
    plan: str
    period: str
    amount: Decimal
    currency: str
    plan_amount: Decimal
    plan_currency: str
    statement_hash: str


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """What the lines of one currency come to."""

    currency: str
    lines: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Batch:
    """A pay run as its file shows it."""

    id: str
    pay_date: date
    lines: Sequence[PayLine]
    parameters: Mapping[str, str] = field(default_factory=dict)


def in_file_order(lines: Iterable[PayLine]) -> list[PayLine]:
    """By payee, plan and period."""
    return sorted(lines, key=lambda line: (line.payee, line.plan, line.period))


def control_totals(lines: Iterable[PayLine]) -> tuple[ControlTotal, ...]:
    """One for each currency, by its code: unlike currencies are never added."""
    by_currency: dict[str, list[Decimal]] = {}
    for line in lines:
        by_currency.setdefault(line.currency, []).append(line.amount)
    return tuple(
        ControlTotal(currency, len(amounts), exact_sum(amounts))
        for currency, amounts in sorted(by_currency.items())
    )


def batch_hash(lines: Iterable[PayLine]) -> str:
    """SHA-256 over what is paid to whom for which statement: two persons approve this."""
    hashed = hashlib.sha256()
    for line in in_file_order(lines):
        parts = (line.payee, line.plan, line.period, to_text(line.amount), line.currency)
        hashed.update("\x1f".join((*parts, line.statement_hash)).encode() + b"\x1e")
    return hashed.hexdigest()


def payroll_file(batch: Batch, template: Template) -> bytes:
    """The file: UTF-8, CR LF, the same bytes for the same batch and template."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=template.delimiter, lineterminator="\r\n")
    writer.writerow(column.header for column in template.columns)
    for line in in_file_order(batch.lines):
        writer.writerow(_cell(batch, line, column, template) for column in template.columns)
    return text.getvalue().encode()


def _cell(batch: Batch, line: PayLine, column: Column, template: Template) -> str:
    if column.parameter is not None:
        return batch.parameters[column.parameter]
    match column.value:
        case LineValue.BATCH:
            return batch.id
        case LineValue.PAY_DATE:
            return batch.pay_date.strftime(template.date_format)
        case LineValue.AMOUNT:
            plain = f"{round_to_minor(line.amount, line.currency):f}"
            return plain.replace(".", template.decimal_point)
        case None:
            return ""
        case other:
            return _harmless(getattr(line, other.value) or "")


def _harmless(text: str) -> str:
    """A name is whatever a CRM says: no spreadsheet is to run it as a formula."""
    return "'" + text if text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r")) else text
