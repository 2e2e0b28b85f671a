"""Plan files: read exactly, refused with their place, and nothing in them may grow or run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from services.commissions.domain.parse import parse_plan, plan_hash
from services.commissions.plans.files import (
    MAX_BYTES,
    PlanDocument,
    Unreadable,
    read_documents,
    read_files,
)

PLAN = """\
id: ae
currency: USD
time_zone: UTC
effective: {from: 2025-01-01}
period: month
cap: {amount: 12.10, per: year}
components:
  - id: new
    credit:
      on: deal.won
    rates: {method: flat, rate: 8.05%}
"""


def read(text: str) -> PlanDocument:
    (document,) = read_documents("plans/ae.yaml", text.encode())
    return document


def refused(text: str | bytes) -> str:
    with pytest.raises(Unreadable) as refusal:
        read_documents("ae.yaml", text.encode() if isinstance(text, str) else text)
    return str(refusal.value)


def test_no_number_goes_through_a_double() -> None:
    document = read(PLAN).document
    assert document["cap"]["amount"] == "12.10"
    version = parse_plan(document)
    assert version.cap is not None
    assert version.cap.amount == Decimal("12.10")
    assert read("amount: 0.1000000000000000055511151231257827\n").document["amount"] == (
        "0.1000000000000000055511151231257827"
    )


def test_values_are_those_of_yaml_1_2() -> None:
    found = read("a: 7\nb: 2026-01-01\non: no\nc: true\nd: ~\ne: '7'\nf: 017\ng: 1e3\n").document
    assert found == {
        "a": 7,
        "b": "2026-01-01",
        "on": "no",
        "c": True,
        "d": None,
        "e": "7",
        "f": "017",
        "g": "1e3",
    }


def test_json_is_read_the_same_way() -> None:
    found = read('{"id": "ae", "amount": 12.10, "flag": true, "list": [1, "2"]}').document
    assert found == {"id": "ae", "amount": "12.10", "flag": True, "list": [1, "2"]}


def test_a_file_may_hold_several_versions() -> None:
    later = PLAN.replace("2025-01-01", "2025-07-01")
    first, second = read_documents("ae.yaml", f"{PLAN}---\n{later}---\n".encode())
    assert (str(first.start), str(second.start)) == ("ae.yaml:1:1", "ae.yaml:13:1")
    assert plan_hash(first.document) != plan_hash(second.document)


def test_a_pointer_has_its_place() -> None:
    document = read(PLAN)
    assert str(document.place_of("/components/0/rates/rate")) == "plans/ae.yaml:11:33"
    assert str(document.place_of("/components/0/rates/tiers/4")) == "plans/ae.yaml:11:5"
    assert str(document.place_of("/nothing/here")) == "plans/ae.yaml:1:1"


def test_anchors_and_merges_are_written_out() -> None:
    text = "base: &base {x: 1, y: 2}\nown: {<<: *base, y: 3}\nlist: [*base, *base]\n"
    found = read(text).document
    assert found["own"] == {"x": 1, "y": 3}
    assert found["list"] == [{"x": 1, "y": 2}] * 2


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("id: a\nx: 1\nid: b\n", "ae.yaml:3:1", "stands here twice, first in line 1"),
        ("a: {b: 1, b: 2}\n", "ae.yaml:1:11", "twice"),
        (LAUGHS, "ae.yaml:", "aliases repeat more than"),
        ("a: &a [*a]\n", "ae.yaml:1:4", "alias of itself"),
        ("a: " + "[" * 5_000, "ae.yaml:1:35", "levels deep"),
        ("a: !!python/object/apply:os.system [ls]\n", "ae.yaml:1:4", "means nothing in a plan"),
        ("a: !secret x\n", "ae.yaml:1:4", "means nothing in a plan"),
        ("a:\n\t- b\n", "ae.yaml:2:1", "a tab cannot indent"),
        ("when: a: b\n", "ae.yaml:1:8", "put quotes around"),
        (b"a: \xff\n", "ae.yaml:1:4", "not UTF-8"),
        ("a: 1\nb: \x07\n", "ae.yaml:2:4", "control character"),
        ("- 1\n", "ae.yaml:1:1", "a plan is a mapping"),
        ("? [x]\n: 1\n", "ae.yaml:1:3", "a key is a word"),
        ("a: *nowhere\n", "ae.yaml:1:4", "an anchor (&name) stands before"),
        ("# nothing\n", "ae.yaml:1:1", "holds no plan"),
        ("x" * (MAX_BYTES + 1), "ae.yaml:1:1", "KiB"),
        ("---\na: 1\n" * 201, "ae.yaml:401:1", "plan versions"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(
    text: str | bytes, place: str, says: str
) -> None:
    said = refused(text)
    assert said.startswith(place), said
    assert says in said


def test_folders_stand_for_their_plan_files(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(PLAN.replace("id: ae", "id: b"))
    (tmp_path / "a.json").write_text('{"id": "a"}')
    (tmp_path / "notes.txt").write_text("not a plan")
    assert [d.document["id"] for d in read_files([tmp_path])] == ["a", "b"]
    with pytest.raises(Unreadable, match="cannot be read"):
        read_files([tmp_path / "absent.yaml"])
