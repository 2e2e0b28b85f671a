"""Tables of the schema `commissions`.

Derived, made anew from the topics: records, roots, marks, quotas, KPIs, scores, credits, budgets'
grants, exceptions, statements.
Owned: plan versions, assignments, adjustments, overrides, disputes, periods, what closes fixed,
the day up to which all is closed.
The ledger is neither: it is only ever added to, and a rebuild posts the differences.
"""

from services.commissions.tables import (
    closing,
    corrections,
    decided,
    derived,
    held_back,
    ledger,
    paying,
    proposals,
    simulating,
)
from services.commissions.tables.columns import metadata

__all__ = [
    "closing",
    "corrections",
    "decided",
    "derived",
    "held_back",
    "ledger",
    "metadata",
    "paying",
    "proposals",
    "simulating",
]
