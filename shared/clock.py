"""Where time comes from. The core is given the time; only shells hold a clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Protocol

from shared.errors import InvalidValue


class Clock(Protocol):
    """A source of the current instant, aware and in UTC."""

    def now(self) -> datetime:
        """The current instant."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current instant by the machine's clock."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands where it was set: for tests, and for a simulated company's time."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        """The instant that was set."""
        return self.instant


def from_epoch_ms(epoch_ms: int) -> datetime:
    """The instant `epoch_ms` milliseconds after 1970, exactly (no float in between)."""
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)


def to_epoch_ms(instant: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    if instant.tzinfo is None:
        msg = f"instant without a time zone: {instant!r}"
        raise ValueError(msg)
    delta = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def to_text(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`: of one width, so that text order is time order."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant. Raises InvalidValue, also for a text without offset: no instant."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        msg = "this is no instant; write it like 2025-03-31T09:30:00Z"
        raise InvalidValue(msg) from None
    if instant.tzinfo is None:
        msg = "this has no offset from UTC; write it with Z or +hh:mm"
        raise InvalidValue(msg)
    return instant.astimezone(UTC)


def parse_day(text: str) -> date:
    """A calendar date as `2025-03-31`. Raises InvalidValue, also for a day that does not exist."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        msg = "this is no calendar date; write it like 2025-03-31"
        raise InvalidValue(msg) from None
