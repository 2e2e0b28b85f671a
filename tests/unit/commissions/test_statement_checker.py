"""The checker that is handed out: it accepts what the engine makes, and no number of it changed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from typer.testing import CliRunner

import shared.statement_checker as checker
from services.commissions.domain.agreed import Adjustment, Agreement, Override
from services.commissions.domain.sheet import Sheet, rate_sheet
from services.commissions.domain.terms import DayRange
from shared.cli import app
from shared.statement_checker import ALL_FOLLOWS, REFUSED, UNREADABLE, check, digest_of, verify
from tests.oracle.plans.case import Case
from tests.oracle.plans.generated import cases
from tests.property import test_plans_against_second_reading as second_reading
from tests.unit.commissions.test_order_of_operations import at, plan, sheet, won
from tests.unit.commissions.trees import Tree, golden_proofs, proofs_of

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
FRACTION = re.compile(r"-?[0-9]+/[0-9]+", re.ASCII)
Path_ = tuple[str | int, ...]

NOT_BINDING = {
    "max_recovery": "a limit that leaves all of what is owed to be taken",
    "tiers.rate": "of a tier that the measure has not reached",
    "points.pays": "of a point that the measure has not reached",
    "threshold.attainment": "a threshold passed by more than that",
    "measure.quota": "of a line whose tier bounds do not depend on it",
    "pays.first": "a number of credits that is not reached, or passed by more",
    "pays.place": "among the first ones, or beyond them, either way",
    "pays.each": "of a credit beyond the first ones, which pays nothing",
    "objective.weight": "of an objective that was scored 0",
    "gate.at_least": "below it by more than that",
    "fact.value": "below the gate by more than that",
    "cap.amount": "a limit that is not reached",
    "budget": "a budget spent before by more than that",
    "spent_before": "a budget spent before by more than that",
    "carried_in": "of a scope whose cap is reached anyway",
    "window_days": "a window that has passed",
    "days_kept": "days after the window",
    "event_amount": "the share received rounds to the same cent",
    "cash": "the share received rounds to the same cent",
    "at_booking": "all was received, so that all is released",
    "credit.formula": "the plan's words; `basis` is what they gave",
    "credit.basis": "a share of it rounds to the same cent",
    "shares": "of another member's overlay, which is no part of this credit",
    "measure.with": "told beside what it pays, which is what is counted with",
    "measure.without": "told beside what it pays, which is what is counted with",
    "lines.credited": "beside a line whose credit is on another statement",
    "held": "a credit that cannot be rated yet, in no total",
}
"""Numbers of which a hundredth may change nothing: what they are where arithmetic cannot tell."""


def numbers(node: object, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every number of a tree: decimal texts, fractions and integers."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from numbers(value, (*path, name))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from numbers(value, (*path, place))
    elif (isinstance(node, int) and not isinstance(node, bool)) or (
        isinstance(node, str) and (NUMBER.fullmatch(node) or FRACTION.fullmatch(node))
    ):
        yield path, node


def moved(value: Any, hundredths: int) -> Any:  # noqa: ANN401 - text or integer, as it came
    """A number changed by 0.01, an integer by 1."""
    if isinstance(value, int):
        return value + hundredths
    if "/" in value:
        return str(Fraction(value) + Fraction(hundredths, 100))
    return str(Decimal(value) + Decimal(hundredths) / 100)


def put(tree: Any, path: Path_, value: object) -> None:  # noqa: ANN401 - dicts and lists
    for step in path[:-1]:
        tree = tree[step]
    tree[path[-1]] = value


def seal(proof: Tree) -> None:
    """All digests made again, as whoever changes a number on purpose would."""
    tree = proof["explanation"]
    for part in [*tree["lines"], tree, proof]:
        part["digest"] = digest_of(part)


def named(path: Path_) -> str:
    return ".".join(step for step in path if isinstance(step, str))


def tampered(proof: Tree) -> tuple[Counter[str], Counter[str]]:
    """(what was changed, what arithmetic alone did not see); all of it must be refused as it is."""
    changed: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for path, value in list(numbers(proof)):
        for hundredths in (1, -1):
            put(proof, path, moved(value, hundredths))
            with pytest.raises(checker.Wrong):  # what `check` asks first
                checker.check_digest(proof)
            before = _sealed_anew(proof, path)
            changed[named(path)] += 1
            unseen[named(path)] += not check(proof)
            put(proof, path, value)
            for part, digest in before:
                part["digest"] = digest
    return changed, +unseen


def _sealed_anew(proof: Tree, path: Path_) -> list[tuple[Tree, str]]:
    """Make the digests over a number anew; what they were."""
    parts = [proof]
    if path[0] == "explanation":
        parts.insert(0, proof["explanation"])
        if path[1] == "lines" and isinstance(path[2], int):
            parts.insert(0, proof["explanation"]["lines"][path[2]])
    before = [(part, part["digest"]) for part in parts]
    for part in parts:
        part["digest"] = digest_of(part)
    return before


def test_golden_proofs_follow_and_no_number_of_them_can_change() -> None:
    changed: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for proof in golden_proofs():
        assert check(proof) == []
        of_one, not_seen = tampered(proof)
        changed += of_one
        unseen += not_seen
    assert changed.total() > 9_000
    # With all digests made again, arithmetic alone still refuses nearly all of it.
    assert unseen.total() / changed.total() < 0.05
    unexplained = [
        name for name in unseen if not any(f".{known}" in f".{name}" for known in NOT_BINDING)
    ]
    assert unexplained == []


def test_generated_statements_follow_and_no_number_of_them_can_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proofs: list[Tree] = []

    def keeping(given_: Any) -> Sheet:  # noqa: ANN401 - as rate_sheet
        found = rate_sheet(given_)
        if len({a.agreement.id for a in given_.adjustments}) == len(given_.adjustments):
            proofs.extend(
                proofs_of(found)
            )  # generated adjustments may share an id, stored ones not
        return found

    monkeypatch.setattr(second_reading, "rate_sheet", keeping)

    @seed(7)
    @settings(
        max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(cases())
    def rate(case: Case) -> None:
        second_reading.found(case)

    rate()
    assert len(proofs) > 300
    for proof in proofs:
        assert check(proof) == []
    kinds: Counter[str] = Counter()
    for proof in proofs:
        own = {line["kind"] for line in proof["explanation"]["lines"]}
        if any(kinds[kind] < 3 for kind in own):
            kinds.update(own)
            tampered(proof)
    assert len(kinds) >= 8


def agreed(identity: str) -> Agreement:
    return Agreement(identity, f"event-{identity}", "a promise", "cas", "fin")


@pytest.mark.parametrize("at_", ["line", "statement"])
def test_agreed_terms_are_checked(at_: str) -> None:
    of = plan(
        {"cap": {"amount": "90", "per": "deal"}},
        rounding={"mode": "half_even", "at": at_},
        draw={"amount": "400", "recoverable": False, "from": "2025-01", "periods": 1},
    )
    year = DayRange(at("2025-01-01").date(), at("2025-12-31").date())
    found = sheet(
        of,
        won("A", "2025-01-10", "1000.055"),
        won("B", "2025-01-11", "500"),
        won("C", "2025-02-11", "333.33"),
        adjustments=[Adjustment(agreed("bonus"), at("2025-01-01").date(), Decimal("12.34"))],
        overrides=[
            Override(agreed("deal-a"), "c", year, deal_id="deal:A", amount=Decimal(70)),
            Override(agreed("all"), "c", year, rate=Decimal("0.0333")),
            Override(agreed("a"), "c", year, deal_id="A", amount=Decimal("77.77")),
        ],
    )
    kinds = set()
    for proof in proofs_of(found):
        assert check(proof) == []
        tampered(proof)
        kinds |= {line["kind"] for line in proof["explanation"]["lines"]}
    assert {"override", "adjustment", "draw"} <= kinds


def test_it_stands_alone(tmp_path: Path) -> None:
    """Standard library only, and one file: it runs where nothing of Attain is."""
    source = Path(checker.__file__)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
    alone = tmp_path / "checker.py"
    alone.write_text(source.read_text())
    proof = golden_proofs()[0]
    good, bad, broken = (tmp_path / f"{name}.json" for name in ("good", "bad", "broken"))
    good.write_text(json.dumps(proof))
    bad.write_text(json.dumps({**proof, "statement": {**proof["statement"], "own": "1"}}))
    broken.write_text("no JSON")
    for files, code in (([good], 0), ([good, bad], 1), ([broken], 2), ([broken, bad], 1), ([], 2)):
        run = subprocess.run(
            [sys.executable, "-I", "-S", str(alone), *map(str, files)],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == code, run.stderr
    assert verify([good]) == ALL_FOLLOWS
    for file, code in ((good, ALL_FOLLOWS), (bad, REFUSED), (broken, UNREADABLE)):
        assert CliRunner().invoke(app, ["verify", str(file)]).exit_code == code


def test_it_says_what_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof = golden_proofs()[0]
    line = proof["explanation"]["lines"][0]
    line["amount"] = str(Decimal(line["amount"]) + 5)
    seal(proof)
    file = tmp_path / "statement.json"
    file.write_text(json.dumps(proof))
    assert verify([file]) == REFUSED
    said = capsys.readouterr().err
    assert f"line {line['key']}: amount is {line['amount']}" in said


def test_a_kind_it_does_not_know_is_no_success() -> None:
    proof = golden_proofs()[0]
    proof["explanation"]["lines"][0]["kind"] = "gift"
    seal(proof)
    findings = check(proof)
    assert [finding.known for finding in findings] == [False]


@pytest.mark.parametrize(
    "document", [[], {}, {"lines": [1]}, {"lines": [{"kind": "credit"}]}, {"statement": {}}, "x"]
)
def test_what_is_no_statement_is_refused(document: object) -> None:
    assert check(document)
