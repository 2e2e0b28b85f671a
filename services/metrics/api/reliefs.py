"""Reliefs: asked for with a reason, agreed to by a second person, and only then in the figure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response

from services.metrics import quotas as quota_store
from services.metrics.api.common import Reader
from services.metrics.api.quotas import QuotaId, Writer, seen_quota
from services.metrics.api.sight import Sight, not_found, sight_of
from services.metrics.api.target_models import ReliefBody, ReliefView
from services.metrics.quota_figures import figured
from services.metrics.quotas import Quota
from services.metrics.reliefs import State, StoredRelief, reliefs_of, save_relief
from shared.errors import Refused
from shared.events.planned import QuotaTermsData, TakenOffData
from shared.http.auth import Principal, Role, require
from shared.http.idempotency import IdempotencyKey, IdempotencyStore, answer_of
from shared.http.paging import Page, listed
from shared.money import parse_decimal, to_text

if TYPE_CHECKING:
    from shared.db.pool import Connection, Pool

Asker = Annotated[
    Principal, require(Role.MANAGER, Role.COMP_ADMIN, Role.ADMIN, scopes=["metrics:write"])
]
Number = Annotated[int, Path(ge=1, le=1_000_000)]

router = APIRouter(prefix="/v1/quotas/{quota_id}/reliefs", tags=["quotas"])


@router.get("", response_model=Page[ReliefView])
async def reliefs(request: Request, principal: Reader, quota_id: QuotaId) -> object:
    """Every relief of a quota, refused and withdrawn ones too, in the order of asking."""
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx:
        sight = await sight_of(request, principal, tx)
        await seen_quota(tx, sight, quota_id)
        rows = await reliefs_of(tx, quota_id)
    return listed(request, Page[ReliefView](data=[_view(row) for row in rows]), ReliefView)


@router.post("", status_code=201, response_model=ReliefView)
async def ask_relief(
    request: Request,
    principal: Asker,
    quota_id: QuotaId,
    body: ReliefBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask for something to be taken off a quota. It counts once somebody else approves it."""
    del idempotency_key  # read from the request, with its fingerprint
    pool: Pool = request.app.state.parts.pool
    keys: IdempotencyStore = request.app.state.idempotency
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        quota = await seen_quota(tx, sight, quota_id, lock=True)
        async with keys.slot(tx, request, principal, now=sight.now) as slot:
            if slot.replay is None:
                known = await reliefs_of(tx, quota_id)
                relief = StoredRelief(
                    quota_id=quota_id,
                    number=len(known) + 1,
                    amount=body.amount,
                    share=body.share,
                    reason=body.reason,
                    state="proposed",
                    asked_by=principal.subject,
                    asked_at=sight.now,
                    decided_by=None,
                    decided_at=None,
                    before_amount=None,
                    after_amount=None,
                    one_seat=False,
                    revision=1,
                )
                counting = [r for r in known if r.state == "approved"]
                _relieved(quota, [*counting, relief], sight)  # refuses what takes off too much
                await save_relief(tx, relief, principal.subject, sight.now)
                slot.save(201, _view(relief))
    return answer_of(slot)


@router.post("/{number}/approve")
async def approve(
    request: Request, principal: Writer, quota_id: QuotaId, number: Number
) -> ReliefView:
    """Agree to a relief that somebody else asked for; the figure in force changes with it."""
    return await _decide(request, principal, quota_id, number, "approved")


@router.post("/{number}/refuse")
async def refuse(
    request: Request, principal: Writer, quota_id: QuotaId, number: Number
) -> ReliefView:
    """Refuse a relief that was asked for."""
    return await _decide(request, principal, quota_id, number, "refused")


@router.post("/{number}/withdraw")
async def withdraw(
    request: Request, principal: Writer, quota_id: QuotaId, number: Number
) -> ReliefView:
    """Take back a relief, also an approved one: what it took off is in the figure again."""
    return await _decide(request, principal, quota_id, number, "withdrawn")


