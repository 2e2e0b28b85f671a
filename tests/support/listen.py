"""Sockets for local servers of tests and of the demo."""

from __future__ import annotations

import secrets
import socket

LOWEST_PORT = 20_000
HIGHEST_PORT = 32_767
"""Ports are chosen below the ephemeral range, which outgoing connections take from."""
TRIES = 50


def bound_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound TCP socket on `port`, or on a free one for 0.

    Bound here and handed to the server, so that nobody else can take the port in between.
    Raises OSError when the given port, or every tried one, is busy.
    """
    if port:
        return _bound(host, port)
    error = OSError("no port was tried")
    for _ in range(TRIES):
        candidate = LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT + 1)
        try:
            return _bound(host, candidate)
        except OSError as busy:
            error = busy
    raise error


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.settimeout(0)  # servers of asyncio want it non-blocking
    except OSError:
        listener.close()
        raise
    return listener
