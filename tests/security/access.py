"""Who may do what: the whole of it, in one table. What is not listed here is not allowed to exist.

A route that is added without an entry fails `test_access`. An entry says which people's roles and
which machine's scope the route admits, what is asked of it, about whom, and how somebody is
refused who asks about a person that is not theirs to see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.security.company import EVERYBODY, SOURCE, Caller, Company
from tests.security.year import (
    correction,
    goal,
    objective,
    open_deal,
    plan,
    standard,
    this_month,
    this_quarter,
    won_deal,
)


class Refused(Enum):
    """How an admitted caller is refused about somebody who is not theirs to see."""

    NOT_FOUND = 404
    FORBIDDEN = 403
    EMPTY = 200
    """A list, filtered to nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. path: with `{…}` filled in."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """What httpx is told."""
        told: dict[str, Any] = {"params": dict(self.params), "headers": dict(self.headers)}
        if self.json is not None:
            told["json"] = self.json
        if self.content is not None:
            told["content"] = self.content
        return told


Ask = Callable[[Company, str], Asked]
Sees = Callable[[Caller, str], bool]
World = Callable[[Caller], frozenset[str]]


def sees(caller: Caller, person: str) -> bool:
    """By the one rule of visibility."""
    return person in caller.sees


def world(caller: Caller) -> frozenset[str]:
    """A list without a filter shows exactly the people whom the caller sees."""
    return caller.sees


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may.

    roles: of people. scope: of machines; None for no machine. any_machine: whatever its scopes.
    about: the request speaks of one person, whom `sees` must let through.
    shows: whom the route, asked without a person, shows; None where no person shows.
    signed: takes no token at all, its body is signed.
    absent: what is asked for is not there, which only who is admitted is told.
    bare: the list has nothing yet, for anybody.
    """

    ask: Ask
    roles: frozenset[str] = frozenset()
    scope: str | None = None
    any_machine: bool = False
    about: bool = False
    sees: Sees = sees
    refused: Refused = Refused.NOT_FOUND
    shows: World | None = None
    everybody: Asked | None = None
    signed: bool = False
    absent: bool = False
    bare: bool = False

    def admits(self, caller: Caller) -> bool:
        """Whether the route is for such a caller at all."""
        if "service" in caller.roles:
            return self.any_machine or (self.scope is not None and self.scope in caller.scopes)
        return not self.roles.isdisjoint(caller.roles)


def people(*roles: str) -> frozenset[str]:
    """Roles."""
    return frozenset(roles)


READERS = people("rep", "manager", "comp_admin", "finance", "auditor", "admin")
OVERSEERS = people("finance", "comp_admin", "auditor", "admin")
PROPOSERS = people("manager", "comp_admin", "finance")
DECIDERS = people("comp_admin", "finance")
RAISERS = people("rep", "manager", "comp_admin", "finance")
REFERENCE = people("admin", "comp_admin")
REFERENCE_READERS = people("admin", "comp_admin", "finance", "auditor")
REASON = {"reason": "seen in a test"}
NO_LETTER = 999_999_999
EVER = {"from": "2025-01-01", "to": "2035-01-01"}


def plain(path: str, **more: Any) -> Ask:  # noqa: ANN401 - Asked's own
    """A request that speaks of nobody."""
    return lambda _company, _person: Asked(path, **more)


def of(path: str, **more: Any) -> Ask:  # noqa: ANN401 - Asked's own
    """A request whose path and parameters name the person, or what is theirs."""

    def ask(company: Company, person: str) -> Asked:
        text = json.dumps([path, more])
        for name, value in _things(company, person).items():
            text = text.replace(f"<{name}>", value)
        filled, told = json.loads(text)
        return Asked(filled, **told)

    return ask


def _things(company: Company, person: str) -> dict[str, str]:
    return {
        "person": person,
        "month": this_month(),
        "won": won_deal(person),
        "open": open_deal(person),
        "alert": company.ids[f"alert-{person}"],
        **{what: company.ids[f"{what}-{person}"] for what in ("adjustment", "override", "dispute")},
        "line": f"deal:{won_deal(person)}/plan-{person}/new/{person}",
    }


