"""`python -m deploy.containers secrets <folder> | roles`."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.containers.database_roles import make_roles
from deploy.containers.secret_files import make_secrets
from shared.errors import Misconfigured
from shared.settings import SECRETS_DIRECTORY_VARIABLE

USAGE = "usage: python -m deploy.containers secrets <folder> | roles\n"


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit code."""
    try:
        match arguments:
            case ["secrets", folder]:
                made = make_secrets(Path(folder))
                sys.stdout.write(f"made: {', '.join(made) or 'nothing, all are there'}\n")
            case ["roles"]:
                asyncio.run(make_roles(Path(os.environ.get(SECRETS_DIRECTORY_VARIABLE, ""))))
            case _:
                sys.stderr.write(USAGE)
                return 2
    except Misconfigured as fault:
        sys.stderr.write(f"deploy.containers: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
