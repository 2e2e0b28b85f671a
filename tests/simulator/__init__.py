"""A believable company and its year of sales, from one seed; shared by demo, tests and load.

`Company.generate` makes the intended history: what truly happened, when. `deliveries` sends it as
CRMs do, late, twice and out of order; `setup_calls` says who the people are and what they are paid.
`stream_facts` makes any number of deals in bounded memory. Nothing here imports the product.
"""

from tests.simulator.company import Company
from tests.simulator.coverage import coverage
from tests.simulator.emit import Delivery, deliveries
from tests.simulator.history import History
from tests.simulator.setup import SetupCall, setup_calls
from tests.simulator.stream import stream_facts

__all__ = [
    "Company",
    "Delivery",
    "History",
    "SetupCall",
    "coverage",
    "deliveries",
    "setup_calls",
    "stream_facts",
]
