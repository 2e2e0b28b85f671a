"""Golden cases through the pure engine: a small reading of the steps, then credits and sheets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml

from services.commissions.domain.capitalised import Contract, month_of
from services.commissions.domain.closes import FixedStatement
from services.commissions.domain.credits import (
    Cash,
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
from services.commissions.domain.sheet import Grant, KpiFact, Sheet, SheetInput, rate_sheet
from services.commissions.domain.spiff import spend_budget
from services.commissions.domain.statement import Statement, fixed_by
from services.commissions.paying.accounting import AccountStatements, contracts_in
from services.commissions.statement_rows import statement_write
from services.commissions.store import AccountKey
from shared.clock import parse_instant

GOLDEN = Path(__file__).parents[2] / "golden" / "commissions"
Step = dict[str, Any]
GRACE = timedelta(hours=24)
_WHO = ("owner", "splits", "overlays")


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


EVERYTHING = frozenset(
    {"payments", "activities", "scores", "kpis", "target_pay", "draws", "floors", "carried_caps",
     "clawbacks", "budgets", "managers", "component_conditions", "capitalised"}
)  # fmt: skip
"""What a case may need of its runner besides deals, invoices, rates, quotas and closes."""


def golden_cases(
    can: frozenset[str] = frozenset(),
) -> Iterator[tuple[str, dict[str, Any], Step]]:
    """(name, plan documents by name, case) of every golden case that a runner can run."""
    for path in sorted(GOLDEN.glob("*.yaml")):
        document = load_yaml(path.read_text())
        if not can.issuperset(document.get("needs", [])):
            continue
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
    payments: dict[str, Step] = field(default_factory=dict)
    activities: dict[str, Step] = field(default_factory=dict)
    scores: dict[str, Step] = field(default_factory=dict)
    kpis: dict[tuple[str, str, str], Step] = field(default_factory=dict)
    managers: dict[str, str] = field(default_factory=dict)
    until: date | None = None
    closed_before: date | None = None
    fixed: dict[tuple[str, str], list[FixedStatement]] = field(default_factory=dict)
    totals: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)
    fixed_documents: dict[tuple[str, str], list[Step]] = field(default_factory=dict)

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
            managers=dict(case.get("managers", {})),
            until=date.fromisoformat(case["until"]) if "until" in case else None,
        )

    def arrive(self, step: Step) -> None:
        """Take one step in."""
        if "deal" in step:
            fact = step["deal"]
            self.deals.setdefault(fact["id"], {})[fact["at"]] = fact
        elif "invoice" in step:
            self.invoices[step["invoice"]["id"]] = step["invoice"]
        elif "payment" in step:
            self.payments[step["payment"]["id"]] = step["payment"]
        elif "activity" in step:
            self.activities[step["activity"]["id"]] = step["activity"]
        elif "score" in step:
            self.scores[step["score"]["objective"]] = step["score"]
        elif "kpi" in step:
            fact = step["kpi"]
            self.kpis[fact["kpi"], fact["payee"], fact["day"]] = fact
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
                account = (sheet.payee, sheet.plan_id)
                self.fixed.setdefault(account, []).append(fixed_by(statement))
                self.fixed_documents.setdefault(account, []).append(_document(statement))
        self.closed_before = period.end

    def events(self) -> list[CreditEvent]:
        """Stays in won, invoices, payments, activities and scores."""
        found = []
        for deal_id, facts in self.deals.items():
            patches = [facts[at] for at in sorted(facts)]
            for number, (began, ended) in enumerate(_stays(patches)):
                found.append(self._won(deal_id, patches, number, began, ended))
        found.extend(self._issued(invoice) for invoice in self.invoices.values())
        found.extend(self._received(payment) for payment in self.payments.values())
        found.extend(_completed(activity) for activity in self.activities.values())
        found.extend(_scored(score) for score in self.scores.values())
        return found

    def _won(
        self, deal_id: str, patches: list[Step], number: int, began: str, ended: str | None
    ) -> CreditEvent:
        last = _latest(patches)
        amounts = [p["amount"] for p in patches if "amount" in p and (not ended or p["at"] < ended)]
        instant = last.get("closed_at", began)
        if instant < began or (ended is not None and instant >= ended):
            instant = began
        owner, splits, overlays = (_at(patches, n, instant) for n in _WHO)
        return CreditEvent(
            key=f"deal:{deal_id}" + (f"~{number + 1}" if number else ""),
            on=CreditOn.DEAL_WON,
            deal_id=deal_id,
            instant=parse_instant(instant),
            amount=_decimal(amounts[-1] if amounts else None),
            currency=last.get("currency"),
            owner=owner,
            splits=tuple((splits or {}).items()),
            overlays=tuple((overlays or {}).items()),
            fields={"deal": {"type": last.get("type"), "product": last.get("product")}},
            source_ids=tuple(f"{deal_id}@{patch['at']}" for patch in patches),
            cancelled_at=None if ended is None else parse_instant(ended),
            cash=tuple(_cash(p) for p in self.payments.values() if p.get("deal") == deal_id),
            managers=tuple(self.managers.items()),
        )

    def _received(self, payment: Step) -> CreditEvent:
        facts = self.deals.get(payment.get("deal", ""), {})
        patches = [facts[at] for at in sorted(facts)]
        return CreditEvent(
            key=f"payment:{payment['id']}",
            on=CreditOn.PAYMENT_RECEIVED,
            deal_id=payment.get("deal", ""),
            instant=parse_instant(payment["received_at"]),
            amount=Decimal(payment["amount"]),
            currency=payment["currency"],
            owner=_at(patches, "owner", payment["received_at"]),
            managers=tuple(self.managers.items()),
            source_ids=(f"{payment['id']}@{payment['at']}",),
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
            cash=tuple(
                _cash(p) for p in self.payments.values() if p.get("invoice") == invoice["id"]
            ),
            managers=tuple(self.managers.items()),
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
                        gates=self._gates(payee),
                        grants=self._grants(self.plans[plan_id], credits_),
                        until=self.until,
                    )
                )
            )
        return found

    def _gates(self, payee: str) -> dict[str, list[KpiFact]]:
        found: dict[str, list[KpiFact]] = {}
        for fact in self.kpis.values():
            if fact["payee"] == payee:
                value = KpiFact(
                    date.fromisoformat(fact["day"]), Decimal(fact["value"]), fact["day"]
                )
                found.setdefault(fact["kpi"], []).append(value)
        return found

    @staticmethod
    def _grants(plan: Plan, credits_: Iterable[Credit]) -> dict[str, Grant]:
        """The budgets of a plan, shared among all payees."""
        found: dict[str, Grant] = {}
        own = [c for c in credits_ if c.plan_id == plan.id and c.converted is not None]
        for component_id in {c.id for version in plan.versions for c in version.components}:
            mine = [c for c in own if c.component_id == component_id]
            found |= spend_budget(plan, component_id, mine)
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

    def contracts(self, payee: str, plan_id: str) -> list[Contract]:
        """The contracts whose cost a payee's plan spreads."""
        plan = self.plans[plan_id]
        (sheet,) = (s for s in self.sheets() if (s.payee, s.plan_id) == (payee, plan_id))
        cancelled = {
            (credit.deal_id, credit.component_id): month_of(plan.versions[0].day_of(at))
            for credit in self.credited()[0]
            if (at := credit.cancelled_at) is not None
        }
        return contracts_in(
            AccountStatements(
                plan,
                [_document(statement) for statement in sheet.statements],
                self.fixed_documents.get((payee, plan_id), []),
                cancelled,
                month_of(self.closed_before or date.min),
            )
        )

    def bookings(self) -> dict[str, Decimal]:
        """Deal → amount credited inside the 100 %."""
        sums: dict[str, Decimal] = {}
        for credit in self.credited()[0]:
            if credit.to is not CreditTo.OVERLAYS:
                sums[credit.deal_id] = sums.get(credit.deal_id, Decimal(0)) + credit.original
        return sums


