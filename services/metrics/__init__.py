"""Metrics: what is true of deals and people, as numbers that open down to the events behind them."""
