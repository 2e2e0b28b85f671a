from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.clock import parse_instant, to_text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime(2025, 3, 31, 9, 30, 3, 412_999, tzinfo=UTC), "2025-03-31T09:30:03.412Z"),
        (
            datetime(2025, 3, 31, 9, 30, tzinfo=timezone(timedelta(hours=2))),
            "2025-03-31T07:30:00.000Z",
        ),
    ],
)
def test_an_instant_has_one_width_so_that_text_order_is_time_order(
    instant: datetime, text: str
) -> None:
    assert to_text(instant) == text
    assert parse_instant(text) == instant.replace(microsecond=instant.microsecond // 1000 * 1000)
