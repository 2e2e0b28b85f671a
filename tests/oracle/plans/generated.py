"""Plans and histories to compare two readings over.

Every feature occurs, in combinations that have one meaning only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tests.oracle.plans.case import (
    Adjusted,
    Agreed,
    Assigned,
    Case,
    Cash,
    Deal,
    KpiFact,
    RateRow,
    Score,
)

PAYEES = ("ana", "ben", "cem", "dia")
MANAGER = "mia"
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
UNTIL = date(2025, 7, 1)
ZONES = ("UTC", "America/New_York", "Asia/Tokyo")

Draw = Callable[[st.SearchStrategy[Any]], Any]
Part = dict[str, Any]

cents = st.integers(1, 20_000_000).map(lambda n: f"{n / 100:.2f}")
percents = st.integers(0, 2_000).map(lambda n: f"{n / 100:.2f}%")
instants = st.integers(0, 181 * 24 * 60 - 1).map(lambda m: BEGIN + timedelta(minutes=m))


@st.composite
def cases(draw: Draw) -> Case:
    """A plan of one to three components, perhaps in two versions, and a half-year's history."""
    period = draw(st.sampled_from(["month", "quarter"]))
    components = [
        draw(component(name, period))
        for name in draw(st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]))
    ]
    plan: Part = {
        "id": "plan",
        "name": "Plan",
        "currency": "USD",
        "time_zone": draw(st.sampled_from(ZONES)),
        "effective": {"from": "2025-01-01"},
        "period": period,
        "components": components,
        "fx": {
            "credit": {"table": "plan", "date": "credit"},
            "payout": {"table": "spot", "date": "period_end"},
        },
        "rounding": {"mode": draw(st.sampled_from(["half_up", "half_even"])), "at": "line"},
    }
    plan |= draw(plan_limits(components))
    plans = [plan]
    if draw(st.booleans()) and not plan.keys() & {"cap", "draw"}:
        plans.append(_second_version(draw, plan))
    deals = draw(st.lists(deal(), max_size=12, unique_by=lambda d: d.id))
    names = [d.id for d in deals]
    return Case(
        plans=plans,
        assigned=[draw(assigned(payee, plans)) for payee in (*PAYEES, MANAGER)],
        until=UNTIL,
        deals=deals,
        scores=draw(scores(plans)),
        kpis=draw(kpis),
        rates=RATES,
        managers=dict.fromkeys(PAYEES[:3], MANAGER),
        adjusted=draw(adjustments("draw" in plan)),
        agreed=draw(agreements(components, names)),
    )


RATES = (
    RateRow("plan", "EUR", "USD", date(2025, 1, 1), "1.08"),
    RateRow("plan", "EUR", "USD", date(2025, 4, 1), "1.1125"),
    RateRow("spot", "USD", "GBP", date(2025, 1, 1), "0.7842"),
    RateRow("spot", "USD", "GBP", date(2025, 5, 20), "0.8"),
)


@st.composite
def component(draw: Draw, name: str, period: str) -> Part:
    """One component of any kind."""
    kind = draw(st.sampled_from(["commission", "commission", "commission", "spiff", "objective"]))
    if kind == "spiff":
        pays = {"each": draw(st.integers(1, 900)), "first": draw(st.integers(1, 4))}
        if draw(st.booleans()):
            pays["budget"] = draw(st.integers(500, 3_000))
        return {
            "id": name,
            "kind": kind,
            "credit": {"on": "deal.won", "to": "owner"},
            "pays": pays,
        }
    if kind == "objective":
        weights = draw(st.sampled_from([("100%",), ("50%", "30%", "20%")]))
        return {
            "id": name,
            "kind": kind,
            "credit": {"on": "objective.scored"},
            "objectives": [
                {"id": f"{name}{place}", "weight": weight} for place, weight in enumerate(weights)
            ],
        }
    to = draw(st.sampled_from(["owner", "splits", "overlays", "manager"]))
    made: Part = {
        "id": name,
        "kind": "override" if to == "manager" else "commission",
        "credit": {"on": "deal.won", "to": to},
    }
    if draw(st.booleans()):
        made["credit"]["when"] = draw(st.sampled_from(['deal.type == "new"', "deal.amount > 5000"]))
    made |= draw(rates(period))
    limited: Part = {**made, **draw(limits(made))}
    return limited


