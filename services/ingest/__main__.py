"""`python -m services.ingest api | migrate | check-config`."""

import sys

from services.ingest.wiring import SERVICE
from shared.runtime.service import main

sys.exit(main(SERVICE))
