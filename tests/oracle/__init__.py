"""A second opinion: KPIs and pay recomputed from the intended history, plainly and slowly.

It shares no code with the product: it imports nothing of `services` or `shared`, and reads what
truly happened (`tests.simulator.history`), not what arrived. Whatever the product says must agree
to the cent.
"""

from tests.oracle.recompute import OracleResult, recompute

__all__ = ["OracleResult", "recompute"]
