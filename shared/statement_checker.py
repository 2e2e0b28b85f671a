"""Check a statement: recompute every amount of it from its file alone.

    python statement_checker.py statement.json ...

This one file stands alone: Python 3.11 and its standard library, nothing else of Attain, so that
whoever is paid can check it on a machine of their own. The file to check is a statement's proof
(`GET /v1/statements/{payee}/{plan}/{period}/proof`) or its explanation. Every rule here is written
down in docs/domain/explanation.md, and is read here from that page, not from the engine.

Exit code 0: every number follows. 1: something does not, and it is said what and where. 2: the file
cannot be read, or holds a kind of line that this checker does not know.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

Tree = dict[str, Any]
Terms = Callable[[Fraction, int], Fraction]

FORMAT = "attain.statement-proof.v1"
ALL_FOLLOWS, REFUSED, UNREADABLE = 0, 1, 2
ZERO, WHOLE = Fraction(0), Fraction(1)
STEP_DECIMALS = 10
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_FRACTION = re.compile(r"-?[0-9]+(/[0-9]+)?", re.ASCII)
_NO_DECIMALS = {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND",
                "VUV", "XAF", "XOF", "XPF"}  # fmt: skip
_THREE_DECIMALS = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}

STEPS = ("credit", "budget_cap", "override", "deal_cap", "attainment_cap", "component_cap", "floor",
         "gate", "rounding", "plan_cap", "hold", "release", "clawback", "adjustment",
         "draw")  # fmt: skip
"""Kinds of lines in the order of operations: each works on what those before it have left."""


class Wrong(Exception):
    """Something does not follow."""


@dataclass(frozen=True)
class Finding:
    """What does not follow, and where. known: False where this checker cannot tell."""

    where: str
    what: str
    known: bool = True


# Numbers: exact fractions all the way; rounded where a rule says so, and nowhere else.


def number(text: object) -> Fraction:
    """A decimal number from its text."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise Wrong(f"{text!r} is no decimal number")
    return Fraction(text)


def share(text: object) -> Fraction:
    """An exact share or factor: `1/3`."""
    if not isinstance(text, str) or not _FRACTION.fullmatch(text) or text.endswith("/0"):
        raise Wrong(f"{text!r} is no fraction")
    return Fraction(text)


def rounded(value: Fraction, decimals: int, mode: str) -> Fraction:
    """`value` to so many decimals; half_up is symmetric for negatives."""
    scaled = value * 10**decimals
    if mode == "half_even":
        whole = round(scaled)
    elif mode == "half_up":
        whole = int(abs(scaled) + Fraction(1, 2)) * (-1 if scaled < 0 else 1)
    else:
        raise Wrong(f"rounding mode {mode!r} is not known")
    return Fraction(whole, 10**decimals)


def step(value: Fraction) -> Fraction:
    """`value` as it is stored: to 10 decimals, half to even."""
    return rounded(value, STEP_DECIMALS, "half_even")


def decimals_of(currency: str) -> int:
    """Digits after the point in which a currency is paid (ISO 4217)."""
    return 0 if currency in _NO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2


def minor(value: Fraction, rounding: Tree) -> Fraction:
    """`value` to the minor unit, as a line's plan version rounds."""
    return rounded(value, rounding["decimals"], rounding["mode"])


def same(what: str, said: object, follows: object) -> None:
    """Raise Wrong unless what is said is what follows."""
    if said != follows:
        raise Wrong(f"{what} is {_shown(said)}, but {_shown(follows)} follows")


def same_number(what: str, said: object, follows: Fraction) -> None:
    """Raise Wrong unless a number's text says what follows."""
    same(what, number(said), follows)


def _shown(value: object) -> str:
    if not isinstance(value, Fraction):
        return str(value)
    text = f"{float(value):.10f}".rstrip("0").rstrip(".")
    return text if Fraction(text) == value else str(value)


# A whole file.


def check(document: object) -> list[Finding]:
    """What does not follow in a proof or an explanation; nothing where all does."""
    if not isinstance(document, dict):
        return [Finding("file", "this is no statement: it must be a JSON object")]
    if "explanation" not in document and "statement" not in document:
        return check_statement(document)
    found = list(_tried("file", _check_format, document))
    found += _tried("file", check_digest, document)
    tree, statement = document.get("explanation"), document.get("statement")
    if not isinstance(tree, dict) or not isinstance(statement, dict):
        return [*found, Finding("file", "a proof has a statement and an explanation")]
    of_tree = check_statement(tree)
    return found + (of_tree or list(_tried("statement", _check_pair, statement, tree)))


