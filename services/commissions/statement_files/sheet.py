"""The statement sheet: a statement's document as entries, which each kind of file lays out.

Numbers stay exact decimals. An entry is in the sheet once; a section shows the entries that it is
about, so a clawback is among the lines and among what changed since the last statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

Document = Mapping[str, Any]
Cell = str | Decimal | None

MOVED_BY_CASH = frozenset({"hold", "release", "gate"})
"""Lines that put pay on hold or take it out again."""

AFTER_THE_FACT = frozenset({"clawback", "release", "adjustment", "override"})
"""Lines that correct or complete what an earlier statement, or the plan by itself, had said."""

_TOTALS = (
    ("own", "Earned in the period"),
    ("difference", "Carried over from closed periods"),
    ("carry_in", "Still open from before"),
    ("taken", "Taken from the period's pay"),
    ("carry_out", "Left to be recovered later"),
    ("held_pay", "On hold, less what was released"),
    ("payable", "Payable"),
)
_DRAW = (
    ("amount", "Draw of the period"),
    ("balance_in", "To be recovered before the period"),
    ("advance", "Advanced"),
    ("recovered", "Recovered"),
    ("balance_out", "To be recovered after the period"),
)
ONE_SEAT = (
    "Submitted and approved by the same person: this is a deployment of one person (one seat)."
)
RECALCULATING = "Changes are being worked in; figures may still move."


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. attainment: in percent. fixed, recomputed: a closed line as it was and would be."""

    section: str
    name: str = ""
    component: str | None = None
    kind: str | None = None
    deal: str | None = None
    period: str | None = None
    day: str | None = None
    quota: Decimal | None = None
    credited: Decimal | None = None
    attainment: Decimal | None = None
    fixed: Decimal | None = None
    recomputed: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    why: str | None = None
    plan_version: str | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A statement to be laid out. dated: the day after its period, by which files are dated."""

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    entries: Sequence[Entry]
    dated: date

    @property
    def line_count(self) -> int:
        """How many lines the statement has."""
        return sum(1 for entry in self.entries if entry.section == "line")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file: which entries it shows, and (field, heading) of its columns."""

    title: str
    columns: Sequence[tuple[str, str]]
    shows: Callable[[Entry], bool]

    def rows(self, sheet: Sheet) -> list[tuple[Cell, ...]]:
        """Its entries' cells."""
        names = [name for name, _ in self.columns]
        return [
            tuple(getattr(entry, name) for name in names)
            for entry in sheet.entries
            if self.shows(entry)
        ]


def _in(*sections: str) -> Callable[[Entry], bool]:
    return lambda entry: entry.section in sections


def _on_hold(entry: Entry) -> bool:
    return entry.section == "waiting" or (entry.section == "line" and entry.kind in MOVED_BY_CASH)


def _since_last(entry: Entry) -> bool:
    after = entry.section == "line" and entry.kind in AFTER_THE_FACT
    return after or entry.section in {"correction", "landed"}


_MONEY = (("amount", "Amount"), ("currency", "Currency"))
SECTIONS = (
    Section("Totals", (("name", ""), *_MONEY, ("why", "")), _in("total")),
    Section(
        "Attainment",
        (
            ("component", "Component"),
            ("period", "Measure period"),
            ("quota", "Quota"),
            ("credited", "Credited"),
            ("attainment", "Attainment %"),
        ),
        _in("attainment"),
    ),
    Section(
        "Lines",
        (
            ("component", "Component"),
            ("kind", "Kind"),
            ("deal", "Deal"),
            ("day", "Day"),
            ("credited", "Credited"),
            *_MONEY,
        ),
        _in("line"),
    ),
    Section(
        "Holds and releases",
        (("component", "Component"), ("kind", "Kind"), ("deal", "Deal"), *_MONEY, ("why", "Why")),
        _on_hold,
    ),
    Section("Draw", (("name", ""), *_MONEY), _in("draw")),
    Section(
        "Since the last statement",
        (
            ("period", "Period"),
            ("name", "What"),
            ("fixed", "Was fixed"),
            ("recomputed", "Now comes to"),
            *_MONEY,
            ("why", "Why"),
        ),
        _since_last,
    ),
    Section(
        "Open matters",
        (("kind", "Kind"), ("component", "Component"), ("deal", "Deal"), ("day", "Day"),
         ("why", "What to do")),
        _in("exception"),
    ),
)  # fmt: skip


