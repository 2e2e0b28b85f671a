"""Quotas as they are shown, and bodies as terms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from services.metrics.api.target_models import QuotaBody, QuotaDetail, QuotaView
from services.metrics.quota_figures import previews
from services.metrics.quotas import Quota
from shared.events.planned import AwayData, QuotaChangeData, QuotaTermsData, TakenOffData
from shared.money import parse_decimal, to_text
from shared.org.people import Org


def said_of(body: QuotaBody, reliefs: Sequence[TakenOffData]) -> QuotaTermsData:
    """The terms that a body states, with what is taken off already."""
    return QuotaTermsData(
        amount=to_text(body.amount),
        method=body.method,
        from_=_text(body.first_day),
        to=_text(body.last_day),
        changes=[
            QuotaChangeData(
                from_=change.first_day.isoformat(),
                amount=to_text(change.amount),
                reason=change.reason,
            )
            for change in body.changes
        ],
        ramp=list(body.ramp),
        ramp_from=_text(body.ramp_from),
        leave=[
            AwayData(
                from_=away.first_day.isoformat(),
                to=away.last_day.isoformat(),
                reason=away.reason,
            )
            for away in body.leave
        ],
        reliefs=list(reliefs),
    )


def view(found: Quota) -> QuotaView:
    """A quota in a list."""
    return QuotaView.model_validate(_fields(found))


def detail(found: Quota, org: Org) -> QuotaDetail:
    """A quota by itself."""
    terms = found.terms
    reliefs = [] if terms is None else terms.reliefs
    return QuotaDetail.model_validate(
        {
            **_fields(found),
            "present_from": None if terms is None else terms.present_from,
            "present_to": None if terms is None else terms.present_to,
            "reliefs": [
                {
                    "number": r.number,
                    "amount": None if r.amount is None else parse_decimal(r.amount),
                    "share": r.share,
                    "reason": r.reason,
                    "before": parse_decimal(r.before),
                    "after": parse_decimal(r.after),
                }
                for r in reliefs
            ],
            "by_method": previews(found, org),
        }
    )


def _fields(found: Quota) -> dict[str, Any]:
    terms = found.terms or QuotaTermsData(amount="0", method="stated")
    return {
        "id": found.id,
        "person": found.person,
        "team": found.team,
        "measure": found.measure,
        "period": found.period,
        "amount": found.stated,
        "currency": found.currency,
        "method": terms.method,
        "from": terms.from_,
        "to": terms.to,
        "changes": [
            {"from": c.from_, "amount": c.amount, "reason": c.reason} for c in terms.changes
        ],
        "ramp": terms.ramp,
        "ramp_from": terms.ramp_from,
        "leave": [{"from": a.from_, "to": a.to, "reason": a.reason} for a in terms.leave],
        "in_force": found.amount,
        "start": found.start_day,
        "end": found.end_day,
        "revision": found.revision,
        "changed_at": found.changed_at,
        "changed_by": found.changed_by,
    }


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
