"""Values that hold from a day or an instant on: what `effective_from` means."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, datetime, timedelta, tzinfo
from typing import Generic, TypeVar

from shared.clock import parse_instant, to_epoch_ms

V = TypeVar("V")

_DAY_LENGTH = len("2026-01-31")


def effective_ms(effective_from: str, zone: tzinfo) -> int:
    """Milliseconds since 1970 from which a dated value holds.

    A day means its beginning in `zone`; an instant means itself. Raises ValueError for neither.
    """
    if len(effective_from) == _DAY_LENGTH:
        return start_of_day_ms(date.fromisoformat(effective_from), zone)
    return to_epoch_ms(parse_instant(effective_from))


def start_of_day_ms(day: date, zone: tzinfo) -> int:
    """The first instant of `day` in `zone`, in milliseconds since 1970."""
    return to_epoch_ms(datetime(day.year, day.month, day.day, tzinfo=zone))


def end_of_day_ms(day: date, zone: tzinfo) -> int:
    """The last millisecond that still belongs to `day` in `zone`."""
    return start_of_day_ms(day + timedelta(days=1), zone) - 1


class Dated(Generic[V]):
    """One value's versions in time. Built once, read often; never changed."""

    __slots__ = ("_from_ms", "_values")

    def __init__(self, versions: Iterable[tuple[str, V]], zone: tzinfo) -> None:
        """versions: (effective_from, value) in any order; of one instant the greater text holds."""
        held: dict[int, tuple[str, V]] = {}
        for effective_from, value in versions:
            at_ms = effective_ms(effective_from, zone)
            known = held.get(at_ms)
            if known is None or effective_from > known[0]:
                held[at_ms] = (effective_from, value)
        self._from_ms = sorted(held)
        self._values = [held[at_ms][1] for at_ms in self._from_ms]

    def at(self, at_ms: int) -> V | None:
        """The value in force at an instant; None before the first."""
        place = bisect_right(self._from_ms, at_ms)
        return self._values[place - 1] if place else None

    def at_or_first(self, at_ms: int) -> V | None:
        """The value in force, or the first one before it; None when there is none at all."""
        if not self._values:
            return None
        return self._values[max(bisect_right(self._from_ms, at_ms) - 1, 0)]

    def latest(self) -> V | None:
        """The last version's value, whatever the time."""
        return self._values[-1] if self._values else None

    def changes(self) -> list[tuple[int, V]]:
        """(milliseconds since 1970, value), ascending."""
        return list(zip(self._from_ms, self._values, strict=True))