def sheet_of(document: Document) -> Sheet:
    """The sheet of a statement's document, as the JSON answer has it."""
    return Sheet(
        title=f"Statement {document['period']}",
        facts=list(_facts(document)),
        notes=list(_notes(document)),
        entries=list(_entries(document)),
        dated=date.fromisoformat(document["end"]),
    )


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    yield "Payee", document["payee"]
    yield "Plan", document["plan"]
    last_day = date.fromordinal(date.fromisoformat(document["end"]).toordinal() - 1)
    yield "Period", f"{document['period']}, {document['start']} to {last_day.isoformat()}"
    state = document.get("state", "open")
    closed_with = document.get("closed_with")
    yield "State", f"closed with {closed_with}" if closed_with else state
    if "as_shown" in document:
        yield "As shown on", document["as_shown"]["as_of"]
    if document["hash"] is not None:
        yield "Hash", document["hash"]


def _notes(document: Document) -> Iterator[str]:
    if document.get("one_seat"):
        yield ONE_SEAT
    if document.get("recalculating"):
        yield RECALCULATING
    if "as_shown" in document:
        yield document["as_shown"]["said"]


def _entries(document: Document) -> Iterator[Entry]:
    currency = document["currency"]
    for name, said in _TOTALS:
        yield Entry("total", said, amount=_number(document[name]), currency=currency)
    payout = document["payout"]
    rate = payout["rate"]
    yield Entry(
        "total",
        "Paid out",
        amount=_number(payout["amount"]),
        currency=payout["currency"],
        why=None if rate is None else f"at {rate} {payout['currency']} for 1 {currency}",
    )
    for reached in document.get("attainment", ()):
        yield Entry(
            "attainment",
            component=reached["component"],
            period=reached["measure"],
            quota=_number(reached["quota"]),
            credited=_number(reached["credited"]),
            attainment=Decimal(reached["attainment"]) * 100,
        )
    for line in document["lines"]:
        yield _line(line, document)
    for name, said in _DRAW if document["draw"] is not None else ():
        yield Entry("draw", said, amount=_number(document["draw"][name]), currency=currency)
    yield from _corrections(document)
    yield from _open_matters(document)


def _line(line: Document, document: Document) -> Entry:
    return Entry(
        "line",
        line["key"],
        line["component"],
        line["kind"],
        line["deal"],
        document["period"],
        line["day"],
        credited=_number(line["credited"]),
        amount=_number(line["amount"]),
        currency=document["currency"],
        why=line.get("why"),
        plan_version=line["plan_version"],
    )


def _corrections(document: Document) -> Iterator[Entry]:
    """What closed periods would be today, and what earlier statements took over of it."""
    currency = document["currency"]
    for entry in document["corrects"]:
        fixed, recomputed = Decimal(entry["fixed"]), Decimal(entry["recomputed"])
        yield Entry(
            "correction",
            entry["line"],
            period=entry["period"],
            fixed=fixed,
            recomputed=recomputed,
            amount=recomputed - fixed,
            currency=currency,
            why=_why(fixed, recomputed),
        )
    landed = _number(document["landed_before"])
    if landed:
        said = "already on earlier statements"
        yield Entry("landed", said, amount=-landed, currency=currency)


def _why(fixed: Decimal, recomputed: Decimal) -> str:
    if not fixed:
        return "was not on the closed statement"
    if not recomputed:
        return "is earned no longer by what is known now"
    return "is another amount by what is known now"


def _open_matters(document: Document) -> Iterator[Entry]:
    for waiting in document["held"]:
        yield Entry(
            "waiting",
            "credit that cannot be rated yet",
            kind="waiting",
            deal=waiting["deal"],
            amount=_number(waiting["amount"]),
            currency=waiting["currency"],
            why="credited amount, in no total until it can be rated",
        )
    for matter in document["exceptions"]:
        yield Entry(
            "exception",
            component=matter["component"],
            kind=matter["kind"],
            deal=matter["deal"],
            day=matter["day"],
            why=matter["message"],
        )


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
