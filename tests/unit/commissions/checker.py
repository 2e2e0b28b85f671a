"""Recomputes amounts from an explanation tree alone; imports nothing of the engine.

Every rule here is written down in docs/domain/explanation.md.
"""

from __future__ import annotations

import hashlib
import json
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

Tree = dict[str, Any]
_MODES = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}
_DECIMALS = {"JPY": 0, "USD": 2, "CHF": 2, "EUR": 2, "GBP": 2, "KWD": 3}
_STEP = Decimal("1e-10")
ZERO = Decimal(0)


def check_statement(tree: Tree) -> None:
    """Raise AssertionError unless every amount of the tree follows from what it stands on."""
    _check_digest(tree)
    for line in tree["lines"]:
        check_line(line)
    own = sum((Decimal(line["amount"]) for line in tree["lines"]), ZERO)
    assert own == Decimal(tree["own"])
    held = sum((_to_held(line) for line in tree["lines"]), ZERO)
    assert held == Decimal(tree["held_pay"])
    difference = tree["difference"]
    corrected = ZERO
    for entry in difference["corrects"]:
        assert Decimal(entry["recomputed"]) - Decimal(entry["fixed"]) == Decimal(entry["amount"])
        corrected += Decimal(entry["amount"])
    landed = Decimal(difference["landed_before"])
    assert corrected - landed == Decimal(difference["amount"])
    left = own + Decimal(difference["amount"]) + Decimal(tree["carry_in"])
    advanced = _check_draw(tree) if tree["draw"] else ZERO
    assert left == Decimal(tree["payable"]) + Decimal(tree["carry_out"]) - advanced
    _check_payout(tree)