@st.composite
def rates(draw: Draw, period: str) -> Part:
    """A rate table of any method over any axis, with the quota it needs."""
    quota = {"quota": {"measure": "bookings", "period": draw(st.sampled_from([period, "year"]))}}
    match draw(st.sampled_from(["flat", "attainment", "amount", "count", "curve", "multiple"])):
        case "flat":
            return {"rates": {"method": "flat", "rate": draw(percents)}}
        case "attainment":
            bounds = draw(bounds_of(["40%", "80%", "100%", "130.5%"], "0%"))
            table = _tiers(draw, bounds, "attainment", percents)
            return {**quota, "rates": table, **draw(threshold)}
        case "amount":
            bounds = draw(bounds_of(["10000", "50000.50", "100000"], "0"))
            return {"rates": _tiers(draw, bounds, "amount", percents)}
        case "count":
            return {"rates": _tiers(draw, draw(bounds_of([1, 2, 5], 0)), "count", percents)}
        case "multiple":
            multiples = st.sampled_from(["0.5x", "1x", "1.5x", "2x"])
            bounds = draw(bounds_of(["50%", "100%"], "0%"))
            table = _tiers(draw, bounds, "attainment", multiples)
            return {**quota, "rates": {**table, "method": "marginal"}}
    points = [
        {"at": at, "pays": pays}
        for at, pays in zip(
            ["50%", "80%", "100%", "140%"],
            sorted(draw(st.lists(st.integers(0, 250), min_size=4, max_size=4))),
            strict=True,
        )
    ]
    laid = [{**point, "pays": f"{point['pays']}%"} for point in points]
    return {**quota, "rates": {"method": "curve", "over": "attainment", "points": laid}}


def _tiers(draw: Draw, bounds: list[Any], over: str, of: st.SearchStrategy[str]) -> Part:
    method = draw(st.sampled_from(["marginal", "retroactive"]))
    tiers = [{"from": bound, "rate": draw(of)} for bound in bounds]
    return {"method": method, "over": over, "tiers": tiers}


def bounds_of(known: list[Any], first: Any) -> st.SearchStrategy[list[Any]]:  # noqa: ANN401
    """The first bound and any of the others, rising."""
    return st.sets(st.sampled_from(range(len(known)))).map(
        lambda chosen: [first, *(known[place] for place in sorted(chosen))]
    )


threshold = st.sampled_from(
    [
        {},
        {"threshold": {"attainment": "60%", "pays": "first_dollar"}},
        {"threshold": {"attainment": "60%", "pays": "excess_only"}},
    ]
)


@st.composite
def limits(draw: Draw, made: Part) -> Part:
    """At most one of what limits, holds or takes back: several at once are for golden cases."""
    # Each deal has the rate of its place in a count, so there is no measure without it to compare.
    plain = (
        made["rates"]["method"] in {"flat", "marginal"}
        and made["rates"].get("over") != "count"
        and "threshold" not in made
    )
    choices: list[Part] = [
        {},
        {"cap": {"amount": draw(st.integers(100, 5_000)), "per": "deal", "excess": "lost"}},
        {
            "cap": {
                "amount": draw(st.integers(100, 9_000)),
                "per": "statement",
                "excess": draw(st.sampled_from(["lost", "carry"])),
            }
        },
        {"cap": {"amount": draw(st.integers(100, 9_000)), "per": "measure", "excess": "lost"}},
        {"floor": {"amount": draw(st.integers(100, 4_000)), "per": "statement"}},
        {"gate": {"kpi": "csat", "at_least": "4.2", "otherwise": draw(st.sampled_from(GATES))}},
    ]
    if "quota" in made and made["rates"]["method"] != "curve" and "threshold" not in made:
        choices.append({"cap": {"attainment": "120%"}})
    if plain and made["credit"]["to"] in {"owner", "splits"}:
        window = draw(st.sampled_from([60, 120]))
        basis = draw(st.sampled_from(["line", "recompute"]))
        # Only few tables can have these, so they are drawn more often there.
        rare: list[Part] = [
            {"clawback": {"window_days": window, "method": "linear", "basis": basis}},
            {"release": [{"at": "booking", "share": "40%"}, {"at": "payment", "share": "60%"}]},
        ]
        choices += 4 * rare
    chosen: Part = draw(st.sampled_from(choices))
    return chosen