def reading(ask: Ask, scope: str, **more: Any) -> Rule:  # noqa: ANN401 - Rule's own
    """A route for every role, of which each sees their own part."""
    return Rule(ask, roles=READERS, scope=scope, **more)


def listing(path: str, scope: str, by: str, **more: Any) -> Rule:  # noqa: ANN401 - Rule's own
    """A list for every role, which can be filtered to a person."""
    chosen = {"refused": Refused.EMPTY, **more}
    params: dict[str, str] = chosen.pop("params", {})
    return reading(
        of(path, params={by: "<person>", **params}),
        scope,
        about=True,
        shows=world,
        everybody=Asked(path, params=params),
        **chosen,
    )


def letters(service: str) -> dict[str, Rule]:
    """Dead letters, the same everywhere."""
    path, scope = "/v1/dead-letters", f"{service}:admin"
    one = f"{path}/{NO_LETTER}"
    return {
        f"{service} GET {path}": Rule(plain(path), people("admin", "auditor"), scope),
        f"{service} POST {path}/{{letter_id}}/redrive": Rule(
            plain(f"{one}/redrive"), people("admin"), scope
        ),
        f"{service} POST {path}/{{letter_id}}/discard": Rule(
            plain(f"{one}/discard", json=REASON), people("admin"), scope
        ),
    }


def stated(path: str, record: str) -> dict[str, Rule]:
    """Reference data, the same for every kind."""
    one, scope = f"/v1/{path}/{record}", "reference:write"
    return {
        f"ingest PUT /v1/{path}/{{record_id}}": Rule(plain(one, json={}), REFERENCE, scope),
        f"ingest GET /v1/{path}/{{record_id}}": Rule(plain(one), REFERENCE_READERS, scope),
        f"ingest GET /v1/{path}": Rule(plain(f"/v1/{path}"), REFERENCE_READERS, scope),
    }


def reject(action: str, **more: Any) -> Ask:  # noqa: ANN401 - Asked's own
    """Something about the company's one reject."""
    return lambda company, _person: Asked(f"/v1/rejects/{company.ids['reject']}{action}", **more)


def pay_run(action: str, **more: Any) -> Ask:  # noqa: ANN401 - Asked's own
    """Something about a pay run that there is not."""
    return plain(f"/v1/payruns/nothing{action}", **more)


def proposed(template: str, path: str) -> dict[str, Rule]:
    """What is decided about a change of closed periods; nobody has proposed this one."""
    return {
        f"commissions POST /v1/{template}/{action}": Rule(
            plain(f"/v1/{path}/{action}"), DECIDERS, absent=True
        )
        for action in ("confirm", "withdraw")
    }


def agreed(what: str) -> dict[str, Rule]:
    """Adjustments and overrides: the same for both. Those of the company are somebody else's."""
    path, one = f"/v1/{what}s", f"/v1/{what}s/<{what}>"
    name = f"commissions POST {path}/{{{what}}}"
    body = correction(what, "<person>")
    return {
        f"commissions POST {path}": Rule(of(path, json=body), PROPOSERS, about=True),
        f"commissions GET {path}": listing(path, "commissions:read", "payee"),
        f"commissions GET {path}/{{{what}}}": reading(of(one), "commissions:read", about=True),
        f"{name}/approve": Rule(plain(f"{path}/nothing/approve"), DECIDERS, absent=True),
        f"{name}/reject": Rule(plain(f"{path}/nothing/reject", json=REASON), DECIDERS, absent=True),
        f"{name}/withdraw": Rule(of(f"{one}/withdraw"), PROPOSERS, about=True),
    }


def their_deliveries(caller: Caller) -> frozenset[str]:
    """All for admins, auditors and machines; for others those to themselves. zzmia was told."""
    told = frozenset({"zzmia"})
    if {"admin", "auditor", "service"} & set(caller.roles):
        return told if caller.sees == EVERYBODY else frozenset()
    return told & {str(caller.person)}


