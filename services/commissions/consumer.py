"""What this service listens to."""

from __future__ import annotations

from services.commissions.readers import READERS
from services.commissions.sources import TOPICS
from shared.runtime.consume import Subscription

SUBSCRIPTION = Subscription(
    topics=TOPICS,
    readers=READERS,
)