def _check_digest(tree: Tree) -> None:
    rest = {name: value for name, value in tree.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == tree["digest"]


def _check_draw(tree: Tree) -> Decimal:
    """What the balance of a recoverable draw grows by."""
    draw = tree["draw"]
    amount = _check_prorated(draw["draw"], tree["lines"], draw["draw"]["rounded"])
    earned, owed = Decimal(draw["earned"]), Decimal(draw["owed"])
    assert earned == Decimal(tree["own"])
    assert owed == Decimal(tree["difference"]["amount"]) + Decimal(tree["carry_in"])
    balance = Decimal(draw["balance_in"]) - owed
    advance = max(ZERO, amount - earned)
    recovered = min(balance, max(ZERO, earned - amount))
    assert (advance, recovered) == (Decimal(draw["advance"]), Decimal(draw["recovered"]))
    assert balance + advance - recovered == Decimal(draw["balance_out"])
    return Decimal(draw["balance_out"]) - Decimal(draw["balance_in"])


def _check_payout(tree: Tree) -> None:
    payout = tree["payout"]
    if payout["rate"] is not None:
        raw = Decimal(tree["payable"]) * Decimal(payout["rate"]["rate"])
        assert _rounded(raw, "half_up", _DECIMALS[payout["currency"]]) == Decimal(payout["amount"])


def check_line(tree: Tree) -> None:
    """Raise AssertionError unless the line's amount follows from its tree."""
    _check_digest(tree)
    amount = Decimal(tree["amount"])
    if tree["kind"] == "credit":
        _check_credit(tree["credit"])
        _check_conversion(tree)
        assert _earned(tree) == Decimal(tree["exact"])
        exact, rounding = Decimal(tree["exact"]), tree["rounding"]
        if rounding["at"] == "line":
            exact = _rounded(exact, rounding["mode"], rounding["decimals"])
        assert exact == amount
    else:
        assert _AMOUNTS[tree["kind"]](tree) == amount


def _to_held(tree: Tree) -> Decimal:
    if tree["kind"] in {"hold", "release"}:
        return -Decimal(tree["amount"])
    if tree["kind"] == "gate":
        return Decimal(tree["held"])
    return -Decimal(tree["forfeited"]) if tree["kind"] == "clawback" else ZERO


def _rounding_line(tree: Tree) -> Decimal:
    exact, rounding = Decimal(tree["exact"]), tree["rounding"]
    return _rounded(exact, rounding["mode"], rounding["decimals"]) - exact


def _cap_line(tree: Tree) -> Decimal:
    before, after = Decimal(tree["sum_before"]), Decimal(tree["sum_after"])
    carried, limit = Decimal(tree["carried_in"]), tree["cap"]["amount"]

    def paid(total: Decimal) -> Decimal:
        return total + carried if limit is None else min(total + carried, Decimal(limit))

    left = after + carried - paid(after) if tree["cap"]["excess"] == "carry" else ZERO
    assert left == Decimal(tree["carried_out"])
    return paid(after) - (ZERO if tree["opens"] else paid(before)) - (after - before)


def _attainment_cap_line(tree: Tree) -> Decimal:
    cap = tree["cap"]
    limit = Decimal(cap["attainment"]) * Decimal(cap["quota"])
    assert limit == Decimal(cap["measure"])

    def paid(measure: str, total: str) -> Decimal:
        reached = Decimal(tree[measure]) >= limit
        return Decimal(cap["amount"]) if reached else Decimal(tree[total])

    grown = Decimal(tree["sum_after"]) - Decimal(tree["sum_before"])
    return paid("measure_after", "sum_after") - paid("measure_before", "sum_before") - grown


def _budget_line(tree: Tree) -> Decimal:
    budget, spent, asked = (Decimal(tree[n]) for n in ("budget", "spent_before", "asked"))
    granted = min(budget, spent + asked) - min(budget, spent)
    assert granted == Decimal(tree["granted"])
    return granted - asked


def _top_up_line(tree: Tree) -> Decimal:
    stated = tree["floor" if tree["kind"] == "floor" else "draw"]
    least = _check_prorated(stated, [tree], stated["rounded"])
    return max(ZERO, least - Decimal(tree["earned"]))


def _gate_line(tree: Tree) -> Decimal:
    gate, fact, pay = tree["gate"], tree["fact"], Decimal(tree["pay"])
    assert fact is None or Decimal(fact["value"]) < Decimal(gate["at_least"])
    held = fact is None or gate["otherwise"] == "hold"
    assert Decimal(tree["held"]) == (pay if held else 0)
    return -pay


def _released_line(tree: Tree) -> Decimal:
    booked, total = Fraction(tree["at_booking"]), tree["event_amount"]
    received = Fraction(0)
    if total is not None:
        whole = Fraction(total)
        received = Fraction(tree["cash"]) / whole if whole else Fraction(1)
    share = booked + (1 - booked) * min(Fraction(1), max(Fraction(0), received))
    rounding = tree["rounding"]
    exact = _decimal(Fraction(tree["net"]) * share)
    after = _rounded(exact, rounding["mode"], rounding["decimals"])
    assert after == Decimal(tree["released_after"])
    before = tree["net"] if tree["kind"] == "hold" else tree["released_before"]
    return after - Decimal(before)


def _clawback_line(tree: Tree) -> Decimal:
    window, kept = tree["window_days"], tree["days_kept"]
    factor = Fraction(max(0, window - kept), window)
    assert factor == Fraction(tree["factor"])
    net, released = Decimal(tree["net"]), Decimal(tree["released"])
    assert net - released == Decimal(tree["forfeited"])
    base = Fraction(released)
    if tree["basis"] == "recompute":
        lost = Decimal(tree["measure"]["paid_with"]) - Decimal(tree["measure"]["paid_without"])
        base = Fraction(lost) * Fraction(tree["share"])
    rounding = tree["rounding"]
    return _rounded(_decimal(-base * factor), rounding["mode"], rounding["decimals"])


_AMOUNTS = {
    "rounding": _rounding_line,
    "deal_cap": _cap_line,
    "component_cap": _cap_line,
    "plan_cap": _cap_line,
    "attainment_cap": _attainment_cap_line,
    "budget_cap": _budget_line,
    "floor": _top_up_line,
    "draw": _top_up_line,
    "gate": _gate_line,
    "hold": _released_line,
    "release": _released_line,
    "clawback": _clawback_line,
}


def _check_prorated(tree: Tree, lines: list[Tree], rounded: str | None = None) -> Decimal:
    """A prorated amount; rounded as the lines beside it are, where it is rounded."""
    parts = (Fraction(part["stated"]) * Fraction(part["part"]) for part in tree["parts"])
    assert _decimal(sum(parts, Fraction(0))) == Decimal(tree["amount"])
    if rounded is None:
        return Decimal(tree["amount"])
    mode, decimals = "half_up", 2
    if lines:
        mode, decimals = lines[0]["rounding"]["mode"], lines[0]["rounding"]["decimals"]
    found = _rounded(Decimal(tree["amount"]), mode, decimals)
    assert found == Decimal(rounded)
    return found


def _check_credit(credit: Tree) -> None:
    basis, amount = Fraction(credit["basis"]), Fraction(credit["amount"])
    shares = {member: Fraction(share) for member, share in credit["shares"].items()}
    currency = credit["currency"]
    if credit["to"] == "overlays":
        assert _overlay(basis, Fraction(credit["share"]), currency) == amount
    elif credit["to"] == "manager":
        assert sum(shares.values()) == 1
        parts = _split(basis, shares, currency)
        for member, share in credit["overlays"].items():
            parts[member] = parts.get(member, Fraction(0)) + _overlay(
                basis, Fraction(share), currency
            )
        rolled = sum((parts[member] for member in credit["reports"]), Fraction(0))
        assert amount == (min(basis, rolled) if basis >= 0 else max(basis, rolled))
    else:
        assert sum(shares.values()) == 1
        assert amount == _split(basis, shares, currency)[credit["member"]]


def _overlay(basis: Fraction, share: Fraction, currency: str) -> Fraction:
    return Fraction(_rounded(_decimal(basis * share), "half_up", _DECIMALS[currency]))


def _split(basis: Fraction, shares: dict[str, Fraction], currency: str) -> dict[str, Fraction]:
    """Largest remainder to the minor unit, ties by member; what is finer to the first."""
    cent = Fraction(1, 10 ** _DECIMALS[currency])
    sign = -1 if basis < 0 else 1
    units = int(abs(basis) / cent)
    quotas = {member: units * share for member, share in shares.items()}
    parts = {member: int(quota) for member, quota in quotas.items()}
    order = sorted(quotas, key=lambda member: (int(quotas[member]) - quotas[member], member))
    for member in order[: units - sum(parts.values())]:
        parts[member] += 1
    found = {member: sign * part * cent for member, part in parts.items()}
    found[order[0]] += basis - sign * units * cent
    return found


def _check_conversion(tree: Tree) -> None:
    conversion = tree["conversion"]
    converted = Decimal(tree["credit"]["amount"])
    if conversion["rate"] is not None:
        assert conversion["rate"]["from"] == conversion["from"]
        assert conversion["rate"]["to"] == conversion["to"]
        converted *= Decimal(conversion["rate"]["rate"])
    assert converted == Decimal(conversion["amount"])
    if "measure" in tree:
        measure = tree["measure"]
        assert Decimal(measure["after"]) - Decimal(measure["before"]) == converted


def _earned(tree: Tree) -> Decimal:
    """What the line earns, by what it earns by."""
    if "pays" in tree:
        pays = tree["pays"]
        paid = pays["first"] is None or pays["place"] < pays["first"]
        sign = -1 if pays["gives_back"] else 1
        share = Fraction(tree["credit"]["share"])
        return _decimal(Fraction(pays["each"]) * share * sign) if paid else ZERO
    if "objective" in tree:
        objective = tree["objective"]
        assert objective["score"] == tree["conversion"]["amount"]
        pay = _check_prorated(objective["target_pay"], [])
        exact = Fraction(pay) * Fraction(objective["weight"]) * Fraction(objective["score"])
        return _decimal(exact)
    rates = tree["rates"]
    return _on_curve(tree) if rates["method"] == "curve" else _by_tiers(tree)


def _on_curve(tree: Tree) -> Decimal:
    rates, measure = tree["rates"], tree["measure"]
    pay, quota = Fraction(_check_prorated(rates["target_pay"], [])), Fraction(measure["quota"])
    points = [(Fraction(p["attainment"]) * quota, Fraction(p["pays"])) for p in rates["points"]]
    assert [at for at, _ in points] == [Fraction(p["at"]) for p in rates["points"]]

    def earned(credited: Fraction) -> Decimal:
        if credited < points[0][0]:
            return ZERO
        index = max(place for place, (at, _) in enumerate(points) if at <= credited)
        low, share = points[index]
        if index + 1 < len(points):
            high, more = points[index + 1]
            share += (more - share) * (credited - low) / (high - low)
        return _decimal(pay * share)

    sides = [earned(Fraction(measure[side])) for side in ("before", "after")]
    assert sides == [Decimal(rates["earned_before"]), Decimal(rates["earned_after"])]
    return sides[1] - sides[0]


def _by_tiers(tree: Tree) -> Decimal:
    """The slices after less the slices before, each slice checked against the table."""
    rates = tree["rates"]
    quota = tree["measure"]["quota"]
    for tier in rates["tiers"]:
        scale = Decimal(quota) if rates["over"] == "attainment" else Decimal(1)
        assert Decimal(tier["at"]) == Decimal(tier["from"]) * scale
    sums = []
    for name in ("slices_before", "slices_after"):
        total = ZERO
        for part in rates[name]:
            assert part["rate"] == rates["tiers"][part["tier"]]["rate"]
            total += Decimal(part["amount"]) * Decimal(part["rate"])
        if rates["target_pay"] is not None:
            pay = Fraction(_check_prorated(rates["target_pay"], []))
            total = _decimal(Fraction(total) * pay / Fraction(quota))
        sums.append(total)
    if not rates["threshold"] and rates["over"] != "count":
        for name, side in (("slices_before", "before"), ("slices_after", "after")):
            covered = sum((Decimal(part["amount"]) for part in rates[name]), ZERO)
            assert covered == Decimal(tree["measure"][side])
    return sums[1] - sums[0]


def _decimal(value: Fraction) -> Decimal:
    """At the stored step, half-even."""
    scaled = round(value / Fraction(_STEP))
    return Decimal(scaled) * _STEP


def _rounded(number: Decimal, mode: str, decimals: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-decimals), rounding=_MODES[mode])
