"""Periods: from open to closed, and back."""
