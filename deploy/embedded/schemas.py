"""Brings the schemas of all services up to date: `python -m deploy.embedded.schemas`.

The same as `python -m services.<name> migrate` for each, in one process: most of what such a
process does is to load the same libraries. Reads `ATTAIN_<NAME>_DATABASE_URL` of each service.
"""

import os
import sys

from deploy.embedded.services import WITH_TABLES, database_variable
from shared.db.migrate import upgrade


def main() -> int:
    """Upgrade them one after the other; the exit code."""
    for service in WITH_TABLES:
        upgrade(service, os.environ[database_variable(service)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