GATES = ("hold", "zero")


def adjustments(only_above_nothing: bool) -> st.SearchStrategy[tuple[Adjusted, ...]]:  # noqa: FBT001
    """Agreed amounts, in periods in which everybody is on the plan."""
    least = 1 if only_above_nothing else -300_000
    amounts = st.integers(least, 300_000).filter(bool).map(lambda n: f"{n / 100:.2f}")
    days = st.sampled_from([date(2025, 3, 1), date(2025, 4, 1)])
    one = st.builds(Adjusted, st.sampled_from(PAYEES), days, amounts)
    return st.lists(one, max_size=2).map(tuple)


@st.composite
def agreements(draw: Draw, components: list[Part], deals: list[str]) -> tuple[Agreed, ...]:
    """Terms in place of what components pay; of the same credits one holds."""
    open_to = [part["id"] for part in components if part["kind"] != "objective"]
    found = []
    for _ in range(draw(st.integers(0, 3)) if open_to else 0):
        first = date(2025, 1, 1) + timedelta(days=draw(st.integers(0, 150)))
        last = first + timedelta(days=draw(st.integers(0, 90)))
        of_deal = draw(st.sampled_from([None, *deals]))
        by_amount = of_deal is not None and draw(st.booleans())
        found.append(
            Agreed(
                payee=draw(st.sampled_from([*PAYEES, MANAGER])),
                component=draw(st.sampled_from(open_to)),
                first=first,
                last=last,
                deal=of_deal,
                amount=draw(cents) if by_amount else None,
                rate=None if by_amount else draw(percents),
            )
        )
    return tuple({(a.payee, a.component, a.deal): a for a in found}.values())


@st.composite
def plan_limits(draw: Draw, components: list[Part]) -> Part:
    """A cap or a draw of the whole plan, where no component holds or takes back."""
    if any(c.keys() & {"gate", "release", "clawback", "floor"} for c in components):
        return {}
    chosen: Part = draw(
        st.sampled_from(
            [
                {},
                {"cap": {"amount": 6_000, "per": "statement", "excess": "lost"}},
                {"cap": {"amount": 6_000, "per": "statement", "excess": "carry"}},
                {"cap": {"amount": 20_000, "per": "year", "excess": "lost"}},
                {"draw": {"amount": 4_000, "recoverable": True, "from": "2025-01", "periods": 2}},
                {"draw": {"amount": 4_000, "recoverable": False, "from": "2025-01", "periods": 2}},
            ]
        )
    )
    return chosen


def _second_version(draw: Draw, plan: Part) -> Part:
    """Other rates from a day inside the half-year on; everything else goes on."""
    components = []
    for part in plan["components"]:
        rated = part.get("rates", {})
        if rated.get("method") == "flat":
            components.append({**part, "rates": {"method": "flat", "rate": draw(percents)}})
        elif "tiers" in rated and not str(rated["tiers"][0]["rate"]).endswith("x"):
            tiers = [{**tier, "rate": draw(percents)} for tier in rated["tiers"]]
            components.append({**part, "rates": {**rated, "tiers": tiers}})
        else:
            components.append(part)
    begins = draw(st.sampled_from(["2025-02-15", "2025-04-01", "2025-05-09"]))
    return {**plan, "effective": {"from": begins}, "components": components}


