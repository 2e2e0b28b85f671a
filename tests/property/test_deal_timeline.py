"""Deal timelines against a naive reading of the same statements, in any order, with repetitions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.metrics.domain.contributions import project
from shared.clock import from_epoch_ms
from shared.facts.deal import DealTimeline, project_deal, resolve_redirects
from shared.facts.fact import Fact
from shared.facts.reference import Identities
from shared.money import exact_sum, parse_decimal
from tests.support.facts import STAGES, fact, folded, ms, org, stage_maps

HOUR_MS = 3_600_000
STEPS = 10
DAY_MS = 24 * HOUR_MS
MAPS = stage_maps()
PEOPLE = Identities(["ana", "ben", "cleo"])
COMPANY = org({"ana": {}, "ben": {}, "cleo": {}})

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "stage": st.sampled_from([*STAGES, "won", "won", None]),
    "owner": st.sampled_from(["ana", "ben", None]),
    "amount": st.sampled_from(["100", "100.00", "0", "-7.01", "64.01", None]),
    "currency": st.sampled_from(["EUR", "USD"]),
    "close_date": st.sampled_from(["2026-02-01", "2026-03-01", None]),
    "pipeline": st.sampled_from(["default", "default", "other", None]),
    "closed_at": st.integers(0, 8).map(lambda n: _text(n * 9 * HOUR_MS)),
    "splits": st.one_of(
        st.sampled_from(
            [
                {"ana": "1/3", "ben": "1/3", "cleo": "1/3"},
                {"ana": "50%", "cleo": "50%", "ben": None},
                {"ana": "1", "ben": "2"},
            ]
        ),
        st.dictionaries(
            st.sampled_from(["ana", "ben", "cleo"]),
            st.sampled_from(["50%", "1/3", "1", "2", None]),
            max_size=3,
        ),
    ),
    "deleted": st.sampled_from([False, False, True]),
}


def _text(offset_ms: int) -> str:
    return f"{from_epoch_ms(ms(0) + offset_ms):%Y-%m-%dT%H:%M:%S}.000Z"


@st.composite
def said(draw: st.DrawFn, *, with_status: bool) -> Fact:
    """One statement, at one of few instants, so that equal ones and grace borders occur."""
    moves = "status" if with_status else "stage"
    names = [*VALUES, *[moves] * 4]
    chosen = set(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)))
    status = st.sampled_from(["open", "won", "won", "lost"])
    fields = {name: draw(VALUES.get(name, status)) for name in sorted(chosen)}
    if "splits" in fields and draw(st.booleans()):
        fields["complete"] = ["splits"]
    instant = from_epoch_ms(ms(0) + draw(st.integers(0, STEPS - 1)) * 12 * HOUR_MS)
    return fact("deal", "crm:t:1", instant, fields, draw(st.integers(0, 2)))


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Statements of one deal, often opened with a price and splits and often won in the end."""
    with_status = draw(st.booleans())
    won = {"status": "won"} if with_status else {"stage": "won"}
    facts = draw(st.lists(said(with_status=with_status), min_size=1, max_size=12))
    if draw(st.booleans()):
        splits = draw(VALUES["splits"])
        opened = {"owner": "ana", "currency": "EUR", "amount": "64.01", "splits": splits}
        facts.append(fact("deal", "crm:t:1", from_epoch_ms(ms(0)), opened))
    if draw(st.booleans()):
        last = from_epoch_ms(ms(0) + (STEPS - 1) * 12 * HOUR_MS)
        facts.append(fact("deal", "crm:t:1", last, won, 9))
    return facts


HISTORIES = histories()


def timeline(facts: list[Fact]) -> DealTimeline:
    return project_deal("crm:t:1", folded(facts), MAPS, PEOPLE)


def _winning(facts: list[Fact], field: str, until_ms: int) -> Any:  # noqa: ANN401 - a JSON value
    """The value of the greatest statement about a field by then, or None. Null ranks lowest."""
    best: tuple[str, int, str] | None = None
    value = None
    for one in facts:
        if field in one.fields and int(one.sequence[:15]) <= until_ms:
            stated = one.fields[field]
            rank = (one.sequence, one.revision, "" if stated is None else f'"{stated}"')
            if best is None or rank > best:
                best, value = rank, stated
    return value


def _status(facts: list[Fact], at_ms: int) -> str:
    latest = 10**15 - 1
    instants = {int(f.sequence[:15]) for f in facts if "status" in f.fields}
    if any(_winning(facts, "status", i) is not None for i in [*instants, latest]):
        return _winning(facts, "status", at_ms) or "open"
    stage = _winning(facts, "stage", at_ms)
    pipeline = _winning(facts, "pipeline", at_ms) or "default"
    if stage is None or pipeline != "default":
        return "open"
    return str(STAGES[stage].get("status", "open"))


