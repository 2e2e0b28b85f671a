"""Reading a plan document strictly: every value typed, every key known, every problem kept."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from services.commissions.domain.plan import Problem
from shared.errors import InvalidValue
from shared.money import parse_decimal

_PERCENT = re.compile(r"-?\d{1,7}(\.\d{1,8})?\s*%")
_MULTIPLE = re.compile(r"\d{1,7}(\.\d{1,8})?\s*x")
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_MAX_TEXT = 4096

Closed = TypeVar("Closed", bound=StrEnum)


class Reader:
    """One object of a document, its JSON pointer, and the shared list of problems.

    A getter that finds a problem notes it and returns its fallback, so that one pass finds all.
    """

    def __init__(self, node: Mapping[str, object], pointer: str, problems: list[Problem]) -> None:
        self._node = node
        self._problems = problems
        self.pointer = pointer

    def refuse(self, key: str, message: str) -> None:
        """Note a problem with `key` (an empty key is the object itself)."""
        self._problems.append(Problem(f"{self.pointer}/{key}" if key else self.pointer, message))

    def has(self, key: str) -> bool:
        """Whether the document states `key` with a value."""
        return self._node.get(key) is not None

    def keys(self, known: Collection[str], later: Mapping[str, str] | None = None) -> None:
        """Refuse every key that is not known; `later` says why for keys of the language to come."""
        for key in self._node:
            if key in known:
                continue
            if later and key in later:
                self.refuse(key, later[key])
                continue
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            self.refuse(str(key), f"unknown key {key}{hint}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty; required without `default`."""
        value = self._node.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
            self.refuse(key, f"{key} must be a text that is not empty")
            return default or "?"
        return value

    def choice(
        self, key: str, closed: type[Closed], default: Closed | None, later: str = ""
    ) -> Closed:
        """One of a closed set. `later` lists values of the language that are not built yet."""
        value = self._node.get(key)
        members = list(closed)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in members:
            return closed(value)
        allowed = ", ".join(member.value for member in members)
        if isinstance(value, str) and value in later.split():
            self.refuse(key, f"{key}: {value} is not supported yet; use one of {allowed}")
        else:
            self.refuse(key, f"{key} must be one of {allowed}")
        return default or members[0]

    def amount(self, key: str) -> Decimal:
        """A decimal amount as text or whole number, 0 or more."""
        try:
            number = parse_decimal(self._node.get(key))
        except InvalidValue as error:
            self.refuse(key, f"{key}: {error.message}; write amounts as text or whole numbers")
            return Decimal(0)
        if number < 0:
            self.refuse(key, f"{key} cannot be negative")
        return number

    def percent(self, key: str) -> Decimal:
        """A percentage (`8%`) as an exact fraction."""
        value = self._node.get(key)
        if isinstance(value, str) and _PERCENT.fullmatch(value.strip()):
            return Decimal(value.strip().removesuffix("%").strip()).scaleb(-2)
        self.refuse(key, f"{key} must be a percentage such as 8% (at most 8 decimals)")
        return Decimal(0)

    def is_multiple(self, key: str) -> bool:
        """Whether the value is written as a multiple (`1.5x`)."""
        value = self._node.get(key)
        return isinstance(value, str) and _MULTIPLE.fullmatch(value.strip()) is not None

    def percent_or_multiple(self, key: str) -> Decimal:
        """A percentage (`8%`), or a multiple (`1.5x`) of target pay ÷ quota."""
        if self.is_multiple(key):
            return Decimal(str(self._node[key]).strip().removesuffix("x").strip())
        return self.percent(key)

    def number(self, key: str) -> Decimal:
        """A decimal number as text or whole number."""
        try:
            return parse_decimal(self._node.get(key))
        except InvalidValue as error:
            self.refuse(key, f"{key}: {error.message}; write numbers as text")
            return Decimal(0)

    def whole(self, key: str, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self._node.get(key)
        if isinstance(value, str) and value.isdecimal() and value.isascii():
            value = int(value[:10])
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(key, f"{key} must be a whole number from {least} to {most}")
            return least
        return value

    def flag(self, key: str) -> bool:
        """True or false; required."""
        value = self._node.get(key)
        if not isinstance(value, bool):
            self.refuse(key, f"{key} must be true or false")
            return False
        return value

    def day_or_month(self, key: str) -> date | None:
        """A calendar day, or a month for its first day."""
        value = self._node.get(key)
        if isinstance(value, str) and _MONTH.fullmatch(value):
            return date.fromisoformat(f"{value}-01")
        found = self.day(key)
        if found is None and value is not None:
            self._problems.pop()
            self.refuse(key, f"{key} must be a month such as 2026-01, or a day")
        return found

    def day(self, key: str, *, required: bool = False) -> date | None:
        """A calendar day, ISO 8601."""
        value = self._node.get(key)
        if value is None and not required:
            return None
        if type(value) is date:
            return value
        try:
            return date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            self.refuse(key, f"{key} must be a day such as 2026-01-31")
            return None

    def child(self, key: str) -> Reader:
        """The object under `key`; an empty one, with a problem noted, when there is none."""
        value = self._node.get(key)
        if isinstance(value, Mapping):
            return Reader(value, f"{self.pointer}/{key}", self._problems)
        self.refuse(key, f"{key} must be an object")
        return Reader({}, f"{self.pointer}/{key}", [])

    def children(self, key: str) -> list[Reader]:
        """The objects of the list under `key`, at least one."""
        value = self._node.get(key)
        if not isinstance(value, list | tuple) or not value:
            self.refuse(key, f"{key} must be a list with at least one entry")
            return []
        return list(self._members(key, value))

    def _members(self, key: str, values: Iterable[object]) -> Iterable[Reader]:
        for index, value in enumerate(values):
            if isinstance(value, Mapping):
                yield Reader(value, f"{self.pointer}/{key}/{index}", self._problems)
            else:
                self.refuse(f"{key}/{index}", "each entry must be an object")
