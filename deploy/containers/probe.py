"""Health of a container: whether the process in it says it is able. No secret, no shell.

A script for `python -S`, so that a probe every few seconds costs little.
"""

import http.client
import sys

PORT = 8080
TIMEOUT_S = 4.0
OK = 200


def is_ready(port: int) -> bool:
    """Whether `/readyz` on this machine answers that the process is able."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(PORT) else 1)
