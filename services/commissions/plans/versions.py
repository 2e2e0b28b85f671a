"""Saving plan versions, and where a plan is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from services.commissions.begun import add_activity_roots, mark_uncredited
from services.commissions.domain.plan import Plan, PlanVersion
from services.commissions.events import write_events
from services.commissions.needs import ACTIVITIES, UNCREDITED, needs_of
from services.commissions.store import canonical_json
from shared.errors import Refused
from shared.events.journals import PLAN_KEEPING, PLAN_VERSION, PlanKeepingData, PlanVersionData

if TYPE_CHECKING:
    from shared.db.pool import Connection

KeptIn = Literal["files", "api"]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to save: its number, what it means, and its document as it was sent."""

    version: int
    parsed: PlanVersion
    document: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """`plan/<id>/<version>`."""
        return f"plan/{self.parsed.id}/{self.version}"


async def is_saved(tx: Connection, new: NewVersion) -> bool:
    """Whether this version is saved already.

    Raises Refused (409): the number is taken by other content, or the content has another number.
    """
    rows = await tx.fetch(
        "SELECT version, hash FROM plan_version WHERE plan_id = $1 AND (version = $2 OR hash = $3)",
        new.parsed.id,
        new.version,
        new.parsed.hash,
    )
    found = {row["version"]: row["hash"] for row in rows}
    if found.get(new.version) == new.parsed.hash:
        return True
    if new.version in found:
        msg = f"version {new.version} is saved and cannot change; save it as a new version"
        raise Refused("plan-version-immutable", msg)
    if found:
        msg = f"version {next(iter(found))} of this plan has the same content"
        raise Refused("plan-version-exists", msg)
    return False


def check_follows(plan: Plan | None, parsed: PlanVersion) -> None:
    """Whether it can stand beside the plan's other versions. Raises PlanInvalid."""
    if plan is not None:
        Plan(parsed.id, (*plan.versions, parsed))


async def save_version(
    tx: Connection, new: NewVersion, *, actor: str, now: datetime, confirmed_by: str | None = None
) -> None:
    """Store a version that is not saved, and journal it."""
    await insert_version(tx, new, actor)
    data = PlanVersionData(
        plan=new.parsed.id,
        version=new.version,
        hash=new.parsed.hash,
        document=dict(new.document),
        actor=actor,
        confirmed_by=confirmed_by,
    )
    await write_events(tx, PLAN_VERSION, [(new.subject, 1, data)], now)


async def insert_version(tx: Connection, new: NewVersion, actor: str) -> None:
    """Store a version, within the transaction that raised the version of reference data."""
    parsed = new.parsed
    needs = needs_of(parsed)
    await tx.execute(
        "INSERT INTO plan_version (plan_id, version, hash, name, effective_from, effective_to, "
        "document, saved_by, needs) VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8, $9)",
        parsed.id,
        new.version,
        parsed.hash,
        parsed.name,
        parsed.effective.first,
        parsed.effective.last,
        canonical_json(new.document),
        actor,
        sorted(needs),
    )
    if UNCREDITED in needs:
        await mark_uncredited(tx, parsed.id)
    if ACTIVITIES in needs:
        await add_activity_roots(tx)


async def check_keeping(
    tx: Connection, plan_id: str, kept_in: KeptIn, *, actor: str, now: datetime
) -> None:
    """Whether the plan is changed where it is kept; a new one is kept where it is saved first.

    Raises Refused (409).
    """
    stored = await kept_where(tx, plan_id)
    if stored == "api" and kept_in == "files":
        is_new = not await tx.fetchval(
            "SELECT EXISTS (SELECT FROM plan_version WHERE plan_id = $1)", plan_id
        )
        if is_new:
            await keep_in(tx, plan_id, "files", actor=actor, now=now)
            return
    if stored == kept_in:
        return
    if stored == "files":
        msg = (
            f"{plan_id} is kept in files: change the file and apply it, "
            "or release it with `attain plan apply --release`"
        )
        raise Refused("plan-kept-in-files", msg)
    msg = f"{plan_id} is not kept in files: adopt it with `attain plan apply --adopt`"
    raise Refused("plan-not-kept-in-files", msg)


async def kept_where(tx: Connection, plan_id: str) -> KeptIn:
    """Where a plan is kept; over the API where nobody said otherwise."""
    stored: KeptIn | None = await tx.fetchval(
        "SELECT kept_in FROM plan_keeping WHERE plan_id = $1", plan_id
    )
    return stored or "api"


async def keep_in(
    tx: Connection, plan_id: str, kept_in: KeptIn, *, actor: str, now: datetime
) -> None:
    """Keep a plan there from now on."""
    row = await tx.fetchrow(
        "INSERT INTO plan_keeping AS k (plan_id, kept_in, revision, changed_by) "
        "VALUES ($1, $2, 1, $3) ON CONFLICT (plan_id) DO UPDATE SET kept_in = excluded.kept_in, "
        "revision = k.revision + 1, changed_by = excluded.changed_by, changed_at = now() "
        "WHERE k.kept_in <> excluded.kept_in RETURNING revision",
        plan_id,
        kept_in,
        actor,
    )
    if row is not None:
        data = PlanKeepingData(plan=plan_id, kept_in=kept_in, revision=row["revision"], actor=actor)
        said = (f"plan_keeping/{plan_id}", data.revision, data)
        await write_events(tx, PLAN_KEEPING, [said], now)
