"""`python -m services.notifications api | consumer | migrate | rebuild | check-config`."""

import sys

from services.notifications.wiring import SERVICE
from shared.runtime.service import main

if __name__ == "__main__":
    sys.exit(main(SERVICE))