def own_or(*roles: str) -> Sees:
    """Oneself; anybody for these roles, and for a machine that sees everybody."""

    def may(caller: Caller, person: str) -> bool:
        if "service" in caller.roles:
            return "service" in roles and caller.sees == EVERYBODY
        return caller.person == person or not set(roles).isdisjoint(caller.roles)

    return may


INGEST: dict[str, Rule] = {
    "ingest POST /v1/events": Rule(
        plain(
            "/v1/events",
            content="[]",
            headers={"Content-Type": "application/cloudevents-batch+json"},
        ),
        people("admin"),
        "events:write",
    ),
    "ingest POST /v1/hooks/{source}": Rule(plain(f"/v1/hooks/{SOURCE}", json=[]), signed=True),
    "ingest PUT /v1/sources/{source_id}": Rule(
        plain(f"/v1/sources/{SOURCE}", json={}), people("admin")
    ),
    "ingest GET /v1/sources/{source_id}": Rule(
        plain(f"/v1/sources/{SOURCE}"), people("admin", "auditor")
    ),
    "ingest GET /v1/sources": Rule(plain("/v1/sources"), people("admin", "auditor")),
    "ingest GET /v1/rejects": Rule(plain("/v1/rejects"), people("admin", "comp_admin", "auditor")),
    "ingest GET /v1/rejects/{reject_id}": Rule(
        reject(""), people("admin", "comp_admin", "auditor")
    ),
    "ingest POST /v1/rejects/{reject_id}/redrive": Rule(reject("/redrive"), people("admin")),
    "ingest POST /v1/rejects/{reject_id}/discard": Rule(
        reject("/discard", json=REASON), people("admin")
    ),
    **stated("people", "zzana"),
    **stated("teams", "emea"),
    **stated("calendars", "org"),
    **stated("stage-maps", "crm:t:default"),
    "ingest POST /v1/rates": Rule(
        plain("/v1/rates", json={"rows": []}), REFERENCE, "reference:write"
    ),
    "ingest GET /v1/rates": Rule(plain("/v1/rates"), REFERENCE_READERS, "reference:write"),
}

STATERS = people("comp_admin", "admin")
RELIEF = {"amount": "1", "reason": "seen in a test"}


def quotas_beside() -> dict[str, Rule]:
    """What there is about quotas besides reading and stating one."""
    one = "/v1/quotas/quota-<person>"
    gone = "/v1/quotas/quota-zzana/reliefs/99"
    template = "metrics POST /v1/quotas/{quota_id}/reliefs"
    return {
        "metrics GET /v1/quotas/{quota_id}/history": reading(
            of(f"{one}/history"), "metrics:read", about=True
        ),
        "metrics GET /v1/quotas/{quota_id}/reliefs": reading(
            of(f"{one}/reliefs"), "metrics:read", about=True
        ),
        template: Rule(
            of(f"{one}/reliefs", json=RELIEF),
            people("manager", "comp_admin", "admin"),
            "metrics:write",
            about=True,
        ),
        **{
            f"{template}/{{number}}/{verb}": Rule(
                plain(f"{gone}/{verb}"), STATERS, "metrics:write", absent=True
            )
            for verb in ("approve", "refuse", "withdraw")
        },
        "metrics GET /v1/quotas/coverage": reading(
            plain("/v1/quotas/coverage", params={"period": this_quarter()}), "metrics:read"
        ),
        **{
            f"metrics POST /v1/quotas/{name}": Rule(
                plain(f"/v1/quotas/{name}", json={}), STATERS, "metrics:write"
            )
            for name in ("allocations", "allocations/apply", "import")
        },
    }


def targets(path: str, kind: str, writers: frozenset[str]) -> dict[str, Rule]:
    """Objectives and goals: read by who sees the person, stated by some of those."""
    one, name = f"/v1/{path}/{kind}-<person>", f"/v1/{path}/{{{kind}_id}}"
    body = {"objective": objective, "goal": goal}[kind]("<person>")
    return {
        f"metrics GET /v1/{path}": listing(f"/v1/{path}", "metrics:read", "rep"),
        f"metrics GET {name}": reading(of(one), "metrics:read", about=True),
        f"metrics GET {name}/history": reading(of(f"{one}/history"), "metrics:read", about=True),
        f"metrics PUT {name}": Rule(of(one, json=body), writers, "metrics:write", about=True),
        f"metrics DELETE {name}": Rule(of(one), writers, "metrics:write", about=True),
    }


