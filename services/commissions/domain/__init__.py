"""The pure core of commissions: plans, credits, rating, statements, ledger. No I/O, no clock."""
