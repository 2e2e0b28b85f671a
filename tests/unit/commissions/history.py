"""Golden cases through the pure engine: a small reading of the steps, then credits and sheets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml

from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credits import (
    Credit,
    CreditEvent,
    CreditException,
    credits_for,
    invoice_amount,
)
from services.commissions.domain.exchange import RateBook, RateRow
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.periods import Period, parse_period
from services.commissions.domain.plan import Assignment, CreditOn, CreditTo, DayRange, Plan
from services.commissions.domain.sheet import Sheet, SheetInput, rate_sheet
from services.commissions.domain.statement import Statement, fixed_by
from shared.clock import parse_instant

GOLDEN = Path(__file__).parents[2] / "golden" / "commissions"
Step = dict[str, Any]


class _Yaml12(yaml.SafeLoader):
    """Booleans are `true` and `false` only, so that `on` is a key; dates and decimals are text."""


_KEPT = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:int", "tag:yaml.org,2002:merge"}
_Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])


def load_yaml(text: str) -> dict[str, Any]:
    """A YAML 1.2 document."""
    found: dict[str, Any] = yaml.load(text, _Yaml12)  # noqa: S506 - a SafeLoader
    return found


def golden_cases() -> Iterator[tuple[str, dict[str, Any], Step]]:
    """(name, plan documents by name, case) of every golden file."""
    for path in sorted(GOLDEN.glob("*.yaml")):
        document = load_yaml(path.read_text())
        for case in document["cases"]:
            yield f"{path.stem}: {case['name']}", document["plans"], case


def arrivals(case: Step) -> Iterator[list[Step]]:
    """The steps in each order of arrival the case asks for."""
    steps = case["steps"]
    if not case.get("any_order"):
        yield steps
        return
    first = next(place for place, step in enumerate(steps) if "expect" in step)
    for order in permutations(steps[:first]):
        yield [*order, *steps[first:]]


@dataclass
class World:
    """What has arrived so far, and what it comes to."""

    plans: dict[str, Plan]
    assignments: list[Assignment]
    quotas: list[Step]
    rates: list[Step]
    deals: dict[str, dict[str, Step]] = field(default_factory=dict)
    invoices: dict[str, Step] = field(default_factory=dict)
    closed_before: date | None = None
    fixed: dict[tuple[str, str], list[FixedStatement]] = field(default_factory=dict)
    totals: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Mapping[str, Any], case: Step) -> World:
        """The world a case begins with."""
        plans: dict[str, list[Any]] = {}
        for name in case["plans"]:
            version = parse_plan(documents[name])
            plans.setdefault(version.id, []).append(version)
        return cls(
            {plan_id: Plan(plan_id, tuple(versions)) for plan_id, versions in plans.items()},
            [_assignment(entry) for entry in case["assignments"]],
            list(case.get("quotas", [])),
            list(case.get("rates", [])),
        )

    def arrive(self, step: Step) -> None:
        """Take one step in."""
        if "deal" in step:
            fact = step["deal"]
            self.deals.setdefault(fact["id"], {})[fact["at"]] = fact
        elif "invoice" in step:
            self.invoices[step["invoice"]["id"]] = step["invoice"]
        elif "rate" in step:
            self.rates.append(step["rate"])
        elif "quota" in step:
            self.quotas.append(step["quota"])
        else:
            self.close(step["close"]["period"])

    def close(self, label: str) -> None:
        """Close a period for everybody, at what the statements say now."""
        period = parse_period(label)
        for sheet in self.sheets():
            statement = sheet.statement(label)
            if statement is not None:
                self.fixed.setdefault((sheet.payee, sheet.plan_id), []).append(fixed_by(statement))
        self.closed_before = period.end

    def events(self) -> list[CreditEvent]:
        """Won deals that are still won, and invoices."""
        found = []
        for deal_id, facts in self.deals.items():
            patches = [facts[at] for at in sorted(facts)]
            last = _latest(patches)
            if last.get("status") == "won":
                won_at = next(patch["at"] for patch in patches if patch.get("status") == "won")
                found.append(self._won(deal_id, patches, last, last.get("closed_at", won_at)))
        found.extend(self._issued(invoice) for invoice in self.invoices.values())
        return found

    def _won(self, deal_id: str, patches: list[Step], last: Step, instant: str) -> CreditEvent:
        return CreditEvent(
            key=f"deal:{deal_id}:{instant}",
            on=CreditOn.DEAL_WON,
            deal_id=deal_id,
            instant=parse_instant(instant),
            amount=_decimal(last.get("amount")),
            currency=last.get("currency"),
            owner=_at(patches, "owner", instant),
            splits=tuple((_at(patches, "splits", instant) or {}).items()),
            overlays=tuple((_at(patches, "overlays", instant) or {}).items()),
            fields={"deal": {"type": last.get("type")}},
            source_ids=tuple(f"{deal_id}@{patch['at']}" for patch in patches),
        )

    def _issued(self, invoice: Step) -> CreditEvent:
        facts = self.deals.get(invoice["deal"], {})
        patches = [facts[at] for at in sorted(facts)]
        instant = invoice["issued_at"]
        note = invoice.get("credit_note_of") is not None
        return CreditEvent(
            key=f"invoice:{invoice['id']}",
            on=CreditOn.INVOICE_ISSUED,
            deal_id=invoice["deal"],
            instant=parse_instant(instant),
            amount=invoice_amount(_decimal(invoice.get("amount")), credit_note=note),
            currency=invoice.get("currency"),
            owner=_at(patches, "owner", instant),
            fields={"invoice": {"credit_note": note}},
            source_ids=(f"{invoice['id']}@{invoice['at']}",),
        )

    def book(self) -> RateBook:
        """The rates that have arrived."""
        return RateBook(
            RateRow(
                f"{r['table']}:{r['from']}:{r['to']}:{r['date']}",
                r["table"],
                r["from"],
                r["to"],
                date.fromisoformat(r["date"]),
                Decimal(r["rate"]),
                "golden",
            )
            for r in self.rates
        )

    def credited(self) -> tuple[list[Credit], list[CreditException]]:
        """All credits and waiting reasons."""
        credits_: list[Credit] = []
        waiting: list[CreditException] = []
        for event in self.events():
            for plan in self.plans.values():
                outcome = credits_for(event, plan, self.assignments, self.book())
                credits_.extend(outcome.credits)
                waiting.extend(outcome.exceptions)
        return credits_, waiting

    def sheets(self) -> list[Sheet]:
        """Every payee's sheet under every plan."""
        credits_, waiting = self.credited()
        found = []
        for payee, plan_id in sorted({(a.payee, a.plan_id) for a in self.assignments}):
            found.append(
                rate_sheet(
                    SheetInput(
                        payee=payee,
                        plan=self.plans[plan_id],
                        year=parse_period("2025"),
                        credits=[c for c in credits_ if c.payee == payee and c.plan_id == plan_id],
                        assignments=self.assignments,
                        quotas={
                            (q["measure"], period.kind, period.start): Decimal(q["amount"])
                            for q in self.quotas
                            if q["payee"] == payee
                            for period in [_period(q["period"])]
                        },
                        rates=self.book(),
                        exceptions=[
                            e for e in waiting if e.payee == payee and e.plan_id == plan_id
                        ],
                        closed_before=self.closed_before,
                        fixed=self.fixed.get((payee, plan_id), []),
                    )
                )
            )
        return found

    def exceptions(self) -> list[CreditException]:
        """Everything that waits, statements' own reasons included."""
        _, waiting = self.credited()
        own = [entry for entry in waiting if entry.payee is None]
        for sheet in self.sheets():
            for statement in sheet.statements:
                own.extend(statement.exceptions)
        return own

    def statement(self, payee: str, plan_id: str, label: str) -> tuple[Statement, Sheet]:
        """One statement and the sheet it stands on."""
        for sheet in self.sheets():
            if (sheet.payee, sheet.plan_id) == (payee, plan_id):
                found = sheet.statement(label)
                assert found is not None, f"{payee} has no statement {label}"
                return found, sheet
        msg = f"{payee} has no sheet under {plan_id}"
        raise AssertionError(msg)

    def bookings(self) -> dict[str, Decimal]:
        """Deal → amount credited inside the 100 %."""
        sums: dict[str, Decimal] = {}
        for credit in self.credited()[0]:
            if credit.to is not CreditTo.OVERLAYS:
                sums[credit.deal_id] = sums.get(credit.deal_id, Decimal(0)) + credit.original
        return sums


def _period(label: str) -> Period:
    return parse_period(label)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _latest(patches: Iterable[Step]) -> Step:
    merged: Step = {}
    for patch in patches:
        merged.update(patch)
    return merged


def _at(patches: list[Step], name: str, instant: str) -> Any:  # noqa: ANN401 - as in the file
    """The value in force at `instant`; none by then: the first stated after."""
    stated = [(parse_instant(patch["at"]), patch[name]) for patch in patches if name in patch]
    by_then = [value for at, value in stated if at <= parse_instant(instant)]
    if by_then:
        return by_then[-1]
    return stated[0][1] if stated else None


def _assignment(entry: Step) -> Assignment:
    quota: Mapping[str, str] = entry.get("quota", {})
    last = entry.get("to")
    return Assignment(
        payee=entry["payee"],
        plan_id=entry["plan"],
        days=DayRange(
            date.fromisoformat(entry["from"]), date.fromisoformat(last) if last else None
        ),
        quota=tuple((name, Decimal(amount)) for name, amount in quota.items()),
        payout_currency=entry.get("payout_currency"),
    )
