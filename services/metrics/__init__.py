"""Metrics: what is true of deals and people, in numbers that open to the events behind them."""
