"""Recomputes amounts from an explanation tree alone; imports nothing of the engine."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

Tree = dict[str, Any]
_MODES = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}
_DECIMALS = {"JPY": 0, "USD": 2, "CHF": 2, "EUR": 2, "GBP": 2, "KWD": 3}


def check_statement(tree: Tree) -> None:
    """Raise AssertionError unless every amount of the tree follows from what it stands on."""
    for line in tree["lines"]:
        check_line(line)
    own = sum((Decimal(line["amount"]) for line in tree["lines"]), Decimal(0))
    assert own == Decimal(tree["own"])
    difference = tree["difference"]
    corrected = Decimal(0)
    for entry in difference["corrects"]:
        assert Decimal(entry["recomputed"]) - Decimal(entry["fixed"]) == Decimal(entry["amount"])
        corrected += Decimal(entry["amount"])
    landed = Decimal(difference["landed_before"])
    assert corrected - landed == Decimal(difference["amount"])
    left = own + Decimal(difference["amount"]) + Decimal(tree["carry_in"])
    assert left == Decimal(tree["payable"]) + Decimal(tree["carry_out"])
    payout = tree["payout"]
    if payout["rate"] is not None:
        raw = Decimal(tree["payable"]) * Decimal(payout["rate"]["rate"])
        assert _rounded(raw, "half_up", _DECIMALS[payout["currency"]]) == Decimal(payout["amount"])


def check_line(tree: Tree) -> None:
    """Raise AssertionError unless the line's amount follows from its tree."""
    amount = Decimal(tree["amount"])
    if tree["kind"] == "credit":
        _check_credit(tree["credit"])
        _check_conversion(tree)
        assert _earned(tree) == Decimal(tree["exact"])
        exact, rounding = Decimal(tree["exact"]), tree["rounding"]
        if rounding["at"] == "line":
            exact = _rounded(exact, rounding["mode"], rounding["decimals"])
        assert exact == amount
    elif tree["kind"] == "rounding":
        exact, rounding = Decimal(tree["exact"]), tree["rounding"]
        assert _rounded(exact, rounding["mode"], rounding["decimals"]) - exact == amount
    else:
        before, after = Decimal(tree["sum_before"]), Decimal(tree["sum_after"])
        cap = Decimal(tree["cap"]["amount"])
        assert (min(after, cap) - min(before, cap)) - (after - before) == amount


def _check_credit(credit: Tree) -> None:
    basis, amount = Fraction(credit["basis"]), Fraction(credit["amount"])
    shares = {member: Fraction(share) for member, share in credit["shares"].items()}
    if credit["to"] == "overlays":
        assert abs(basis * Fraction(credit["share"]) - amount) <= Fraction(1, 200)
        return
    assert sum(shares.values()) == 1
    cent = Fraction(1, 10 ** _DECIMALS[credit["currency"]])
    sign = -1 if basis < 0 else 1
    units = int(abs(basis) / cent)
    quotas = {member: units * share for member, share in shares.items()}
    parts = {member: int(quota) for member, quota in quotas.items()}
    order = sorted(quotas, key=lambda member: (int(quotas[member]) - quotas[member], member))
    for member in order[: units - sum(parts.values())]:
        parts[member] += 1
    mine = sign * parts[credit["member"]] * cent
    rest = basis - sign * units * cent
    assert amount == mine + (rest if order[0] == credit["member"] else 0)


def _check_conversion(tree: Tree) -> None:
    conversion, measure = tree["conversion"], tree["measure"]
    converted = Decimal(tree["credit"]["amount"])
    if conversion["rate"] is not None:
        assert conversion["rate"]["from"] == conversion["from"]
        assert conversion["rate"]["to"] == conversion["to"]
        converted *= Decimal(conversion["rate"]["rate"])
    assert converted == Decimal(conversion["amount"])
    assert Decimal(measure["after"]) - Decimal(measure["before"]) == converted


def _earned(tree: Tree) -> Decimal:
    """The slices after less the slices before, each slice checked against the table."""
    rates = tree["rates"]
    quota = tree["measure"]["quota"]
    for tier in rates["tiers"]:
        scale = Decimal(quota) if rates["over"] == "attainment" else Decimal(1)
        assert Decimal(tier["at"]) == Decimal(tier["from"]) * scale
    sums = []
    for name in ("slices_before", "slices_after"):
        total = Decimal(0)
        for part in rates[name]:
            assert part["rate"] == rates["tiers"][part["tier"]]["rate"]
            total += Decimal(part["amount"]) * Decimal(part["rate"])
        sums.append(total)
    if not rates["threshold"] and rates["over"] != "count":
        for name, side in (("slices_before", "before"), ("slices_after", "after")):
            covered = sum((Decimal(part["amount"]) for part in rates[name]), Decimal(0))
            assert covered == Decimal(tree["measure"][side])
    return sums[1] - sums[0]


def _rounded(number: Decimal, mode: str, decimals: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-decimals), rounding=_MODES[mode])
