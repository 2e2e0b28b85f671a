"""Who is calling, and what each route demands of them. Deny by default.

Every route names its demand: `require(...)` or `public("why")`. The application factory refuses
to start with a route that names none. What a permitted caller *sees* is decided elsewhere, by
the visibility filter, which is given the `Principal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts

from shared.errors import Misconfigured, Refused

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

    from shared.http.tokens import TokenVerifier


class Role(StrEnum):
    """What a person is in this deployment. `service` is a machine with client credentials."""

    REP = "rep"
    MANAGER = "manager"
    COMP_ADMIN = "comp_admin"
    FINANCE = "finance"
    AUDITOR = "auditor"
    ADMIN = "admin"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller.

    subject: the token's `sub`, unique with the issuer.
    person_id: the person in the organisation, `provider:tenant:id`; None for machines and for
        people who are in no reporting line.
    scopes: what a machine may do, such as `ingest:write`.
    """

    subject: str
    person_id: str | None = None
    roles: frozenset[Role] = field(default_factory=frozenset)
    scopes: frozenset[str] = field(default_factory=frozenset)


class Unauthenticated(Refused):
    """No token, or none that can be trusted. Why exactly is logged and not told."""

    def __init__(self, message: str, *, reason: str = "", token_given: bool = True) -> None:
        super().__init__("unauthenticated", message, status=401)
        self.reason = reason
        challenge = 'Bearer realm="attain"'
        if token_given:
            challenge += ', error="invalid_token"'
        self.headers: Mapping[str, str] = {"WWW-Authenticate": challenge}


class Forbidden(Refused):
    """The token is good, and does not permit this."""

    def __init__(self, message: str) -> None:
        super().__init__("forbidden", message, status=403)
        self.headers: Mapping[str, str] = {
            "WWW-Authenticate": 'Bearer realm="attain", error="insufficient_scope"'
        }


@dataclass(frozen=True, slots=True)
class Permission:
    """A route's demand: one of `roles`, or, for a machine, all of `scopes`.

    With neither, any verified caller will do.
    """

    roles: frozenset[Role]
    scopes: frozenset[str]

    def admits(self, principal: Principal) -> bool:
        """Whether `principal` meets the demand."""
        if not self.roles and not self.scopes:
            return True
        if self.roles & principal.roles:
            return True
        is_machine = Role.SERVICE in principal.roles
        return is_machine and bool(self.scopes) and self.scopes <= principal.scopes

    async def __call__(self, request: Request) -> Principal:
        """FastAPI dependency: the verified and permitted caller."""
        principal = await _verifier(request).authenticate(request.headers.getlist("authorization"))
        if not self.admits(principal):
            raise Forbidden(self._wanted())
        request.state.principal = principal
        return principal

    def _wanted(self) -> str:
        roles = ", ".join(sorted(self.roles))
        scopes = " ".join(sorted(self.scopes))
        parts = [f"one of the roles {roles}"] if roles else []
        parts += [f"a client with the scopes {scopes}"] if scopes else []
        return f"This needs {' or '.join(parts)}."


@dataclass(frozen=True, slots=True)
class Public:
    """A route that needs no token, and why: for instance, its body is signed."""

    reason: str

    async def __call__(self) -> None:
        """FastAPI dependency: nothing to check here."""


def require(*roles: Role, scopes: Iterable[str] = ()) -> Any:  # noqa: ANN401 - as fastapi.Depends
    """Marks a parameter as the caller and declares what the route demands.

    `principal: Annotated[Principal, require(Role.MANAGER, Role.COMP_ADMIN)]`, or, where the
    caller does not matter further, `dependencies=[require(Role.ADMIN)]`.
    """
    return Depends(Permission(frozenset(roles), frozenset(scopes)))


def public(reason: str) -> Any:  # noqa: ANN401 - as fastapi.Depends
    """Declares that a route takes no token: `dependencies=[public("verified by signature")]`."""
    return Depends(Public(reason))


def refuse_undeclared_routes(app: FastAPI) -> None:
    """Raises Misconfigured, naming every route that declares no permission."""
    missing = [
        f"{','.join(sorted(context.methods or ()))} {context.path}"
        for context in iter_route_contexts(app.routes)
        if not _declares(getattr(context, "dependant", None))
        and context.endpoint not in app.state.open_endpoints
    ]
    if missing:
        msg = "routes without a declared permission (require or public): " + "; ".join(missing)
        raise Misconfigured(msg)


def _declares(dependant: Dependant | None) -> bool:
    if dependant is None:
        return False
    if isinstance(dependant.call, Permission | Public):
        return True
    return any(_declares(inner) for inner in dependant.dependencies)


def _verifier(request: Request) -> TokenVerifier:
    verifier: TokenVerifier = request.app.state.verifier
    return verifier
