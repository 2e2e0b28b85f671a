"""`python -m services.ingest api | migrate | check-config`."""

import asyncio
import sys

import uvloop

from services.ingest.wiring import SERVICE
from shared.runtime.service import main

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
sys.exit(main(SERVICE))
