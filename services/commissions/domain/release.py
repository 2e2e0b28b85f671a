"""Two clocks: the rate is fixed at booking, the money follows the cash.

A line releases a share at booking and the rest pro rata to cash received: released so far is
rounded(line after caps and gate * share so far). What is not released yet is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from services.commissions.domain.credit import Cash, Credit, ExceptionKind
from services.commissions.domain.lines import Line, LineKind, money
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.proration import as_decimal
from services.commissions.domain.rates import ZERO
from services.commissions.domain.terms import ReleaseTerms
from services.commissions.domain.work import Work
from shared.money import EXACT, round_to_minor, to_text

_WHOLE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Released:
    """How much of a line is released once `cash` of `event_amount` was received.

    net: the line after caps and gate. before: what was released earlier; None: this is the hold
    made at booking, which takes what is not released yet.
    """

    line_key: str
    net: Decimal
    at_booking: Decimal
    event_amount: Decimal | None
    cash: Decimal
    currency: str
    decimals_of: tuple[str, str]
    before: Decimal | None = None
    cash_id: str = ""

    @property
    def share(self) -> Fraction:
        """At booking + (1 - at booking) * the part of the amount that was received."""
        booked = Fraction(self.at_booking)
        return booked + (1 - booked) * self.received

    @property
    def received(self) -> Fraction:
        """The part of the event's amount that was received, 0 to 1; of nothing, all of it."""
        if self.event_amount is None:
            return Fraction(0)
        if self.event_amount == 0:
            return _WHOLE
        return min(_WHOLE, max(Fraction(0), Fraction(self.cash) / Fraction(self.event_amount)))

    @property
    def after(self) -> Decimal:
        """Released so far."""
        currency, mode = self.decimals_of
        return round_to_minor(as_decimal(Fraction(self.net) * self.share), currency, mode)

    @property
    def amount(self) -> Decimal:
        """Of a hold: released - net. Of a release: released - released before."""
        return EXACT.subtract(self.after, self.net if self.before is None else self.before)

    @property
    def to_held(self) -> Decimal:
        """A hold puts away what a release takes out again."""
        return -self.amount

    def tree(self) -> Mapping[str, object]:
        """The line, the shares, the cash, and what is released before and after."""
        return {
            "line": self.line_key,
            "net": to_text(self.net),
            "at_booking": to_text(self.at_booking),
            "event_amount": None if self.event_amount is None else to_text(self.event_amount),
            "cash": to_text(self.cash),
            "cash_currency": self.currency,
            "cash_event": self.cash_id or None,
            "mode": self.decimals_of[1],
            "released_before": None if self.before is None else to_text(self.before),
            "released_after": to_text(self.after),
        }

    def sentence(self, amount: Decimal, currency: str) -> str:
        """What happened."""
        received = f"{money(self.cash, self.currency)} received"
        if self.before is None:
            return (
                f"{money(self.after, currency)} of {money(self.net, currency)} is released at "
                f"booking ({received}); {money(-amount, currency)} is held until cash comes."
            )
        return f"{received} so far: {money(self.after, currency)} released, now {to_text(amount)}."


def hold_and_release(work: Work) -> None:
    """Hold what is not released at booking, and release it as cash comes."""
    for component_id, lines in work.credit_lines.items():
        if not any(c.release for c in work.terms(component_id)):
            continue
        for line in lines:
            terms = work.rater.component_of(line).release
            if terms is not None and line.credit is not None:
                _follow_cash(work, line, line.credit, terms)


def released_until(
    work: Work, line: Line, credit: Credit, until: datetime
) -> tuple[Decimal, Fraction]:
    """(released, share released) of a line by an instant; all of it where nothing is held."""
    terms = work.rater.component_of(line).release
    if terms is None:
        return line.net, _WHOLE
    cash = sum((entry.amount for entry in _cash(credit) if entry.instant <= until), ZERO)
    state = _state(work, line, credit, terms, cash)
    return state.after, state.share


def _cash(credit: Credit) -> list[Cash]:
    """Cash in the event's currency up to a cancellation, in order of time."""
    cancelled = credit.cancelled_at
    return sorted(
        (
            entry
            for entry in credit.cash
            if entry.currency == credit.currency
            and (cancelled is None or entry.instant <= cancelled)
        ),
        key=lambda entry: (entry.instant, entry.id),
    )


def _state(work: Work, line: Line, credit: Credit, terms: ReleaseTerms, cash: Decimal) -> Released:
    version = work.rater.version_of(line)
    return Released(
        line_key=line.key,
        net=line.net,
        at_booking=terms.at_booking,
        event_amount=credit.event_amount,
        cash=cash,
        currency=credit.currency,
        decimals_of=(version.currency, version.rounding.mode),
    )


def _follow_cash(work: Work, line: Line, credit: Credit, terms: ReleaseTerms) -> None:
    version = work.rater.version_of(line)
    for entry in credit.cash:
        if entry.currency != credit.currency:
            msg = (
                f"{entry.id} is in {entry.currency}, the deal in {credit.currency}; "
                "state the payment in the deal's currency"
            )
            work.wait(ExceptionKind.CASH, credit, credit.day, msg)
    for day, basis in _steps(work, line, credit, terms, version):
        kind = LineKind.HOLD if basis.before is None else LineKind.RELEASE
        if basis.amount:
            suffix = f"/{basis.cash_id}" if basis.cash_id else ""
            work.put(
                Line(
                    key=f"{kind}:{line.key}{suffix}",
                    kind=kind,
                    component_id=line.component_id,
                    version_hash=line.version_hash,
                    statement=work.rater.statement_of(day, version),
                    measure=None,
                    amount=basis.amount,
                    exact=basis.amount,
                    credit=credit,
                    basis=basis,
                )
            )


def _steps(
    work: Work, line: Line, credit: Credit, terms: ReleaseTerms, version: PlanVersion
) -> Iterator[tuple[date, Released]]:
    """The hold with all cash until the booking, then one step for each cash after it."""
    received = ZERO
    later: list[Cash] = []
    for entry in _cash(credit):
        if entry.instant <= credit.instant:
            received = EXACT.add(received, entry.amount)
        else:
            later.append(entry)
    state = _state(work, line, credit, terms, received)
    yield credit.day, state
    before = state.after
    for entry in later:
        received = EXACT.add(received, entry.amount)
        state = _state(work, line, credit, terms, received)
        step = Released(
            state.line_key, state.net, state.at_booking, state.event_amount, state.cash,
            state.currency, state.decimals_of, before, entry.id,
        )  # fmt: skip
        yield version.day_of(entry.instant), step
        before = step.after
