"""What this service reads, and under which name its positions are kept."""

from __future__ import annotations

from shared.events.catalogue import (
    CRM_ACTIVITIES,
    CRM_BILLING,
    CRM_DEALS,
    CRM_PEOPLE,
    CRM_REFERENCE,
    METRICS_TARGETS,
)

GROUP = "commissions"

TOPICS = (CRM_REFERENCE, CRM_PEOPLE, METRICS_TARGETS, CRM_DEALS, CRM_BILLING, CRM_ACTIVITIES)
"""Everything that pay rests on: a close waits until all of it has been read."""