def standards() -> dict[str, Rule]:
    """What is expected of a role is no secret; who reaches it is."""
    one, name = "/v1/standards/standard-ae", "metrics {} /v1/standards/{{standard_id}}"
    month = {"period": this_month()}
    return {
        "metrics GET /v1/standards": reading(plain("/v1/standards"), "metrics:read"),
        name.format("GET"): reading(plain(one), "metrics:read"),
        name.format("GET") + "/history": reading(plain(f"{one}/history"), "metrics:read"),
        name.format("GET") + "/results": reading(
            plain(f"{one}/results", params=month), "metrics:read"
        ),
        name.format("PUT"): Rule(plain(one, json=standard()), STATERS, "metrics:write"),
        name.format("DELETE"): Rule(plain(one), STATERS, "metrics:write"),
    }


NOT_STALLED = {"disposition": "not_stalled", "reason": "seen in a test"}
METRICS: dict[str, Rule] = {
    "metrics GET /v1/kpis": reading(plain("/v1/kpis"), "metrics:read"),
    "metrics GET /v1/kpis/{kpi_id}": reading(
        of("/v1/kpis/K1", params={"rep": "<person>", "period": this_quarter()}),
        "metrics:read",
        about=True,
    ),
    "metrics GET /v1/kpis/{kpi_id}/trend": reading(
        of("/v1/kpis/K1/trend", params={"rep": "<person>", "period": this_quarter()}),
        "metrics:read",
        about=True,
    ),
    "metrics GET /v1/kpis/{kpi_id}/records": listing(
        "/v1/kpis/K1/records", "metrics:read", "rep", params=EVER, refused=Refused.NOT_FOUND
    ),
    "metrics GET /v1/attainment": reading(
        plain("/v1/attainment", params={"period": this_quarter()}),
        "metrics:read",
        shows=world,
        everybody=Asked("/v1/attainment", params={"period": this_quarter()}),
    ),
    "metrics GET /v1/quotas": listing("/v1/quotas", "metrics:read", "rep"),
    "metrics GET /v1/quotas/{quota_id}": reading(
        of("/v1/quotas/quota-<person>"), "metrics:read", about=True
    ),
    "metrics PUT /v1/quotas/{quota_id}": Rule(
        plain("/v1/quotas/quota-zzana", json={}), people("comp_admin", "admin"), "metrics:write"
    ),
    "metrics DELETE /v1/quotas/{quota_id}": Rule(
        plain("/v1/quotas/quota-zzana"), people("comp_admin", "admin"), "metrics:write"
    ),
    **quotas_beside(),
    **targets("objectives", "objective", people("manager", "comp_admin", "admin")),
    "metrics POST /v1/objectives/{objective_id}/score": Rule(
        of("/v1/objectives/objective-<person>/score", json={"score": "1", "evidence": "seen"}),
        people("manager", "comp_admin", "admin"),
        "metrics:write",
        about=True,
    ),
    **targets("goals", "goal", people("rep", "manager", "comp_admin", "admin")),
    **standards(),
    "metrics GET /v1/deals": listing("/v1/deals", "metrics:read", "rep", refused=Refused.NOT_FOUND),
    "metrics GET /v1/deals/{deal_id}": reading(of("/v1/deals/<won>"), "metrics:read", about=True),
    "metrics POST /v1/deals/{deal_id}/dispositions": Rule(
        of("/v1/deals/<open>/dispositions", json=NOT_STALLED),
        people("rep", "manager", "comp_admin", "admin"),
        "metrics:write",
        about=True,
    ),
    "metrics GET /v1/episodes": listing("/v1/episodes", "metrics:read", "rep"),
    "metrics PUT /v1/clock": Rule(plain("/v1/clock", json={}), people("admin"), any_machine=True),
    **letters("metrics"),
}

