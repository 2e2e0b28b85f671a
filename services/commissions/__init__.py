"""Commissions: plans, credits, ledger, statements and periods."""
