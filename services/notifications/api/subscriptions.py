"""Subscriptions: how somebody wants to hear. Owned here; every change is on the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response

from services.notifications.api.alerts import PEOPLE
from services.notifications.api.models import (
    SubscriptionBody,
    SubscriptionView,
    subscription_view,
)
from services.notifications.domain.routing import ChannelKind
from services.notifications.store import people as people_store
from services.notifications.store.people import StoredSubscription
from shared.clock import WallClock
from shared.errors import InvalidValue, Refused
from shared.facts.settle import raise_reference_version
from shared.http.auth import Forbidden, Principal, Role, require
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag
from shared.org.visibility import SCOPE_ALL_PEOPLE

if TYPE_CHECKING:
    from shared.db.pool import Pool

Reader = Annotated[Principal, require(*PEOPLE, scopes=["notifications:read"])]
Writer = Annotated[
    Principal,
    require(
        Role.REP,
        Role.MANAGER,
        Role.COMP_ADMIN,
        Role.FINANCE,
        Role.ADMIN,
        scopes=["notifications:write"],
    ),
]
PersonId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f|@/*]+$")]

router = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"])


@router.get("/{person}")
async def subscription(
    request: Request, response: Response, principal: Reader, person: PersonId
) -> SubscriptionView:
    """What a person chose; 404 while they go by the defaults (mail, and the Slack channel)."""
    _refuse_others(principal, person, {Role.ADMIN, Role.AUDITOR, Role.SERVICE})
    pool: Pool = request.app.state.parts.pool
    stored = await people_store.subscription_of(pool, person)
    if stored is None:
        code, msg = "not-found", "This person chose nothing yet and hears by the defaults."
        raise Refused(code, msg, status=404)
    response.headers["ETag"] = etag(stored.revision)
    return subscription_view(stored)


@router.put("/{person}")
async def put_subscription(  # noqa: PLR0913, PLR0917 - one argument a header or part of the path
    request: Request,
    response: Response,
    principal: Writer,
    person: PersonId,
    body: SubscriptionBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> SubscriptionView:
    """State how a person hears from now on: one's own, or anybody's for an admin."""
    _refuse_others(principal, person, {Role.ADMIN, Role.SERVICE})
    chosen = body.chosen()
    hook = chosen.get(ChannelKind.SLACK_WEBHOOK)
    if hook is not None and hook not in request.app.state.webhook_names:
        msg = "no Slack webhook of this name is configured"
        raise InvalidValue(msg, pointer="/channels")
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        # First of all locks: whoever routes sees this subscription, or ends before it.
        await raise_reference_version(tx)
        stored = await people_store.subscription_of(tx, person)
        check_write(
            None if stored is None else etag(stored.revision),
            if_match=if_match,
            if_none_match=if_none_match,
        )
        revision = 1 if stored is None else stored.revision + 1
        saved = StoredSubscription(person, chosen, revision, WallClock().now())
        await people_store.save_subscription(tx, saved, changed_by=principal.subject)
    response.headers["ETag"] = etag(saved.revision)
    return subscription_view(saved)


def _refuse_others(principal: Principal, person: str, allowed: set[Role]) -> None:
    """Everybody decides about themselves; for others it takes one of these roles."""
    roles = principal.roles
    if SCOPE_ALL_PEOPLE not in principal.scopes:
        roles -= {Role.SERVICE}  # a machine without it sees nobody
    if principal.person_id != person and roles.isdisjoint(allowed):
        msg = "This is somebody else's to see and to decide."
        raise Forbidden(msg)
