"""The order of operations, in one place.

Before these steps an event is credited (credits.py: split, overlay, roll-up, then currency). After
them a statement takes the carried difference of closed periods and a recoverable draw, and is paid
out (sheet.py, statement.py).
"""

from __future__ import annotations

from collections.abc import Callable

from services.commissions.domain.adjustments import add_adjustments
from services.commissions.domain.caps import cap_attainment, cap_components, cap_deals, cap_plan
from services.commissions.domain.clawback import claw_back
from services.commissions.domain.credited import rate_credits
from services.commissions.domain.draw import guarantee_draws
from services.commissions.domain.floor import raise_to_floors
from services.commissions.domain.gate import close_gates
from services.commissions.domain.overrides import apply_overrides
from services.commissions.domain.release import hold_and_release
from services.commissions.domain.statement_rounding import round_statements
from services.commissions.domain.work import Work

STEPS: tuple[Callable[[Work], None], ...] = (
    rate_credits,  # measure, rate and threshold, line; a SPIFF's part of the common budget
    apply_overrides,  # agreed terms in place of the rates, under the same limits
    cap_deals,
    cap_attainment,
    cap_components,
    raise_to_floors,
    close_gates,
    round_statements,  # only where the plan rounds the statement instead of each line
    cap_plan,
    hold_and_release,
    claw_back,
    # Agreed money is not capped, gated or held; it is earned, so a draw advances less beside it.
    add_adjustments,
    guarantee_draws,  # a draw that is not recoverable is a line; one that is, a balance
)
"""Each step adds lines to what the steps before it have left."""


def rate(work: Work) -> None:
    """Take the steps, one after the other."""
    for step in STEPS:
        step(work)
