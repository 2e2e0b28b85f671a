"""What every channel offers."""

from __future__ import annotations

from typing import Protocol

from services.notifications.domain.attempts import Outcome
from services.notifications.domain.messages import OutgoingMessage
from services.notifications.domain.routing import ChannelKind


class Channel(Protocol):
    """One way to reach people."""

    @property
    def kind(self) -> ChannelKind:
        """Which of the channels this is."""
        ...

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Try once to send `message`, within the channel's own time limit.

        Failures are outcomes and are not raised; only cancellation comes through. A try whose
        end is unknown is a retry, so a message can arrive twice: at least once, never lost.
        """
        ...
