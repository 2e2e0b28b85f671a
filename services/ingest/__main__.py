"""`python -m services.ingest api | migrate | check-config`."""

import asyncio
import gc
import sys

import uvloop

from services.ingest.wiring import SERVICE
from shared.runtime.service import main

# What is loaded by now lives as long as the process: looking through it at each collection cost
# every tenth of a webhook's time, in pauses.
gc.collect()
gc.freeze()
# A request leaves next to nothing in cycles; looking for them every 700 objects cost as much.
gc.set_threshold(50_000, 20, 20)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
sys.exit(main(SERVICE))
