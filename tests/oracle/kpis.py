"""KPIs of reps, teams and the organisation.

Amounts are in the organisation's currency, by its table `org` on the credit day (lost deals: the
day of the loss; open deals: the as-of day), days in the organisation's zone. For a rep, amounts
count by share (of the credit instant, the loss, or the as-of); counts, averages and cycles go to
the owner of that instant, and so do the whole amounts that are called owned. Teams and the
organisation count a deal whole, once. Its amount is every team's in which somebody has a share; in
counts and owned amounts it is the team's of its owner.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction

from tests.oracle.dates import day_of, quarter_of, rate_on
from tests.oracle.deals import DealView, person_of, shares_at, stage_meaning
from tests.simulator.history import History

ORGANISATION = "org"
ORG_TABLE = "org"


@dataclass(slots=True)
class Closed:
    """What was won and lost in one quarter by one scope (`org`, a team id, a person id).

    bookings, lost_amount: by share. sizes, cycles_ms: one figure a won deal, whole, of its owner;
    lost_sizes alike of lost ones.
    unpriced: won or lost deals without amount. quota: None where there is none.
    """

    bookings: Fraction = Fraction(0)
    lost_amount: Fraction = Fraction(0)
    won: int = 0
    lost: int = 0
    sizes: list[Fraction] = field(default_factory=list)
    lost_sizes: list[Fraction] = field(default_factory=list)
    cycles_ms: list[int] = field(default_factory=list)
    unpriced: int = 0
    quota: Fraction | None = None

    @property
    def attainment(self) -> Fraction | None:
        """K1: bookings ÷ quota."""
        return self.bookings / self.quota if self.quota else None

    @property
    def win_rate(self) -> Fraction | None:
        """K5: won ÷ (won + lost)."""
        return Fraction(self.won, self.won + self.lost) if self.won + self.lost else None

    @property
    def win_rate_by_value(self) -> Fraction | None:
        """K6: won amount ÷ (won + lost amount)."""
        total = self.bookings + self.lost_amount
        return self.bookings / total if total else None

    @property
    def win_rate_by_owned_value(self) -> Fraction | None:
        """K6 over whole amounts of the owner's deals, as K5 counts them."""
        won, lost = sum(self.sizes, Fraction(0)), sum(self.lost_sizes, Fraction(0))
        return won / (won + lost) if won + lost else None

    @property
    def average_size(self) -> Fraction | None:
        """K12: won amount ÷ won count."""
        return sum(self.sizes, Fraction(0)) / len(self.sizes) if self.sizes else None

    @property
    def median_size(self) -> Fraction | None:
        """K12, the median."""
        return _median(self.sizes)

    @property
    def mean_cycle_ms(self) -> Fraction | None:
        """K13: from creation to the credit instant, won deals only."""
        return Fraction(sum(self.cycles_ms), len(self.cycles_ms)) if self.cycles_ms else None

    @property
    def median_cycle_ms(self) -> Fraction | None:
        """K13, the median."""
        return _median([Fraction(cycle) for cycle in self.cycles_ms])


@dataclass(slots=True)
class Pipeline:
    """Open deals of one scope. count: deals owned. unpriced: those without amount.

    amount, weighted: by share. owned, owned_weighted: whole, of the owner's deals.
    """

    count: int = 0
    unpriced: int = 0
    owned: Fraction = Fraction(0)
    owned_weighted: Fraction = Fraction(0)
    amount: Fraction = Fraction(0)
    weighted: Fraction = Fraction(0)


def closed_deals(history: History, deals: list[DealView]) -> dict[tuple[str, str], Closed]:
    """(scope, quarter) → what was won and lost in it. Every quota has its entry."""
    result: dict[tuple[str, str], Closed] = defaultdict(Closed)
    for quota in history.quotas:
        entry = result[quota.person or quota.team or ORGANISATION, quota.period]
        entry.quota = Fraction(quota.amount)
    for deal in deals:
        if not deal.gone and deal.status in {"won", "lost"}:
            _close(result, history, deal)
    return dict(result)


