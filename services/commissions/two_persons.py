"""Maker is never checker, and nobody decides about their own pay: one rule for every decision."""

from __future__ import annotations

from shared.errors import Refused


def check_second_person(
    *, maker: str | None, checker: str, is_own_pay: bool, of: str, one_seat: bool
) -> None:
    """Refuse (409) a checker who made it, or whose pay it is.

    of: what is decided, as in "whoever made a pay run". one_seat: exactly one person works here,
    who may do both.
    """
    if one_seat:
        return
    if checker == maker:
        msg = f"{of} is confirmed by a second person; ask somebody else of finance"
        raise Refused("same-person", msg)
    if is_own_pay:
        msg = f"{of}: nobody decides about their own pay; ask somebody else of finance"
        raise Refused("own-pay", msg)