@given(HISTORIES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_order_and_repetition_gives_the_same_timeline(facts: list[Fact], random: Any) -> None:  # noqa: ANN401
    again = [*facts, *random.sample(facts, len(facts) // 2)]
    random.shuffle(again)
    assert timeline(again) == timeline(facts)


@given(HISTORIES)
@settings(max_examples=200, deadline=None)
def test_every_span_says_what_the_last_statements_by_then_say(facts: list[Fact]) -> None:
    deal = timeline(facts)
    for place, span in enumerate(deal.spans):
        following = deal.spans[place + 1] if place + 1 < len(deal.spans) else None
        assert span.end_ms == (None if following is None else following.start_ms)
        assert span.end_ms is None or span.end_ms > span.start_ms
        amount = _winning(facts, "amount", span.start_ms)
        assert span.amount == (None if amount is None else parse_decimal(amount))
        assert span.stage == _winning(facts, "stage", span.start_ms)
        assert span.owner == _winning(facts, "owner", span.start_ms)
        assert span.status == _status(facts, span.start_ms)
    tracked = {"stage", "status", "owner", "amount", "close_date", "pipeline"}
    stated = {int(f.sequence[:15]) for f in facts if tracked & set(f.fields)}
    for at_ms in stated:
        span = next(s for s in reversed(deal.spans) if s.start_ms <= at_ms)
        assert span.status == _status(facts, at_ms)
        assert span.stage == _winning(facts, "stage", at_ms)


@given(HISTORIES)
@settings(max_examples=200, deadline=None)
def test_stays_and_credit_follow_the_rule(facts: list[Fact]) -> None:
    """Half a day at a time: in won, or back in won within 24 hours."""
    deal = timeline(facts)
    step = 12 * HOUR_MS
    steps = [_status(facts, ms(0) + n * step) == "won" for n in range(STEPS)]
    began = None
    gap = 0
    for n, won in enumerate(steps):
        if won:
            began = n if began is None or gap * step > DAY_MS else began
            gap = 0
        else:
            gap += 1
    assert (deal.won is not None) is steps[-1]
    if deal.won is None or began is None:
        return
    assert deal.won.stay_began_ms == ms(0) + began * step
    closed_at = _winning(facts, "closed_at", 10**15 - 1)
    closed_ms = deal.closed_ms
    assert (closed_at is None) == (closed_ms is None)
    inside = closed_ms is not None and closed_ms >= deal.won.stay_began_ms
    assert deal.won.instant_ms == (closed_ms if inside else deal.won.stay_began_ms)
    owner = _winning(facts, "owner", deal.won.instant_ms)
    if owner is not None:
        assert deal.won.owner == owner


@given(HISTORIES)
@settings(max_examples=200, deadline=None)
def test_splits_are_the_members_in_force_at_the_credit(facts: list[Fact]) -> None:
    deal = timeline(facts)
    if deal.won is None:
        return
    record = folded(facts)
    stated = [f.sequence for f in facts if any(n.startswith("splits:") for n in f.fields)]
    until_ms = max(deal.won.instant_ms, min((int(s[:15]) for s in stated), default=0))
    members = record.members("splits", until=f"{until_ms:015d}" + "9" * 20)
    assert set(deal.won.splits) == {m for m, share in members.items() if share != "0"}
    if members and all(share.isdigit() for share in members.values()):
        assert sum(deal.won.splits.values(), Fraction(0)) == 1


@given(HISTORIES)
@settings(max_examples=200, deadline=None)
def test_bookings_by_share_sum_to_the_whole(facts: list[Fact]) -> None:
    made = project(timeline(facts), COMPANY.calendar, COMPANY.identities)
    booked = exact_sum(c.amount for c in made.cells if c.key.measure == "booked")
    whole = exact_sum(c.amount for c in made.cells if c.key.measure == "booked_whole")
    assert booked == whole
    assert len({c.key for c in made.cells}) == len(made.cells)
    if whole:
        deal = timeline(facts)
        assert whole == deal.amount
        assert deal.won is not None
        assert deal.counts


IDS = st.sampled_from(list("abcdefg"))


@given(st.dictionaries(IDS, st.tuples(IDS, st.integers(0, 3).map(str))))
@settings(max_examples=300, deadline=None)
def test_redirects_leave_one_survivor_in_every_connected_group(
    edges: dict[str, tuple[str, str]],
) -> None:
    survivors = resolve_redirects(edges)
    assert resolve_redirects(dict(reversed(edges.items()))) == survivors
    for merged, survivor in survivors.items():
        assert survivor not in survivors
        target = edges[merged][0]
        assert survivors.get(target, target) == survivor
    for start in set(edges) - set(survivors):
        cycle = [start]
        while (target := edges[cycle[-1]][0]) != start:
            cycle.append(target)
        oldest = min(cycle, key=lambda member: (edges[member][1], member))
        assert oldest == start


def test_the_histories_reach_what_they_are_for() -> None:
    """The generator's coverage: stays joined over the grace, credits with splits, late owners."""
    seen = {"joined": 0, "split": 0, "closed_at": 0, "two stays": 0, "booked by three": 0}

    @given(HISTORIES)
    @settings(max_examples=400, deadline=None, database=None)
    def collect(facts: list[Fact]) -> None:
        deal = timeline(facts)
        spans = [s for s in deal.spans if s.status == "won"]
        seen["joined"] += bool(deal.stays) and len(spans) > len(deal.stays)
        seen["two stays"] += len(deal.stays) > 1
        if deal.won is not None:
            seen["split"] += bool(deal.won.splits)
            seen["closed_at"] += deal.won.instant > deal.won.stay_began
            booked = deal.won.amount and deal.won.currency and deal.won.splits_add_up
            seen["booked by three"] += bool(booked) and len(deal.won.splits) == 3

    collect()
    assert all(seen.values()), seen
