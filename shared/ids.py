"""Identifiers. Ids of ours that follow from a cause are uuid5 of it: a replay makes equal rows."""

from __future__ import annotations

import hashlib
import uuid

NAMESPACE = uuid.UUID("6f0a3f4e-5d5e-5b52-9d43-2f7f6e1c0a11")
"""Namespace of every derived id of this project."""


def derived_id(*cause: str) -> str:
    """The id that follows from `cause`; equal causes give equal ids in every process."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(cause)))


def digest(*parts: str) -> str:
    """32 hexadecimal digits of SHA-256 over `parts`, for event ids and fingerprints."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