def _close(result: dict[tuple[str, str], Closed], history: History, deal: DealView) -> None:
    won = deal.status == "won"
    at_ms = deal.since_ms if deal.credit_ms is None else deal.credit_ms
    day = day_of(at_ms, history.calendar.time_zone)
    quarter = quarter_of(day)
    stated = deal.latest("amount") if won else _before_loss(deal, at_ms)
    amount = _in_org_currency(history, stated, deal.latest("currency"), day)
    shares = shares_at(deal, history, at_ms)
    owner = person_of(history, deal.in_force("owner", at_ms))
    for person, share in shares.items():
        entry = result[person, quarter]
        if won:
            entry.bookings += amount * share
        else:
            entry.lost_amount += amount * share
    cycle_ms = at_ms - deal.created_ms
    for scope in (owner, ORGANISATION, *_teams_of(history, {owner})):
        entry = result[scope, quarter]
        entry.unpriced += stated is None
        entry.won += won
        entry.lost += not won
        if won:
            entry.sizes.append(amount)
            entry.cycles_ms.append(cycle_ms)
        else:
            entry.lost_sizes.append(amount)
    for scope in (ORGANISATION, *_teams_of(history, set(shares))):
        entry = result[scope, quarter]
        if won:
            entry.bookings += amount
        else:
            entry.lost_amount += amount


def _before_loss(deal: DealView, lost_ms: int) -> str | None:
    """The last amount before the loss: people set it to zero afterwards, or in the same save."""
    before: str | None = deal.at("amount", lost_ms - 1)
    if before is not None:
        return before
    at_loss: str | None = deal.at("amount", lost_ms)
    return at_loss


def pipeline(
    history: History,
    deals: list[DealView],
    as_of_ms: int,
    *,
    start: date | None = None,
    end: date | None = None,
) -> dict[str, Pipeline]:
    """K9 and K10 by scope: open deals as of the instant, with close date in [start, end)."""
    result: dict[str, Pipeline] = defaultdict(Pipeline)
    day = day_of(as_of_ms, history.calendar.time_zone)
    for deal in deals:
        if deal.gone or deal.status != "open":
            continue
        closes = date.fromisoformat(deal.latest("close_date"))
        if (start is not None and closes < start) or (end is not None and closes >= end):
            continue
        stated = deal.latest("amount")
        amount = _in_org_currency(history, stated, deal.latest("currency"), day)
        meaning = stage_meaning(history, deal.latest("stage"), as_of_ms)
        probability = Fraction(meaning.probability) if meaning else Fraction(0)
        shares = shares_at(deal, history, as_of_ms)
        owner = person_of(history, deal.latest("owner"))
        wholes = [ORGANISATION, *_teams_of(history, set(shares))]
        for scope, share in [*shares.items(), *((whole, Fraction(1)) for whole in wholes)]:
            result[scope].amount += amount * share
            result[scope].weighted += amount * share * probability
        for scope in (owner, ORGANISATION, *_teams_of(history, {owner})):
            result[scope].owned += amount
            result[scope].owned_weighted += amount * probability
            result[scope].count += 1
            result[scope].unpriced += stated is None
    return dict(result)


def activities(history: History, as_of_ms: int) -> dict[tuple[str, str, date], int]:
    """K24: (scope, kind, day) → distinct activities completed by the instant.

    A meeting of three reps is one for each and one for their team. Internal, cancelled and deleted
    ones do not count; a planned one that nobody reported as held is not completed.
    """
    people = {person.id for person in history.people}
    counts: dict[tuple[str, str, date], int] = defaultdict(int)
    for activity in history.activities:
        known: dict[str, object] = {}
        for said in activity.said:
            if said.at_ms <= as_of_ms:
                known |= said.fields
        completed = known.get("completed_at")
        if not isinstance(completed, int) or completed > as_of_ms:
            continue
        if known.get("internal") or known.get("cancelled") or known.get("deleted"):
            continue
        participants = known.get("participants") or {}
        present = {person_of(history, str(known["owner"]))}
        if isinstance(participants, dict):
            present |= {who for who, there in participants.items() if there and who in people}
        day = day_of(completed, history.calendar.time_zone)
        for scope in (*present, *_teams_of(history, present), ORGANISATION):
            counts[scope, str(known["kind"]), day] += 1
    return dict(counts)


def _teams_of(history: History, persons: set[str]) -> list[str]:
    return sorted({p.team for p in history.people if p.id in persons and p.team is not None})


def _in_org_currency(history: History, amount: str | None, currency: str, day: date) -> Fraction:
    """Zero where no amount is stated; such deals are counted as unpriced."""
    if amount is None:
        return Fraction(0)
    target = history.calendar.currency
    return Fraction(amount) * rate_on(history.rates, ORG_TABLE, currency, target, day)


def _median(values: list[Fraction]) -> Fraction | None:
    if not values:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2
