"""`python -m services.commissions api | consumer | migrate | rebuild | check-config`."""

import sys

from services.commissions.wiring import SERVICE
from shared.runtime.service import main

if __name__ == "__main__":
    sys.exit(main(SERVICE))
