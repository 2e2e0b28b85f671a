"""Estimates: what a deal would pay."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from services.commissions.api.assignments import Currency, Text
from services.commissions.api.context import Reader, not_found, snapshot
from services.commissions.whatif.estimate import (
    ComponentEstimate,
    Estimate,
    Hypothesis,
    deal_members,
    estimates,
    hypothetical_event,
)
from shared.http.models import DecimalText, Instant, WireModel

router = APIRouter(prefix="/v1/estimates", tags=["estimates"])

Share = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9]{1,3}(\.[0-9]{1,10})?%|[0-9]{1,6}(/[1-9][0-9]{0,5})?)$", max_length=40
    ),
]
Word = Annotated[str, StringConstraints(max_length=4_000)]
Shares = Annotated[dict[Text, Share], Field(max_length=100)]


class HypotheticalDeal(WireModel):
    """A deal as it would be won. id: a deal of the CRM's, whose values fill what is not given."""

    id: Text | None = None
    amount: DecimalText | None = None
    currency: Currency | None = None
    owner: Text | None = None
    splits: Shares | None = None
    overlays: Shares | None = None
    type: Word | None = None
    product: Word | None = None
    pipeline: Word | None = None
    name: Word | None = None
    closed_at: Instant | None = Field(default=None, description="now, when not given")


class EstimateRequest(WireModel):
    """payee: only this person's part."""

    deal: HypotheticalDeal
    payee: Text | None = None


class NextTierView(WireModel):
    """Where the measure stands after the deal, and how much is missing to the next rate."""

    measure: DecimalText
    begins_at: DecimalText
    missing: DecimalText
    rate: DecimalText


class ComponentView(WireModel):
    """One component's earnings of the fiscal year without and with the deal."""

    component: str
    before: DecimalText
    after: DecimalText
    delta: DecimalText
    next_tier: NextTierView | None


class EstimateView(WireModel):
    """What one payee would get. before, after: earnings of the fiscal year, caps applied."""

    payee: str
    plan: str
    period: str
    currency: str
    before: DecimalText
    after: DecimalText
    delta: DecimalText
    payable_before: DecimalText
    payable_after: DecimalText
    components: list[ComponentView]


class EstimateAnswer(WireModel):
    """waiting: what would keep credits from being paid. on_no_plan: members without a plan."""

    estimates: list[EstimateView]
    waiting: list[str]
    on_no_plan: list[str]


@router.post("")
async def estimate(request: Request, principal: Reader, body: EstimateRequest) -> EstimateAnswer:
    """What a deal would pay the people whom the caller sees. Nothing is recorded."""
    deal = body.deal
    async with snapshot(request, principal) as view:
        names = ("type", "product", "pipeline", "name")
        said = Hypothesis(
            deal_id=deal.id,
            instant=deal.closed_at or view.now,
            amount=deal.amount,
            currency=deal.currency,
            owner=deal.owner,
            splits=deal.splits,
            overlays=deal.overlays,
            fields={name: value for name in names if (value := getattr(deal, name)) is not None},
        )
        event = await hypothetical_event(view.tx, said, view.reference)
        if event is None:
            raise not_found("deal")
        if deal.id is not None and view.visible is not None:
            members = await deal_members(view.tx, deal.id, view.now, view.reference)
            if not any(view.sees(member) for member in members):
                raise not_found("deal")
        found, waiting, on_no_plan = await estimates(view.tx, event, view.reference)
        seen = [
            _view(one) for one in found if view.sees(one.payee) and body.payee in {None, one.payee}
        ]
    return EstimateAnswer(
        estimates=seen,
        waiting=sorted({e.message for e in waiting if e.payee is None or view.sees(e.payee)}),
        on_no_plan=[member for member in on_no_plan if view.sees(member)],
    )


def _view(found: Estimate) -> EstimateView:
    return EstimateView(
        payee=found.payee,
        plan=found.plan,
        period=found.period,
        currency=found.currency,
        before=found.before,
        after=found.after,
        delta=found.delta,
        payable_before=found.payable_before,
        payable_after=found.payable_after,
        components=[_component_view(component) for component in found.components],
    )


def _component_view(found: ComponentEstimate) -> ComponentView:
    tier = found.next_tier
    return ComponentView(
        component=found.component,
        before=found.before,
        after=found.after,
        delta=found.after - found.before,
        next_tier=None
        if tier is None
        else NextTierView(
            measure=tier.measure,
            begins_at=tier.begins_at,
            missing=tier.missing,
            rate=tier.rate,
        ),
    )
