"""Errors that carry meaning across layers. HTTP status and problem type live in `shared.http`."""

from __future__ import annotations


class AttainError(Exception):
    """Base of every error this project raises on purpose."""


class InvalidValue(AttainError, ValueError):
    """A value is malformed: says what, where (`pointer`, a JSON pointer) and what to do."""

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer

    def at(self, pointer: str) -> InvalidValue:
        """The same error, placed under `pointer`."""
        return InvalidValue(self.message, pointer=pointer + self.pointer)


class Refused(AttainError):
    """A well-formed request that a business rule refuses.

    `code` is the stable last part of the problem's type URI; `status` its HTTP status.
    """

    def __init__(self, code: str, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Misconfigured(AttainError):
    """The process cannot start with these settings. The message says which, and what to set."""


class MoneyDisagrees(AttainError):
    """Two computations of one amount differ. Stop and page; nothing repairs this by itself."""