ESTIMATE = {"deal": {"id": "<open>"}}
STATEMENT = "/v1/statements/<person>/plan-<person>/<month>"
COMMISSIONS: dict[str, Rule] = {
    "commissions PUT /v1/plans/{plan_id}/versions/{version}": Rule(
        plain("/v1/plans/plan-zzana/versions/1", json=plan("zzana")),
        people("comp_admin"),
        "commissions:write",
    ),
    "commissions POST /v1/plans/lint": Rule(
        plain("/v1/plans/lint", json=plan("zzana")), people("comp_admin"), "commissions:write"
    ),
    "commissions PUT /v1/plans/{plan_id}/keeping": Rule(
        plain("/v1/plans/plan-zzana/keeping", json={}), people("comp_admin"), "commissions:write"
    ),
    **proposed("plans/{plan_id}/versions/{version}", "plans/plan-zzana/versions/99"),
    **proposed("assignments/{assignment_id}", "assignments/assign-zzana"),
    "commissions GET /v1/proposals": Rule(plain("/v1/proposals"), OVERSEERS, "commissions:write"),
    "commissions GET /v1/proposals/{subject}": Rule(
        plain("/v1/proposals/plan/plan-zzana/99"), OVERSEERS, "commissions:write", absent=True
    ),
    "commissions GET /v1/plans/{plan_id}/versions/{version}": reading(
        of("/v1/plans/plan-<person>/versions/1"), "commissions:read", about=True
    ),
    "commissions GET /v1/plans": reading(
        plain("/v1/plans"), "commissions:read", shows=world, everybody=Asked("/v1/plans")
    ),
    "commissions GET /v1/plans/{plan_id}": reading(
        of("/v1/plans/plan-<person>"), "commissions:read", about=True
    ),
    "commissions GET /v1/plans/{plan_id}/versions": reading(
        of("/v1/plans/plan-<person>/versions"), "commissions:read", about=True
    ),
    "commissions PUT /v1/assignments/{assignment_id}": Rule(
        plain("/v1/assignments/assign-zzana", json={}), people("comp_admin"), "commissions:write"
    ),
    "commissions DELETE /v1/assignments/{assignment_id}": Rule(
        plain("/v1/assignments/assign-zzana"), people("comp_admin"), "commissions:write"
    ),
    "commissions GET /v1/assignments/{assignment_id}": reading(
        of("/v1/assignments/assign-<person>"), "commissions:read", about=True
    ),
    "commissions GET /v1/assignments": listing("/v1/assignments", "commissions:read", "payee"),
    "commissions GET /v1/statements": listing("/v1/statements", "commissions:read", "payee"),
    "commissions GET /v1/statements/{payee}/{plan}/{period}": reading(
        of(STATEMENT), "commissions:read", about=True
    ),
    "commissions GET /v1/statements/{payee}/{plan}/{period}/proof": reading(
        of(f"{STATEMENT}/proof"), "commissions:read", about=True
    ),
    "commissions GET /v1/statements/{payee}/{plan}/{period}/explanation": reading(
        of(f"{STATEMENT}/explanation"), "commissions:read", about=True
    ),
    "commissions GET /v1/statements/{payee}/{plan}/{period}/lines/{line}/explanation": reading(
        of(f"{STATEMENT}/lines/<line>/explanation"), "commissions:read", about=True
    ),
    # No period of the company is closed: fixed versions are in the tests of closing.
    "commissions GET /v1/statements/{payee}/{plan}/{period}/versions": reading(
        of(f"{STATEMENT}/versions"),
        "commissions:read",
        about=True,
        refused=Refused.EMPTY,
        bare=True,
    ),
    "commissions GET /v1/periods": reading(plain("/v1/periods"), "commissions:read"),
    "commissions GET /v1/periods/{period}/checklist": Rule(
        plain("/v1/periods/2025-01/checklist"), OVERSEERS
    ),
    "commissions POST /v1/periods/{period}/submit": Rule(
        plain("/v1/periods/2099-01/submit"), people("finance")
    ),
    "commissions POST /v1/periods/{period}/approve": Rule(
        plain("/v1/periods/2099-01/approve", json={}), people("finance")
    ),
    "commissions POST /v1/periods/{period}/reopen": Rule(
        plain("/v1/periods/2099-01/reopen", json={}), people("finance")
    ),
    "commissions POST /v1/periods/{period}/reopen/confirm": Rule(
        plain("/v1/periods/2099-01/reopen/confirm"), people("finance")
    ),
    "commissions POST /v1/periods/{period}/close": Rule(
        plain("/v1/periods/2099-01/close"), people("finance")
    ),
    "commissions GET /v1/held-deletions": Rule(plain("/v1/held-deletions"), OVERSEERS),
    "commissions GET /v1/held-deletions/{deal}": Rule(
        plain("/v1/held-deletions/nothing"), OVERSEERS, absent=True
    ),
    "commissions POST /v1/held-deletions/{deal}/decision": Rule(
        plain("/v1/held-deletions/nothing/decision", json={}), people("finance")
    ),
    "commissions POST /v1/held-deletions/{deal}/decision/confirm": Rule(
        plain("/v1/held-deletions/nothing/decision/confirm"), people("finance")
    ),
    "commissions GET /v1/held-changes": Rule(plain("/v1/held-changes"), OVERSEERS),
    "commissions GET /v1/held-changes/{change}": Rule(
        plain("/v1/held-changes/999999"), OVERSEERS, absent=True
    ),
    "commissions POST /v1/held-changes/{change}/release": Rule(
        plain("/v1/held-changes/999999/release", json=REASON), people("finance"), absent=True
    ),
    "commissions POST /v1/held-changes/{change}/discard": Rule(
        plain("/v1/held-changes/999999/discard", json=REASON), people("finance"), absent=True
    ),
    "commissions POST /v1/estimates": reading(
        of("/v1/estimates", json=ESTIMATE), "commissions:read", about=True
    ),
    "commissions POST /v1/simulations": Rule(
        plain("/v1/simulations", json={}), people("comp_admin"), "commissions:write"
    ),
    "commissions GET /v1/simulations": Rule(plain("/v1/simulations"), OVERSEERS),
    "commissions GET /v1/simulations/{simulation}": Rule(
        plain("/v1/simulations/nothing"), OVERSEERS, absent=True
    ),
    "commissions GET /v1/simulations/{simulation}/accounts": Rule(
        plain("/v1/simulations/nothing/accounts"), OVERSEERS, absent=True
    ),
    "commissions GET /v1/simulations/{simulation}/accounts/{payee}": Rule(
        plain("/v1/simulations/nothing/accounts/zzana"), OVERSEERS, absent=True
    ),
    "commissions POST /v1/simulations/{simulation}/cancel": Rule(
        plain("/v1/simulations/nothing/cancel"),
        people("comp_admin"),
        "commissions:write",
        absent=True,
    ),
    "commissions DELETE /v1/simulations/{simulation}": Rule(
        plain("/v1/simulations/nothing"),
        people("comp_admin"),
        "commissions:write",
        absent=True,
    ),
    "commissions GET /v1/ledger/balances": listing(
        "/v1/ledger/balances", "commissions:read", "payee"
    ),
    "commissions GET /v1/ledger/postings": listing(
        "/v1/ledger/postings", "commissions:read", "payee"
    ),
    "commissions GET /v1/accruals": Rule(plain("/v1/accruals"), OVERSEERS),
    "commissions GET /v1/capitalised-costs": Rule(plain("/v1/capitalised-costs"), OVERSEERS),
    "commissions GET /v1/capitalised-costs/months": Rule(
        plain("/v1/capitalised-costs/months"), OVERSEERS
    ),
    "commissions GET /v1/commission-health": Rule(
        plain("/v1/commission-health?period=2025-01"), OVERSEERS
    ),
    **agreed("adjustment"),
    **agreed("override"),
    "commissions POST /v1/overrides/{override}/end": Rule(
        of("/v1/overrides/<override>/end", json={"until": "2025-01-31", **REASON}),
        PROPOSERS,
        about=True,
    ),
    "commissions POST /v1/disputes": Rule(
        of("/v1/disputes", json=correction("dispute", "<person>")), RAISERS, about=True
    ),
    "commissions GET /v1/disputes": listing("/v1/disputes", "commissions:read", "payee"),
    "commissions GET /v1/disputes/{dispute}": reading(
        of("/v1/disputes/<dispute>"), "commissions:read", about=True
    ),
    "commissions POST /v1/disputes/{dispute}/comments": Rule(
        of("/v1/disputes/<dispute>/comments", json={"text": "seen in a test"}), RAISERS, about=True
    ),
    "commissions POST /v1/disputes/{dispute}/resolve": Rule(
        plain("/v1/disputes/nothing/resolve", json={"outcome": "rejected", **REASON}),
        DECIDERS,
        absent=True,
    ),
    "commissions POST /v1/disputes/{dispute}/withdraw": Rule(
        of("/v1/disputes/<dispute>/withdraw"), RAISERS, about=True
    ),
    "commissions GET /v1/payruns": Rule(plain("/v1/payruns"), OVERSEERS),
    "commissions PUT /v1/payruns/{pay_run}": Rule(pay_run("", json={}), people("finance")),
    "commissions GET /v1/payruns/{pay_run}": Rule(pay_run(""), OVERSEERS, absent=True),
    "commissions GET /v1/payruns/{pay_run}/lines": Rule(pay_run("/lines"), OVERSEERS, absent=True),
    "commissions GET /v1/payruns/{pay_run}/file": Rule(pay_run("/file"), OVERSEERS, absent=True),
    "commissions POST /v1/payruns/{pay_run}/approve": Rule(
        pay_run("/approve", json={}), people("finance")
    ),
    "commissions POST /v1/payruns/{pay_run}/cancel": Rule(
        pay_run("/cancel"), people("finance"), absent=True
    ),
    "commissions POST /v1/payruns/{pay_run}/paid": Rule(
        pay_run("/paid", json={}), people("finance")
    ),
    "commissions POST /v1/payruns/{pay_run}/returns": Rule(
        pay_run("/returns", json={}), people("finance")
    ),
    **letters("commissions"),
}