async def _decide(
    request: Request, principal: Principal, quota_id: str, number: int, state: State
) -> ReliefView:
    pool: Pool = request.app.state.parts.pool
    async with pool.acquire() as tx, tx.transaction():
        sight = await sight_of(request, principal, tx)
        quota = await seen_quota(tx, sight, quota_id, lock=True)
        known = {relief.number: relief for relief in await reliefs_of(tx, quota_id)}
        if number not in known:
            raise not_found("There is no such relief.")
        relief = known[number]
        one_seat = _is_one_seat(sight)
        _check_decision(relief, quota, principal, state, one_seat=one_seat)
        counted = relief.state == "approved"
        decided = replace(
            relief,
            state=state,
            decided_by=principal.subject,
            decided_at=sight.now,
            one_seat=one_seat and state == "approved" and relief.asked_by == principal.subject,
            revision=relief.revision + 1,
        )
        known[number] = decided
        if counted or state == "approved":
            counting = [r for r in known.values() if r.state == "approved"]
            changed = await _change_figure(tx, sight, quota, counting, principal.subject, relief)
            decided = _with_figures(decided, changed)
        await save_relief(tx, decided, principal.subject, sight.now)
    return _view(decided)


def _check_decision(
    relief: StoredRelief, quota: Quota, principal: Principal, state: State, *, one_seat: bool
) -> None:
    """Refuses what is decided already, and who asked for it or has it on their own quota."""
    if relief.state != "proposed" and (state, relief.state) != ("withdrawn", "approved"):
        raise Refused("already-decided", f"This relief is {relief.state}; ask for another one.")
    if state != "approved" or one_seat:
        return
    if relief.asked_by == principal.subject:
        msg = "A relief is approved by a second person; ask somebody else."
        raise Refused("same-person", msg)
    if principal.person_id is not None and quota.person == principal.person_id:
        raise Refused("own-quota", "Nobody decides about their own quota; ask somebody else.")


def _is_one_seat(sight: Sight) -> bool:
    """Whether exactly one active person works here."""
    org, active = sight.org, 0
    for person in org.person_ids:
        known = org.person(person, sight.today)
        active += known is not None and known.active
        if active > 1:
            return False
    return active == 1


async def _change_figure(  # noqa: PLR0913, PLR0917 - what changes, by whom and why
    tx: Connection,
    sight: Sight,
    quota: Quota,
    counting: list[StoredRelief],
    by: str,
    relief: StoredRelief,
) -> Quota:
    changed = replace(
        _relieved(quota, counting, sight),
        revision=quota.revision + 1,
        changed_at=sight.now,
        changed_by=by,
    )
    await quota_store.save_quota(tx, changed, f"relief {relief.number}: {relief.reason}")
    return changed


def _relieved(quota: Quota, counting: list[StoredRelief], sight: Sight) -> Quota:
    """The quota with these reliefs in its figure."""
    terms = quota.terms or QuotaTermsData(amount=to_text(quota.amount), method="stated")
    said = QuotaTermsData(
        amount=terms.amount,
        method=terms.method,
        from_=terms.from_,
        to=terms.to,
        changes=terms.changes,
        ramp=terms.ramp,
        ramp_from=terms.ramp_from,
        leave=terms.leave,
        reliefs=[relief.taken_off() for relief in sorted(counting, key=lambda r: r.number)],
    )
    return figured(quota, said, sight.org)


def _with_figures(relief: StoredRelief, quota: Quota) -> StoredRelief:
    taken: list[TakenOffData] = [] if quota.terms is None else quota.terms.reliefs
    for one in taken:
        if one.number == relief.number:
            return replace(
                relief,
                before_amount=parse_decimal(one.before),
                after_amount=parse_decimal(one.after),
            )
    return relief


def _view(relief: StoredRelief) -> ReliefView:
    return ReliefView(
        quota=relief.quota_id,
        number=relief.number,
        amount=relief.amount,
        share=relief.share,
        reason=relief.reason,
        state=relief.state,
        asked_by=relief.asked_by,
        asked_at=relief.asked_at,
        decided_by=relief.decided_by,
        decided_at=relief.decided_at,
        before=relief.before_amount,
        after=relief.after_amount,
        one_seat=relief.one_seat,
    )
