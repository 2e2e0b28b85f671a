import json
from pathlib import Path

import pytest

from tests.bench.report import Result, compared, shown, table, write

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

    assert rows[0] == "| name | value | unit | against | ratio |"
    assert rows[2:] == [
        "| read only | 200,000 | events/s |  |  |",
        "| service | 8,000 | events/s | read only: 200,000 events/s | 0.04 |",
    ]


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
