"""`python -m services.ingest api | migrate | check-config`."""

import gc
import sys

from services.ingest.wiring import SERVICE
from shared.runtime.service import main

# What is loaded by now lives as long as the process: looking through it at each collection cost
# every tenth of a webhook's time, in pauses.
gc.collect()
gc.freeze()
sys.exit(main(SERVICE))
