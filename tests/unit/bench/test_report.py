import json
from pathlib import Path

import pytest

from tests.bench.report import (
    Goal,
    Result,
    at_least,
    at_most,
    compared,
    percentile,
    ratio_at_least,
    ratio_at_most,
    shown,
    table,
    write,
)

FLOOR = Result("read only", 200_000.0, "events/s")


def test_a_figure_is_held_against_a_floor_of_its_unit() -> None:
    figure = compared("service", 8_123.456, "events/s", FLOOR)

    assert figure.ratio == pytest.approx(0.04061728)
    assert figure.against == "read only: 200,000 events/s"


@pytest.mark.parametrize(
    "floor", [Result("other", 5.0, "s/1,000 events"), Result("none", 0.0, "events/s")]
)
def test_another_unit_or_an_empty_floor_is_refused(floor: Result) -> None:
    with pytest.raises(ValueError, match="cannot be held against"):
        compared("service", 8_000.0, "events/s", floor)


def test_the_file_is_a_list_of_rows_with_the_five_names(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("from before")

    write([FLOOR, compared("service", 8_123.456, "events/s", FLOOR)], path)

    assert json.loads(path.read_text()) == [
        {"name": "read only", "value": 200000, "unit": "events/s", "against": None, "ratio": None},
        {
            "name": "service",
            "value": 8123,
            "unit": "events/s",
            "against": "read only: 200,000 events/s",
            "ratio": 0.04062,
        },
    ]
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_the_table_has_a_row_a_figure_and_leaves_out_what_is_not_known() -> None:
    rows = table([FLOOR, compared("service", 8_000.0, "events/s", FLOOR)]).splitlines()

    assert rows[0] == "| name | value | unit | against | ratio | goal | met |"
    assert rows[2:] == [
        "| read only | 200,000 | events/s |  |  |  |  |",
        "| service | 8,000 | events/s | read only: 200,000 events/s | 0.04 |  |  |",
    ]


@pytest.mark.parametrize(
    ("goal", "shown_as", "met"),
    [
        (at_least(8_000), "≥ 8,000", "yes"),
        (at_least(8_001), "≥ 8,001", "no"),
        (at_most(8_000), "≤ 8,000", "yes"),
        (at_most(7_999), "≤ 7,999", "no"),
        (ratio_at_least(0.04), "ratio ≥ 0.04", "yes"),
        (ratio_at_least(0.7), "ratio ≥ 0.7", "no"),
        (ratio_at_most(1.3), "ratio ≤ 1.3", "yes"),
        (ratio_at_most(0.03), "ratio ≤ 0.03", "no"),
    ],
)
def test_a_goal_stands_beside_its_figure(goal: Goal, shown_as: str, met: str) -> None:
    figure = compared("service", 8_000.0, "events/s", FLOOR, goal=goal)

    assert table([figure]).splitlines()[2].endswith(f"| 0.04 | {shown_as} | {met} |")


def test_a_goal_of_a_ratio_is_not_met_by_a_figure_without_one() -> None:
    assert not ratio_at_least(0.1).is_met(FLOOR)


def test_goals_are_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"

    write([Result("service", 1.0, "s", goal=at_most(2))], path)

    assert [set(row) for row in json.loads(path.read_text())] == [
        {"name", "value", "unit", "against", "ratio"}
    ]


@pytest.mark.parametrize(("share", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_the_smallest_value_not_exceeded_by_so_many(
    share: float, value: int
) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value


def test_of_few_values_the_tail_is_the_greatest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0


def test_nothing_measured_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 99)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0617, "0.0617"),
        (0.123456, "0.1235"),
        (999.96, "1,000"),
        (8_123.4, "8,123"),
        (191_049.0, "191,000"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert shown(value) == text