CHOICE = {"channels": [{"channel": "email"}]}
NOTIFICATIONS: dict[str, Rule] = {
    "notifications GET /v1/alerts": listing("/v1/alerts", "notifications:read", "person"),
    "notifications GET /v1/alerts/{alert_id}": reading(
        of("/v1/alerts/<alert>"), "notifications:read", about=True
    ),
    "notifications GET /v1/deliveries": reading(
        plain("/v1/deliveries"),
        "notifications:read",
        shows=their_deliveries,
        everybody=Asked("/v1/deliveries"),
    ),
    "notifications GET /v1/subscriptions/{person}": reading(
        of("/v1/subscriptions/<person>"),
        "notifications:read",
        about=True,
        sees=own_or("admin", "auditor", "service"),
        refused=Refused.FORBIDDEN,
    ),
    "notifications PUT /v1/subscriptions/{person}": Rule(
        of("/v1/subscriptions/<person>", json=CHOICE),
        people("rep", "manager", "comp_admin", "finance", "admin"),
        "notifications:write",
        about=True,
        sees=own_or("admin", "service"),
        refused=Refused.FORBIDDEN,
    ),
    **letters("notifications"),
}

TABLE: Mapping[str, Rule] = {**INGEST, **METRICS, **COMMISSIONS, **NOTIFICATIONS}
"""By `<service> <METHOD> <path template>`."""

OPEN = frozenset(["/healthz", "/readyz", "/metrics", "/docs", "/docs/{name}", "/openapi.json"])
"""Paths of every process that need no token: they hold no ids, names or amounts."""

SCOPES = tuple(sorted({rule.scope for rule in TABLE.values() if rule.scope is not None}))
"""Every scope that a machine can have."""
