"""A second reading of the plan language, slow and plain, that shares no code with the first.

Rounding and shares are those of the year's recomputation (tests/oracle/commissions.py).

It takes settled history (which deals are won, what was paid for them, who reports to whom) and plan
documents as they are posted, and computes in fractions what every statement comes to. Whatever
could be clever in the service (increments, accounts, links, ledgers) is absent here.
"""
