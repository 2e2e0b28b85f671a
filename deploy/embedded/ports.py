"""Ports on the loopback interface, configured or chosen free.

Chosen ones lie below the ephemeral range: a port inside it can be taken at any moment by
somebody's outgoing connection, between our looking and the server's binding.
"""

import random
import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from deploy.embedded.errors import PortBusy, StackError

LOOPBACK = "127.0.0.1"
LOWEST = 10_240  # below it live the well-known and many registered services
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_START = 32_768
SMALLEST_CHOICE = 1_000  # ports; with fewer, the configured ephemeral range leaves no room
TRIES = 200
HIGHEST_PORT = 65_535


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. Sockets in TIME_WAIT do not hinder it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def ephemeral_start() -> int:
    """First port of the range that outgoing connections use on this machine."""
    try:
        start = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return DEFAULT_EPHEMERAL_START
    return start if start >= LOWEST + SMALLEST_CHOICE else DEFAULT_EPHEMERAL_START


def free_port(taken: AbstractSet[int] = frozenset()) -> int:
    """Choose a port that is free now, below the ephemeral range and not in `taken`."""
    end = min(ephemeral_start(), DEFAULT_EPHEMERAL_START)
    for _ in range(TRIES):
        port = random.SystemRandom().randrange(LOWEST, end)
        if port not in taken and is_free(port):
            return port
    raise StackError(f"No free port found between {LOWEST} and {end} in {TRIES} tries.")


class Ports:
    """The ports of one stack: configured first, then the last run's if still free, else chosen."""

    def __init__(self, environment: Mapping[str, str], last: Mapping[str, int]) -> None:
        """`environment` may hold `ATTAIN_PORT_<NAME>`; `last` is what the run before used."""
        self._environment = environment
        self._last = last
        self.chosen: dict[str, int] = {}

    def is_configured(self, name: str) -> bool:
        """Whether the person asked for this very port."""
        return bool(self._environment.get(setting_of(name)))

    def take(self, name: str, *, avoid: int | None = None) -> int:
        """Port for `name`. `avoid` is one that has just been found busy.

        Raises: PortBusy if a configured port is in use; StackError if it is no port number.
        """
        if self.is_configured(name):
            port = _configured(self._environment[setting_of(name)], setting_of(name))
        else:
            port = self._unconfigured(name, avoid)
        self.chosen[name] = port
        return port

    def _unconfigured(self, name: str, avoid: int | None) -> int:
        taken = {port for other, port in self.chosen.items() if other != name}
        taken |= {port for other, port in self._last.items() if other != name}
        if avoid is not None:
            taken.add(avoid)
        last = self._last.get(name)
        if last is not None and last not in taken and is_free(last):
            return last
        return free_port(taken)


def setting_of(name: str) -> str:
    """Environment variable that configures the port of `name`."""
    return f"ATTAIN_PORT_{name.upper().replace('-', '_')}"


def _configured(text: str, setting: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 0 < port <= HIGHEST_PORT:
        raise StackError(f"{setting} is {text!r}; it must be a port between 1 and {HIGHEST_PORT}.")
    if not is_free(port):
        raise PortBusy(port, setting)
    return port