def check_statement(tree: Tree) -> list[Finding]:
    """What does not follow in a statement's explanation."""
    lines = tree.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        return [Finding("statement", "this is no explanation of a statement: it has no lines")]
    found: list[Finding] = []
    for line in lines:
        found += check_line(line)
    if found:
        return found
    found += _tried("statement", check_digest, tree)
    found += _tried("statement", _check_lines_together, tree)
    found += _tried("statement", _check_totals, tree)
    return found + list(_tried("statement", _check_hash, tree))


def check_line(tree: Tree) -> list[Finding]:
    """What does not follow in one line's explanation."""
    kind = tree.get("kind")
    where = f"line {tree.get('key')}"
    if kind not in STEPS:
        said = f"{kind!r} is a kind of line that this checker does not know"
        return [Finding(where, said, known=False)]
    found = list(_tried(where, check_digest, tree))
    return found or list(_tried(where, _check_amount, tree))


def _tried(where: str, rule: Callable[..., None], *trees: Tree) -> Iterator[Finding]:
    """One finding where a rule does not hold, or cannot be read from the file."""
    try:
        rule(*trees)
    except Wrong as wrong:
        yield Finding(where, str(wrong))
    except KeyError as missing:
        yield Finding(where, f"{missing} is missing")
    except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as fault:
        yield Finding(where, f"it is not written as described: {fault}")


def _check_format(document: Tree) -> None:
    same("format", document["format"], FORMAT)


def check_digest(tree: Tree) -> None:
    """The SHA-256 of the rest of an object, so that nothing in it can change unseen."""
    same("digest", tree["digest"], digest_of(tree))