def _document(statement: Statement) -> Step:
    write = statement_write(AccountKey(statement.payee, statement.plan_id), statement)
    document: Step = json.loads(write.document)
    return document


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


def _stays(patches: list[Step]) -> list[tuple[str, str | None]]:
    """(began, ended) of each stay in won; breaks of up to 24 hours are none."""
    found: list[tuple[str, str | None]] = []
    for patch in patches:
        if patch.get("status") == "won":
            ended = found[-1][1] if found else patch["at"]
            if ended is None:
                continue
            if found and parse_instant(patch["at"]) - parse_instant(ended) <= GRACE:
                found[-1] = (found[-1][0], None)
            else:
                found.append((patch["at"], None))
        elif "status" in patch and found and found[-1][1] is None:
            found[-1] = (found[-1][0], patch["at"])
    return found


def _cash(payment: Step) -> Cash:
    instant = parse_instant(payment["received_at"])
    return Cash(payment["id"], instant, Decimal(payment["amount"]), payment["currency"])


def _completed(activity: Step) -> CreditEvent:
    return CreditEvent(
        key=f"activity:{activity['id']}",
        on=CreditOn.ACTIVITY_COMPLETED,
        deal_id=activity.get("deal", ""),
        instant=parse_instant(activity["completed_at"]),
        amount=None,
        currency=None,
        owner=activity["owner"],
        fields={"activity": {"kind": activity["kind"]}},
        source_ids=(f"{activity['id']}@{activity['at']}",),
    )


def _scored(score: Step) -> CreditEvent:
    value = Decimal(score["score"].removesuffix("%")).scaleb(-2)
    return CreditEvent(
        key=f"objective:{score['objective']}:{score['payee']}",
        on=CreditOn.OBJECTIVE_SCORED,
        deal_id="",
        instant=parse_instant(score["at"]),
        amount=value,
        currency=None,
        owner=score["payee"],
        fields={"objective": {"id": score["objective"]}},
        source_ids=(f"{score['objective']}@{score['at']}",),
    )


def _percent(text: str) -> Decimal:
    return Decimal(text.removesuffix("%")).scaleb(-2)


def _days(entry: Step) -> DayRange:
    return DayRange(date.fromisoformat(entry["from"]), date.fromisoformat(entry["to"]))


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
        target_pay=_decimal(entry.get("target_pay")),
        ramp=tuple(_percent(share) for share in entry.get("ramp", [])),
        leave=tuple(_days(away) for away in entry.get("leave", [])),
    )
