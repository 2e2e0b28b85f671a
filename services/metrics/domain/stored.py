"""A root's contribution as JSON text: equal contributions are equal texts.

A deal's begins with `{"merged":…` or `{"open":true…`, so that these two are told without reading
the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TypeAlias

import msgspec

from services.metrics.domain.contributions import (
    ACTIVITY_WHOLE,
    BOOKED_WHOLE,
    LOST_DEALS,
    NO_DECISION,
    WON_DEALS,
    Cell,
    CellKey,
    HygieneItem,
)
from services.metrics.domain.rows import DealRow
from shared.money import to_text

ORGANISATION = "*"
"""The people of cells that sum over everybody, each deal and activity once."""

_COUNTED_WHOLE = frozenset({BOOKED_WHOLE, WON_DEALS, LOST_DEALS, NO_DECISION})

CellText: TypeAlias = tuple[str, str, str, str, str, str, int]


class StoredDeal(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a deal contributes. merged: its survivor. rows: beginning → fingerprint of the row."""

    merged: str | None = None
    open: bool = False
    cells: list[CellText] = []
    rows: dict[str, str] = {}
    hygiene: list[tuple[str, str]] = []


class StoredActivity(msgspec.Struct, omit_defaults=True, frozen=True):
    """What an activity contributes. row: fingerprint, None when it has no row."""

    cells: list[CellText] = []
    row: str | None = None
    hygiene: list[tuple[str, str]] = []


_encoder = msgspec.json.Encoder()
_decode_deal = msgspec.json.Decoder(StoredDeal).decode
_decode_activity = msgspec.json.Decoder(StoredActivity).decode

NO_DEAL = StoredDeal()
NO_ACTIVITY = StoredActivity()


def stored_deal(text: str | None) -> StoredDeal:
    """The contribution in `text`; of a root never settled, nothing."""
    return NO_DEAL if text is None else _decode_deal(text)


def stored_activity(text: str | None) -> StoredActivity:
    """The contribution in `text`; of a root never settled, nothing."""
    return NO_ACTIVITY if text is None else _decode_activity(text)


def encoded(contribution: StoredDeal | StoredActivity) -> str:
    """The text to store."""
    return _encoder.encode(contribution).decode()


def is_open(text: str | None) -> bool:
    """Whether a stored deal is open, without reading it."""
    return text is not None and text.startswith('{"open":true')


def is_merged(text: str | None) -> bool:
    """Whether a stored deal is merged away, without reading it."""
    return text is not None and text.startswith('{"merged"')


def cell_texts(cells: Iterable[Cell]) -> list[CellText]:
    """Cells as they are stored."""
    return [
        (k.measure, k.people, k.day.isoformat(), k.currency, k.deal_type, to_text(amount), number)
        for k, amount, number in cells
    ]


def cells_of(texts: Iterable[CellText]) -> list[Cell]:
    """Stored cells."""
    return [
        Cell(
            CellKey(measure, people, date.fromisoformat(day), currency, deal_type),
            Decimal(amount),
            number,
        )
        for measure, people, day, currency, deal_type, amount, number in texts
    ]


def hygiene_texts(items: Iterable[HygieneItem]) -> list[tuple[str, str]]:
    """Items as they are stored."""
    return [(item.rule, item.text) for item in items]


def fingerprints(rows: Iterable[DealRow]) -> dict[str, str]:
    """Beginning → fingerprint, of each row."""
    return {str(row.valid_from_ms): fingerprint(row) for row in rows}


def fingerprint(row: Sequence[object]) -> str:
    """96 bits that differ when any column does."""
    return hashlib.blake2b(_encoder.encode(row), digest_size=12).hexdigest()


def counts_for_organisation(measure: str) -> bool:
    """Whether the sum of all cells of a measure has each deal or activity once."""
    return measure in _COUNTED_WHOLE or measure.startswith(ACTIVITY_WHOLE)


def changed_rows(
    old: Mapping[str, str], rows: Sequence[DealRow], new: Mapping[str, str]
) -> tuple[list[int], list[DealRow]]:
    """(beginnings of rows that are gone, rows that are new or differ)."""
    gone = [int(start) for start in old if start not in new]
    fresh = [r for r in rows if old.get(str(r.valid_from_ms)) != new[str(r.valid_from_ms)]]
    return gone, fresh