def digest_of(tree: Tree) -> str:
    """SHA-256 of all but `digest`, as JSON with sorted keys and without spaces."""
    rest = {name: value for name, value in tree.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


# Totals of a statement.


def _check_totals(tree: Tree) -> None:
    lines = tree["lines"]
    own = _sum_of(lines)
    same_number("own", tree["own"], own)
    same_number("held_pay", tree["held_pay"], sum(map(_to_held, lines), ZERO))
    if tree.get("recomputed"):
        return  # what a closed period would be today: only its own pay is recomputed
    difference = tree["difference"]
    corrected = ZERO
    for entry in difference["corrects"]:
        amount = number(entry["recomputed"]) - number(entry["fixed"])
        same_number(f"the correction of {entry['line']}", entry["amount"], amount)
        corrected += amount
    carried = corrected - number(difference["landed_before"])
    same_number("difference", difference["amount"], carried)
    owed = carried + number(tree["carry_in"])
    if tree["draw"]:
        payable = _check_draw(tree, own, owed)
        same_number("carry_out", tree["carry_out"], ZERO)
        same_number("taken", tree["taken"], ZERO)
    else:
        payable = _check_recovery(tree, own, owed)
    same_number("payable", tree["payable"], payable)
    _check_payout(tree)


def _to_held(line: Tree) -> Fraction:
    if line["kind"] in {"hold", "release"}:
        return -number(line["amount"])
    if line["kind"] == "gate":
        return number(line["held"])
    return -number(line["forfeited"]) if line["kind"] == "clawback" else ZERO


def _check_recovery(tree: Tree, own: Fraction, owed: Fraction) -> Fraction:
    """What is payable when `owed` (below 0: overpaid) may be taken from a period's own pay."""
    if own <= 0 or owed >= 0:
        same_number("taken", tree["taken"], ZERO)
        same_number("carry_out", tree["carry_out"], min(own + owed, ZERO))
        return max(own + owed, ZERO)
    limit = own * number(tree.get("max_recovery", "1"))
    taken = min(-owed, rounded(limit, decimals_of(tree["currency"]), "half_up"), own)
    same_number("taken", tree["taken"], taken)
    same_number("carry_out", tree["carry_out"], owed + taken)
    return own - taken


def _check_draw(tree: Tree, own: Fraction, owed: Fraction) -> Fraction:
    """A recoverable draw: what is payable."""
    draw = tree["draw"]
    rounding = {"mode": tree.get("rounding_mode"), "decimals": decimals_of(tree["currency"])}
    amount = _prorated(draw["draw"], rounding)
    same_number("draw.earned", draw["earned"], own)
    same_number("draw.owed", draw["owed"], owed)
    balance = number(draw["balance_in"]) - owed
    advance = max(ZERO, amount - own)
    recovered = min(balance, max(ZERO, own - amount))
    same_number("draw.advance", draw["advance"], advance)
    same_number("draw.recovered", draw["recovered"], recovered)
    same_number("draw.balance_out", draw["balance_out"], balance + advance - recovered)
    return own + advance - recovered


def _check_payout(tree: Tree) -> None:
    payout, payable, currency = tree["payout"], number(tree["payable"]), tree["payout"]["currency"]
    raw = payable
    if payout["rate"] is not None:
        same("payout.rate", (payout["rate"]["from"], payout["rate"]["to"]),
             (tree["currency"], currency))  # fmt: skip
        raw = step(payable * number(payout["rate"]["rate"]))
    elif currency != tree["currency"] and payable:
        same("payout.amount, without a rate,", payout["amount"], None)
        return
    paid = rounded(raw, decimals_of(currency), tree.get("rounding_mode", "half_up"))
    same_number("payout.amount", payout["amount"], paid)


def _check_hash(tree: Tree) -> None:
    """The statement's hash: SHA-256 over its lines and totals."""
    lines = (f"{e['key']}\t{e['plan_version']}\t{e['amount']}" for e in tree["lines"])
    payout, draw = tree["payout"], tree["draw"]
    paid = "held" if payout["amount"] is None else payout["amount"]
    totals = [
        f"difference\t{tree['difference']['amount']}",
        f"carry\t{tree['carry_in']}\t{tree['carry_out']}",
        f"payable\t{tree['payable']}\t{paid}\t{payout['currency']}",
    ]
    if draw is not None:
        totals.append(f"draw\t{draw['balance_in']}\t{draw['balance_out']}")
    text = "\n".join([*sorted(lines), *totals])
    same("hash", tree["hash"], hashlib.sha256(text.encode()).hexdigest())


# Lines of one statement together: each step works on what the steps before it have left.


def _sum_of(lines: Iterable[Tree]) -> Fraction:
    return sum((number(line["amount"]) for line in lines), ZERO)


def _before(lines: Iterable[Tree], kind: str) -> list[Tree]:
    """What a step finds: the lines of the steps before it, and what earlier years handed on."""
    place = STEPS.index(kind)
    return [e for e in lines if STEPS.index(e["kind"]) < place or _handed_on(e)]


def _handed_on(line: Tree) -> bool:
    """A release or clawback of a credit of an earlier year: it was there before all steps."""
    return line["kind"] in {"release", "clawback"} and "events" not in line


def _check_lines_together(tree: Tree) -> None:
    lines = tree["lines"]
    by_key = {line["key"]: line for line in lines}
    same("the number of different keys", len(by_key), len(lines))
    for line in lines:
        same(f"statement of {line['key']}", line["statement"], tree["period"])
        same(f"currency of {line['key']}", line["currency"], tree["currency"])
        rule = _TOGETHER.get(line["kind"])
        if rule is not None:
            rule(line, lines, by_key)
    _check_measures(tree)


def _gate_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    gated = (line["component"], line["plan_version"])
    mine = [e for e in _before(lines, "gate") if (e["component"], e["plan_version"]) == gated]
    same_number(f"pay of {line['key']}", line["pay"], _sum_of(mine))


def _floor_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    mine = [e for e in _before(lines, "floor") if e["component"] == line["component"]]
    same_number(f"earned of {line['key']}", line["earned"], _sum_of(mine))


def _rounding_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    exact = {e["key"]: number(e["exact" if e["kind"] == "credit" else "amount"])
             for e in _before(lines, "rounding")}  # fmt: skip
    for override in (e for e in lines if e["kind"] == "override"):
        computed = sum((exact[e["key"]] for e in _about(override, lines)), ZERO)
        exact[override["key"]] = number(override["exact"]) - computed
    same_number(f"exact of {line['key']}", line["exact"], step(sum(exact.values(), ZERO)))


def _plan_cap_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    grown = number(line["sum_after"]) - number(line["sum_before"])
    same(f"what {line['key']} caps", grown, _sum_of(_before(lines, "plan_cap")))
    if line["cap"]["per"] == "statement":
        same_number(f"sum_before of {line['key']}", line["sum_before"], ZERO)


def _component_cap_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    """Where one version caps a statement and nothing was cancelled, it caps all of it at once."""
    mine = [e for e in _before(lines, "component_cap") if e["component"] == line["component"]]
    caps = [e for e in lines if (e["kind"], e["component"]) == ("component_cap", line["component"])]
    cancelled = any("cancelled_at" in e.get("credit", {}) or _handed_on(e) for e in mine)
    versions = {e["plan_version"] for e in mine} | {line["plan_version"]}
    if line["cap"]["per"] == "statement" and not cancelled and len(versions) == len(caps) == 1:
        same_number(f"sum_before of {line['key']}", line["sum_before"], ZERO)
        same_number(f"sum_after of {line['key']}", line["sum_after"], _sum_of(mine))


def _draw_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    same_number(f"earned of {line['key']}", line["earned"], _sum_of(_before(lines, "draw")))


def _about(line: Tree, lines: Sequence[Tree]) -> list[Tree]:
    """The credit line that a line is about, and what the steps before it made of it."""
    key = line["key"].removeprefix(line["kind"] + ":")
    return [e for e in _before(lines, line["kind"])
            if e["key"] in {key, *(f"{kind}:{key}" for kind in STEPS)}]  # fmt: skip


def _deal_cap_together(line: Tree, lines: Sequence[Tree], _: Tree) -> None:
    grown = number(line["sum_after"]) - number(line["sum_before"])
    same(f"what {line['key']} caps", grown, _sum_of(_about(line, lines)))


def _budget_together(line: Tree, _: Sequence[Tree], by_key: Tree) -> None:
    about = by_key[line["key"].removeprefix("budget_cap:")]
    same_number(f"asked of {line['key']}", line["asked"], number(about["amount"]))


def _attainment_cap_together(line: Tree, _: Sequence[Tree], by_key: Tree) -> None:
    about = by_key[line["key"].removeprefix("attainment_cap:")]
    cap, measure, key = line["cap"], about["measure"], line["key"]
    grown = number(line["sum_after"]) - number(line["sum_before"])
    same(f"what {key} caps", grown, number(about["amount"]))
    same(f"quota of {key}", cap["quota"], measure["quota"])
    same(f"measure of {key}", (line["measure_before"], line["measure_after"]),
         (measure["before"], measure["after"]))  # fmt: skip
    earned = _terms(about)(number(cap["measure"]), measure.get("count_after", 1))
    rounding = about["rounding"]
    follows = minor(earned, rounding) if rounding["at"] == "line" else step(earned)
    same_number(f"cap.amount of {key}", cap["amount"], follows)


def _net_together(line: Tree, lines: Sequence[Tree], by_key: Tree) -> None:
    """What a hold, release or clawback is taken of, where no cap or gate is shared with others."""
    about = by_key.get(line["line"])
    shared_ = {"component_cap", "gate", "plan_cap", "rounding"}
    if about is None or any(e["kind"] in shared_ for e in lines) or _handed_on(line):
        return
    kinds = STEPS[: STEPS.index("floor")]
    keys = {line["line"], *(f"{kind}:{line['line']}" for kind in kinds)}
    left = _sum_of(e for e in lines if e["key"] in keys)
    same_number(f"net of {line['key']}", line["net"], left)


def _override_together(line: Tree, lines: Sequence[Tree], by_key: Tree) -> None:
    about = by_key[line["key"].removeprefix("override:")]
    credited = number(about["conversion"]["amount"])
    same_number(f"credited of {line['key']}", line["credited"], credited)
    same_number(f"computed of {line['key']}", line["computed"], _sum_of(_about(line, lines)))
    first = [e["key"] for e in lines
             if e["kind"] == "override" and e["is_first"]
             and e["override"]["id"] == line["override"]["id"]]  # fmt: skip
    same(f"lines that are the first of {line['override']['id']}", len(first), min(1, len(first)))


_TOGETHER: dict[str, Callable[[Tree, Sequence[Tree], Tree], None]] = {
    "gate": _gate_together,
    "floor": _floor_together,
    "rounding": _rounding_together,
    "plan_cap": _plan_cap_together,
    "component_cap": _component_cap_together,
    "draw": _draw_together,
    "deal_cap": _deal_cap_together,
    "budget_cap": _budget_together,
    "override": _override_together,
    "attainment_cap": _attainment_cap_together,
    "hold": _net_together,
    "release": _net_together,
    "clawback": _net_together,
}


def _check_measures(tree: Tree) -> None:
    """Credit lines of one measure follow one another, less what was cancelled in between.

    Only where the measure's period is the statement's are all of its lines in this file.
    """
    measures: dict[str, list[Tree]] = {}
    for line in tree["lines"]:
        if line["kind"] == "credit" and line.get("measure", {}).get("period") == tree["period"]:
            measures.setdefault(line["component"], []).append(line)
    _check_places(tree["lines"])
    for lines in measures.values():
        first = lines[0]
        same_number(f"measure.before of {first['key']}", first["measure"]["before"], ZERO)
        for place, (one, other) in enumerate(pairwise(lines), 1):
            gap = number(one["measure"]["after"]) - number(other["measure"]["before"])
            if gap not in {ZERO, _cancelled_between(lines[:place], one, other)}:
                raise Wrong(f"{other['key']} does not go on where {one['key']} ended")


def _check_places(lines: Sequence[Tree]) -> None:
    """Fixed amounts a credit are counted one after the other; a credit note counts back."""
    following: dict[str, int] = {}
    for line in lines:
        if "pays" in line:
            place, component = line["pays"]["place"], line["component"]
            same(f"pays.place of {line['key']}", place, following.get(component, place))
            following[component] = max(0, place + (-1 if line["pays"]["gives_back"] else 1))


def _cancelled_between(earlier: Sequence[Tree], one: Tree, other: Tree) -> Fraction:
    """What was credited by lines that were cancelled between two credits."""
    begin, end = one["credit"]["instant"], other["credit"]["instant"]
    total = ZERO
    for line in earlier:
        cancelled = line["credit"].get("cancelled_at")
        if cancelled is not None:
            at = max(cancelled, line["credit"]["instant"])
            total += number(line["conversion"]["amount"]) if begin <= at < end else ZERO
    return total


# One line.


def _check_amount(tree: Tree) -> None:
    same("rounding.decimals", tree["rounding"]["decimals"], decimals_of(tree["currency"]))
    same_number("amount", tree["amount"], _AMOUNTS[tree["kind"]](tree))


def _credit_line(tree: Tree) -> Fraction:
    _check_credit(tree["credit"])
    _check_conversion(tree)
    exact = _earned(tree)
    same_number("exact", tree["exact"], exact)
    return minor(exact, tree["rounding"]) if tree["rounding"]["at"] == "line" else step(exact)


def _check_credit(credit: Tree) -> None:
    """From what the formula gives to what one member is credited with."""
    basis, amount, to = number(credit["basis"]), number(credit["amount"]), credit["to"]
    shares = {member: share(text) for member, text in credit["shares"].items()}
    currency, mine = credit["currency"], share(credit["share"])
    if to == "overlays":
        same("credit.share", mine, shares[credit["member"]])
        same("credit.amount", amount, _overlay(basis, mine, currency))
        return
    same("the sum of credit.shares", sum(shares.values(), ZERO), WHOLE)
    parts = _divided(basis, shares, currency)
    if to in {"owner", "splits"}:
        same("credit.share", mine, shares[credit["member"]])
        same("credit.amount", amount, parts[credit["member"]])
        return
    same("credit.to", to, "manager")
    beside = {member: share(text) for member, text in credit["overlays"].items()}
    found = [(shares.get(m, ZERO) + beside.get(m, ZERO),
              parts.get(m, ZERO) + _overlay(basis, beside.get(m, ZERO), currency))
             for m in credit["reports"]]  # fmt: skip
    same("credit.share", mine, min(WHOLE, sum((s for s, _ in found), ZERO)))
    rolled = sum((part for _, part in found), ZERO)
    same("credit.amount", amount, min(basis, rolled) if basis >= 0 else max(basis, rolled))


def _overlay(basis: Fraction, part: Fraction, currency: str) -> Fraction:
    return rounded(step(basis * part), decimals_of(currency), "half_up")


def _divided(basis: Fraction, shares: dict[str, Fraction], currency: str) -> dict[str, Fraction]:
    """Largest remainder to the minor unit, ties to the smaller id; what is finer to the first."""
    cent = Fraction(1, 10 ** decimals_of(currency))
    sign = -1 if basis < 0 else 1
    units = int(abs(basis) / cent)
    quotas = {member: units * part for member, part in shares.items()}
    parts = {member: int(quota) for member, quota in quotas.items()}
    order = sorted(quotas, key=lambda member: (int(quotas[member]) - quotas[member], member))
    for member in order[: units - sum(parts.values())]:
        parts[member] += 1
    found = {member: sign * part * cent for member, part in parts.items()}
    found[order[0]] += basis - sign * units * cent
    return found


def _check_conversion(tree: Tree) -> None:
    conversion = tree["conversion"]
    amount, rate = number(tree["credit"]["amount"]), conversion["rate"]
    pair = (conversion["from"], conversion["to"])
    same("conversion.from and to", pair, (tree["credit"]["currency"], tree["currency"]))
    if rate is not None:
        same("conversion.rate", (rate["from"], rate["to"]), pair)
        amount = step(amount * number(rate["rate"]))
    else:
        same("conversion.to, without a rate,", pair[1], pair[0])
    same_number("conversion.amount", conversion["amount"], amount)
    if "measure" in tree:
        measure = tree["measure"]
        same("what measure grows by", number(measure["after"]) - number(measure["before"]), amount)
        if "count_before" in measure:
            same("measure.count_after", measure["count_after"], measure["count_before"] + 1)


def _earned(tree: Tree) -> Fraction:
    """What a credit line earns, exact."""
    amount = number(tree["conversion"]["amount"])
    if "pays" in tree:
        pays = tree["pays"]
        same("pays.gives_back", pays["gives_back"], amount < 0)
        if pays["first"] is not None and pays["place"] >= pays["first"]:
            return ZERO
        return step(
            number(pays["each"]) * share(tree["credit"]["share"]) * (-1 if amount < 0 else 1)
        )
    if "objective" in tree:
        objective = tree["objective"]
        same_number("objective.score", objective["score"], amount)
        pay = _prorated(objective["target_pay"])
        return step(pay * number(objective["weight"]) * amount)
    rates, measure = tree["rates"], tree["measure"]
    before, after = number(measure["before"]), number(measure["after"])
    count = measure.get("count_before", 0)
    terms = _terms(tree)
    if "points" in rates:
        same_number("rates.earned_before", rates["earned_before"], terms(before, 0))
        same_number("rates.earned_after", rates["earned_after"], terms(after, 0))
        return terms(after, 0) - terms(before, 0)
    return _Table(tree).line(before, after, count)


def _terms(tree: Tree) -> Terms:
    """Measure and count of deals → everything earned so far, by a line's rates."""
    if "points" in tree["rates"]:
        return _Curve(tree).earned
    return _Table(tree).earned


class _Curve:
    """Shares of target pay at points of attainment, linear in between."""

    def __init__(self, tree: Tree) -> None:
        rates, quota = tree["rates"], number(tree["measure"]["quota"])
        self._pay = _prorated(rates["target_pay"])
        self._points = []
        for point in rates["points"]:
            at = number(point["attainment"]) * quota
            same_number("rates.points.at", point["at"], at)
            self._points.append((at, number(point["pays"])))

    def earned(self, credited: Fraction, _: int) -> Fraction:
        """Everything earned on `credited`."""
        if credited < self._points[0][0]:
            return ZERO
        index = max(place for place, (at, _) in enumerate(self._points) if at <= credited)
        low, part = self._points[index]
        if index + 1 < len(self._points):
            high, more = self._points[index + 1]
            part += (more - part) * (credited - low) / (high - low)
        return step(self._pay * part)


class _Table:
    """Tiers over a measure: parts of it at the rate of their tier."""

    def __init__(self, tree: Tree) -> None:
        self._tree, self._rates, measure = tree, tree["rates"], tree["measure"]
        self._quota = None if measure["quota"] is None else number(measure["quota"])
        self._counts = self._rates["over"] == "count"
        self._marginal = self._rates["method"] == "marginal"
        self._bounds = []
        for tier in self._rates["tiers"]:
            by_quota = self._rates["over"] == "attainment" and self._quota is not None
            at = number(tier["from"]) * (self._quota if by_quota and self._quota else WHOLE)
            same_number("rates.tiers.at", tier["at"], at)
            self._bounds.append(at)
        self._tier_rates = [number(tier["rate"]) for tier in self._rates["tiers"]]
        pay = self._rates["target_pay"]
        self._pay = None if pay is None else _prorated(pay)
        self._least, self._from = None, ZERO
        threshold = self._rates["threshold"]
        if threshold is not None and self._quota is not None:
            self._least = number(threshold["attainment"]) * self._quota
            self._from = self._least if threshold["pays"] == "excess_only" else ZERO

    def _tier_at(self, place: Fraction | int) -> int:
        return max([0, *(n for n, bound in enumerate(self._bounds) if bound <= place)])

    def _slices(self, credited: Fraction, count: int) -> list[tuple[int, Fraction]]:
        """(tier, part of the measure) of everything credited so far."""
        if self._least is not None and credited < self._least:
            return []
        if not self._marginal:
            tier = self._tier_at(count if self._counts else credited)
            return [(tier, credited - self._from)]
        if credited < self._bounds[0]:
            return [(0, credited)]
        found = []
        for tier, (low, high) in enumerate(pairwise([*self._bounds, max(credited, ZERO)])):
            last = tier == len(self._bounds) - 1
            bottom, top = max(low, self._from), credited if last else min(high, credited)
            if top > bottom:
                found.append((tier, top - bottom))
        return found

    def _worth(self, slices: Sequence[tuple[int, Fraction]]) -> Fraction:
        """What slices earn; where rates are multiples of target pay ÷ quota, to the step."""
        total = sum((amount * self._tier_rates[tier] for tier, amount in slices), ZERO)
        if self._pay is None or self._quota is None:
            return total
        return step(total * self._pay / self._quota)

    def earned(self, credited: Fraction, count: int) -> Fraction:
        """Everything earned on `credited`, of `count` deals."""
        return self._worth(self._slices(credited, count))

    def line(self, before: Fraction, after: Fraction, count: int) -> Fraction:
        """What a line earns, with its slices as the table gives them."""
        if self._counts and self._marginal:
            sides = [[], [(self._tier_at(count), after - before)]]
        else:
            place = count + 1 if self._counts else 0
            sides = [self._slices(before, count), self._slices(after, place)]
        for name, slices in zip(("slices_before", "slices_after"), sides, strict=True):
            said = [(e["tier"], number(e["amount"]), number(e["rate"])) for e in self._rates[name]]
            same(f"rates.{name}", said, [(t, a, self._tier_rates[t]) for t, a in slices])
        exact = self._worth(sides[1]) - self._worth(sides[0])
        true_up = self._rates["true_up"]
        if self._rates["method"] != "retroactive" or self._pay is not None:
            same("rates.true_up", true_up, None)
        else:
            top = self._tier_at(count + 1 if self._counts else after)
            same_number("rates.true_up", true_up, exact - (after - before) * self._tier_rates[top])
        return exact


def _prorated(tree: Tree, rounding: Tree | None = None) -> Fraction:
    """A prorated amount: the sum of stated amounts, each times its part of the period."""
    total = sum((number(e["stated"]) * share(e["part"]) for e in tree["parts"]), ZERO)
    same_number("a prorated amount", tree["amount"], step(total))
    if rounding is None:
        return step(total)
    same_number("a rounded amount", tree["rounded"], minor(step(total), rounding))
    return minor(step(total), rounding)


def _rounding_line(tree: Tree) -> Fraction:
    exact = number(tree["exact"])
    return minor(exact, tree["rounding"]) - exact


def _cap_line(tree: Tree) -> Fraction:
    before, after = number(tree["sum_before"]), number(tree["sum_after"])
    carried, cap = number(tree["carried_in"]), tree["cap"]
    limit = None if cap["amount"] is None else number(cap["amount"])

    def paid(total: Fraction) -> Fraction:
        return total + carried if limit is None else min(total + carried, limit)

    left = after + carried - paid(after) if cap["excess"] == "carry" else ZERO
    same_number("carried_out", tree["carried_out"], left)
    return paid(after) - (ZERO if tree["opens"] else paid(before)) - (after - before)


def _attainment_cap_line(tree: Tree) -> Fraction:
    cap = tree["cap"]
    limit = number(cap["attainment"]) * number(cap["quota"])
    same_number("cap.measure", cap["measure"], limit)

    def paid(side: str) -> Fraction:
        reached = number(tree[f"measure_{side}"]) >= limit
        return number(cap["amount"] if reached else tree[f"sum_{side}"])

    grown = number(tree["sum_after"]) - number(tree["sum_before"])
    return paid("after") - paid("before") - grown


def _budget_line(tree: Tree) -> Fraction:
    budget, spent, asked = (number(tree[name]) for name in ("budget", "spent_before", "asked"))
    granted = min(budget, spent + asked) - min(budget, spent)
    same_number("granted", tree["granted"], granted)
    return granted - asked


def _override_line(tree: Tree) -> Fraction:
    terms, rounding = tree["override"], tree["rounding"]
    if terms["rate"] is not None:
        same("override.amount beside a rate", terms["amount"], None)
        exact = number(tree["credited"]) * number(terms["rate"])
    else:
        exact = number(terms["amount"]) if tree["is_first"] else ZERO
    same_number("exact", tree["exact"], exact)
    agreed = minor(exact, rounding) if rounding["at"] == "line" else step(exact)
    same_number("agreed", tree["agreed"], agreed)
    return agreed - number(tree["computed"])


def _adjustment_line(tree: Tree) -> Fraction:
    amount = number(tree["adjustment"]["amount"])
    same("adjustment.amount, in whole minor units,", amount, minor(amount, tree["rounding"]))
    return amount


def _top_up_line(tree: Tree) -> Fraction:
    least = _prorated(tree[tree["kind"]], tree["rounding"])
    return max(ZERO, least - number(tree["earned"]))


def _gate_line(tree: Tree) -> Fraction:
    gate, fact, pay = tree["gate"], tree["fact"], number(tree["pay"])
    if fact is not None and number(fact["value"]) >= number(gate["at_least"]):
        raise Wrong(f"the gate is open: {fact['value']} is not below {gate['at_least']}")
    held = fact is None or gate["otherwise"] == "hold"
    same_number("held", tree["held"], pay if held else ZERO)
    return -pay


def _released_line(tree: Tree) -> Fraction:
    booked, received = number(tree["at_booking"]), ZERO
    if tree["event_amount"] is not None:
        whole, cash = number(tree["event_amount"]), number(tree["cash"])
        received = min(WHOLE, max(ZERO, cash / whole)) if whole else WHOLE
    net, rounding = number(tree["net"]), tree["rounding"]
    same("mode", tree["mode"], rounding["mode"])
    after = minor(step(net * (booked + (1 - booked) * received)), rounding)
    same_number("released_after", tree["released_after"], after)
    if tree["kind"] == "hold":
        same("released_before of a hold", tree["released_before"], None)
        return after - net
    return after - number(tree["released_before"])


def _clawback_line(tree: Tree) -> Fraction:
    window, kept, measure = tree["window_days"], tree["days_kept"], tree["measure"]
    factor = Fraction(max(0, window - kept), window)
    same("factor", share(tree["factor"]), factor)
    net, released = number(tree["net"]), number(tree["released"])
    same_number("forfeited", tree["forfeited"], net - released)
    same("mode", tree["mode"], tree["rounding"]["mode"])
    part = share(tree["share"])
    if part != 1 or released != net:
        same("released", released, minor(step(net * part), tree["rounding"]))
    base = released
    if tree["basis"] == "recompute":
        base = part * (number(measure["paid_with"]) - number(measure["paid_without"]))
    return minor(step(-base * factor), tree["rounding"])


_AMOUNTS: dict[str, Callable[[Tree], Fraction]] = {
    "credit": _credit_line,
    "override": _override_line,
    "adjustment": _adjustment_line,
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


# A proof: the statement as it is shown beside its explanation.


def _check_pair(statement: Tree, tree: Tree) -> None:
    for name in ("payee", "plan", "period", "currency", "hash"):
        same(f"statement.{name}", statement[name], tree[name])
    for name in ("own", "held_pay", "carry_in", "taken", "carry_out", "payable"):
        same_number(f"statement.{name}", statement[name], number(tree[name]))
    difference, payout = tree["difference"], tree["payout"]
    same_number("statement.difference", statement["difference"], number(difference["amount"]))
    landed = number(difference["landed_before"])
    same_number("statement.landed_before", statement["landed_before"], landed)
    corrects = [{n: e[n] for n in ("period", "line", "fixed", "recomputed")}
                for e in difference["corrects"]]  # fmt: skip
    same("statement.corrects", statement["corrects"], corrects)
    rate = None if payout["rate"] is None else payout["rate"]["rate"]
    paid = {"currency": payout["currency"], "amount": payout["amount"], "rate": rate}
    same("statement.payout", statement["payout"], paid)
    draw = tree["draw"]
    names = ("advance", "recovered", "balance_in", "balance_out")
    shown = draw and {"amount": draw["draw"]["rounded"], **{name: draw[name] for name in names}}
    same("statement.draw", statement["draw"], shown)
    same("statement.lines", len(statement["lines"]), len(tree["lines"]))
    credits_ = {line["key"]: line for line in tree["lines"] if line["kind"] == "credit"}
    for shown, line in zip(statement["lines"], tree["lines"], strict=True):
        _check_shown_line(shown, line, credits_)
    same("statement.attainment", statement.get("attainment", []), _attainment(tree["lines"]))


def _check_shown_line(shown: Tree, line: Tree, credits_: Tree) -> None:
    key = line["key"]
    for name in ("key", "kind", "plan_version", "deal"):
        same(f"statement: {name} of {key}", shown[name], line[name])
    same(f"statement: component of {key}", shown["component"] or "", line["component"])
    same_number(f"statement: amount of {key}", shown["amount"], number(line["amount"]))
    about = credits_.get(line.get("line", key.removeprefix(line["kind"] + ":")))
    if about is not None and "events" in {**line, **line.get("credit", {})}:
        credited = number(about["conversion"]["amount"])
        same_number(f"statement: credited of {key}", shown["credited"], credited)
        same(f"statement: day of {key}", shown["day"], about["credit"]["day"])
    if line["kind"] != "credit" and "sentence" in line:
        same(f"statement: why of {key}", shown.get("why"), line["sentence"])


def _attainment(lines: Sequence[Tree]) -> list[Tree]:
    """What each measure with a quota had reached with the statement's last credit."""
    found: dict[tuple[str, str], Tree] = {}
    for line in lines:
        measure = line.get("measure") or {}
        if line["kind"] == "credit" and measure.get("quota") is not None:
            reached = number(measure["after"]) / number(measure["quota"])
            found[line["component"], measure["period"]] = {
                "component": line["component"],
                "measure": measure["period"],
                "quota": measure["quota"],
                "credited": measure["after"],
                "attainment": _plain(rounded(reached, 4, "half_even")),
            }
    return list(found.values())


def _plain(value: Fraction) -> str:
    """A number of at most four decimals as text, without trailing zeros."""
    sign, units = "-" if value < 0 else "", abs(int(value * 10_000))
    text = f"{sign}{units // 10_000}.{units % 10_000:04d}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


# The command.


def verify(paths: Sequence[Path]) -> int:
    """Check files, say what was found, and return the exit code: 0, 1 or 2; 1 before 2."""
    codes = {_verify_one(path) for path in paths} or {UNREADABLE}
    return REFUSED if REFUSED in codes else max(codes)


def _verify_one(path: Path) -> int:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        print(f"{path}: cannot be read: {fault}", file=sys.stderr)  # noqa: T201
        return UNREADABLE
    findings = check(document)
    for finding in findings:
        print(f"{path}: {finding.where}: {finding.what}", file=sys.stderr)  # noqa: T201
    if findings:
        return REFUSED if any(finding.known for finding in findings) else UNREADABLE
    tree = document.get("explanation", document)
    payout = tree["payout"]
    paid = "held" if payout["amount"] is None else payout["amount"]
    print(  # noqa: T201 - a command's output
        f"{path}: every amount follows. {tree['payee']}, {tree['plan']}, {tree['period']}: "
        f"{len(tree['lines'])} lines, payout {paid} {payout['currency']}, hash {tree['hash']}"
    )
    return ALL_FOLLOWS


if __name__ == "__main__":
    sys.exit(verify([Path(argument) for argument in sys.argv[1:]]))
