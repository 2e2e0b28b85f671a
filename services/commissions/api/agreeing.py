"""What the routes of adjustments, overrides and disputes have in common."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import StringConstraints

from services.commissions.api.context import ID_PATTERN, Decision, not_found
from shared.clock import to_text
from shared.http.auth import Principal, Role, require
from shared.http.idempotency import HEADER
from shared.http.models import WireModel
from shared.ids import derived_id
from shared.org.visibility import visible_filter, visible_people

Proposer = Annotated[Principal, require(Role.MANAGER, Role.FINANCE, Role.COMP_ADMIN)]
Raiser = Annotated[Principal, require(Role.REP, Role.MANAGER, Role.FINANCE, Role.COMP_ADMIN)]

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=ID_PATTERN)]
Said = Annotated[str, StringConstraints(min_length=3, max_length=2_000, pattern=r"^[^\x00]+$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=20)]
AgreementId = Annotated[str, Path(min_length=1, max_length=100, pattern=ID_PATTERN)]


class Reason(WireModel):
    """Why."""

    reason: Said


def check_sees(by: Decision, principal: Principal, person: str, what: str) -> None:
    """Raises Refused (404) for somebody whose numbers the caller does not see."""
    visible = visible_filter(
        visible_people(
            principal.roles, principal.person_id, by.reference.org, by.today, principal.scopes
        )
    )
    if visible is not None and person not in visible:
        raise not_found(what)


def new_id(request: Request, kind: str, by: Decision) -> str:
    """The id of what this request creates: another one for each Idempotency-Key and instant."""
    return derived_id(kind, by.person, request.headers.get(HEADER, ""), to_text(by.now))