@st.composite
def deal(draw: Draw) -> Deal:
    """A deal that was won in the half-year, or just before it, perhaps cancelled, perhaps paid."""
    won_at = draw(instants)
    others = [*PAYEES, MANAGER]
    splits: dict[str, str] = {}
    if draw(st.booleans()):
        pair = draw(st.permutations(PAYEES))
        shares = draw(st.sampled_from([("1/2", "1/2"), ("1/3", "1/3", "1/3"), ("33.3%", "66.7%")]))
        splits = dict(zip(pair, shares, strict=False))
    overlays = draw(st.dictionaries(st.sampled_from(others), percents, max_size=2))
    amount = draw(cents)
    return Deal(
        id=f"d{draw(st.integers(1, 99))}",
        won_at=won_at,
        amount=amount,
        owner=draw(st.sampled_from(PAYEES)),
        currency=draw(st.sampled_from(["USD", "USD", "EUR"])),
        type=draw(st.sampled_from(["new", "expansion"])),
        splits=splits,
        overlays={who: text for who, text in overlays.items() if text != "0.00%"},
        cancelled_at=draw(st.none() | st.integers(0, 150).map(_days_after(won_at))),
        cash=draw(payments(won_at, amount)),
    )


def _days_after(at: datetime) -> Callable[[int], datetime]:
    return lambda number: at + timedelta(days=number, hours=1)


@st.composite
def payments(draw: Draw, won_at: datetime, amount: str) -> tuple[Cash, ...]:
    """None, some, or more than the amount; perhaps a refund."""
    parts = draw(st.lists(st.integers(-30, 80), max_size=3))
    # Whole cents of so many hundredths of the amount, towards nothing.
    found = [Decimal(int(Decimal(amount) * part)).scaleb(-2) for part in parts]
    return tuple(
        Cash(f"c{place}", won_at + timedelta(days=7 * place + 1), str(received))
        for place, received in enumerate(found)
        if received
    )


@st.composite
def assigned(draw: Draw, payee: str, plans: list[Part]) -> Assigned:
    """On the plan from its beginning or from the middle of a month on."""
    targets = any(
        part["kind"] == "objective"
        or part.get("rates", {}).get("method") == "curve"
        or str(part.get("rates", {}).get("tiers", [{}])[0].get("rate", "")).endswith("x")
        for plan in plans
        for part in plan["components"]
    )
    return Assigned(
        payee=payee,
        first=draw(st.sampled_from([date(2025, 1, 1), date(2025, 1, 1), date(2025, 2, 16)])),
        last=draw(st.none() | st.just(date(2025, 5, 10))),
        quota={"bookings": draw(st.integers(10_000, 300_000).map(str))},
        target_pay=draw(st.integers(1_000, 20_000).map(str)) if targets else None,
        payout_currency=draw(st.sampled_from([None, None, "GBP"])),
    )


@st.composite
def scores(draw: Draw, plans: list[Part]) -> tuple[Score, ...]:
    """Each objective is scored at most once for a payee."""
    found = []
    for part in plans[0]["components"]:
        for objective in part.get("objectives", ()):
            for payee in PAYEES[:2]:
                value = draw(st.none() | st.integers(0, 120))
                if value is not None:
                    at = draw(instants)
                    found.append(Score(payee, objective["id"], f"{value / 100}", at))
    return tuple(found)


kpis = st.lists(
    st.builds(
        KpiFact,
        payee=st.sampled_from([*PAYEES, MANAGER]),
        kpi=st.just("csat"),
        day=st.integers(0, 180).map(lambda n: date(2025, 1, 1) + timedelta(days=n)),
        value=st.sampled_from(["3.9", "4.1", "4.2", "4.8"]),
    ),
    max_size=8,
    unique_by=lambda fact: (fact.payee, fact.day),
).map(tuple)
