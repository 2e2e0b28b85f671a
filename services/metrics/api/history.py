"""Versions of anything stated, as pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.metrics import versions
from services.metrics.api.target_models import VersionView
from shared.http.paging import Page, PageRequest, page_of

if TYPE_CHECKING:
    from shared.db.pool import Connection


async def version_page(tx: Connection, kind: str, id_: str, page: PageRequest) -> Page[VersionView]:
    """Versions of one thing, the newest first. The caller's right to see it is checked before."""
    after = page.after(int)
    before = None if after is None else int(after[0])
    rows = await versions.versions_of(tx, kind, id_, before=before, limit=page.fetch)
    return page_of(
        rows,
        page,
        key=lambda row: (row["revision"],),
        show=lambda row: VersionView(
            revision=row["revision"],
            changed_at=row["changed_at"],
            changed_by=row["changed_by"],
            document=versions.document_of(row),
        ),
    )
