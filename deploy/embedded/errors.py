"""What goes wrong with a stack, in words for the person who started it."""


class StackError(Exception):
    """The stack cannot go on. The text says what is wrong, where, and what to do about it."""


class StartFailed(StackError):
    """A process ended, or was not ready in time. `log` is the end of what it wrote."""

    def __init__(self, name: str, reason: str, log: str) -> None:
        """Name the process, why its start failed, and the end of its log."""
        self.name = name
        self.log = log
        super().__init__(f"{name} did not start: {reason}\n{log}".rstrip())


class PortBusy(StackError):
    """A port that was asked for is in use."""

    def __init__(self, port: int, setting: str) -> None:
        """Name the port and the setting that asked for it."""
        super().__init__(
            f"Port {port} ({setting}) is already in use. Free it, or set {setting} to another "
            "port, or unset it to have one chosen."
        )
