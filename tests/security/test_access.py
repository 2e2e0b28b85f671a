"""Every route, every caller, and {own, in my team, other}, over real connections: one table."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from tests.security.access import OPEN, SCOPES, TABLE, Asked, Refused, Rule
from tests.security.company import (
    NOBODY_AT_ALL,
    PEOPLE,
    PERSONS,
    WITHOUT_ROLE,
    Caller,
    Company,
    blind_machine,
    machine,
)
from tests.security.year import markers, open_deal, this_month

MACHINES = (machine(), machine(*SCOPES), blind_machine(*SCOPES))
CALLERS = (NOBODY_AT_ALL, WITHOUT_ROLE, *PERSONS, *MACHINES)
AT_ONCE = 8
NOT_ADMITTED = frozenset([401, 403, 404, 405])


def operations(company: Company) -> Iterator[tuple[str, str]]:
    """(service, `METHOD path`) of every route of every process, documented or not."""
    for process in company.processes:
        for route in iter_route_contexts(process.app.routes):
            if route.path not in OPEN:
                for method in sorted(set(route.methods or ()) - {"HEAD"}):
                    yield process.service, f"{method} {_plain(str(route.path))}"


def _plain(template: str) -> str:
    return re.sub(r":[a-z]+}", "}", template)


async def test_every_operation_is_in_the_table_and_nothing_else(company: Company) -> None:
    found = {f"{service} {operation}" for service, operation in operations(company)}
    for service, client in company.clients.items():
        described = (await client.get("/openapi.json")).json()
        for path, methods in described["paths"].items():
            found |= {f"{service} {method.upper()} {path}" for method in methods}
    assert found - TABLE.keys() == set(), "routes that nobody decided about: see access.py"
    assert TABLE.keys() - found == set(), "entries of routes that are gone"


def callers(rule: Rule) -> Iterator[Caller]:
    """Everybody; a machine that can only this, and one that can everything else."""
    yield from CALLERS
    if rule.scope is not None:
        yield machine(rule.scope)
        yield machine(*(scope for scope in SCOPES if scope != rule.scope))


def targets(caller: Caller, rule: Rule) -> tuple[str, ...]:
    """Whom to ask about: everybody, for callers of whom somebody is out of sight."""
    if not rule.about:
        return ("zzana",)
    return PEOPLE if caller.person in PEOPLE else ("zzana", "zzcem")


def verdict(rule: Rule, caller: Caller, person: str, answer: httpx.Response) -> str | None:
    """What is wrong with an answer; None where it is as the table says."""
    expected = expectation(rule, caller, person)
    status, shown = answer.status_code, markers(answer.text)
    if expected is not None:
        if status != expected:
            return f"must be {expected}"
        hidden = status == Refused.EMPTY.value and shown
        return f"shows {sorted(shown)}" if hidden else None
    if status in NOT_ADMITTED or status >= 500:
        return "must be allowed"
    listed = rule.about and rule.refused is Refused.EMPTY and not rule.bare
    silent = listed and person not in shown
    return "must show the person" if silent else None


def expectation(rule: Rule, caller: Caller, person: str) -> int | None:
    """The status of a refusal; None where the caller must be let through."""
    if rule.signed or not caller.token:
        return 401
    if not rule.admits(caller):
        return 403
    if rule.about and not rule.sees(caller, person):
        return rule.refused.value
    return 404 if rule.absent else None


@pytest.mark.parametrize("service", ["ingest", "metrics", "commissions", "notifications"])
async def test_each_caller_may_what_the_table_says_and_nothing_else(
    company: Company, service: str
) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str, caller: Caller, person: str) -> str | None:
        rule, method = TABLE[name], name.split(" ")[1]
        asked = rule.ask(company, person)
        async with turn:
            answer = await company.call(caller, service, method, asked.path, **asked.options())
        wrong = verdict(rule, caller, person, answer)
        said = f"{name} by {caller.name} about {person}: {answer.status_code}, {wrong}"
        return said if wrong else None

    cases = [
        (name, caller, person)
        for name, rule in TABLE.items()
        for caller in callers(rule)
        for person in targets(caller, rule)
        if name.startswith(f"{service} ")
    ]
    found = await asyncio.gather(*(ask(*case) for case in cases))
    assert len(cases) > 100
    assert [wrong for wrong in found if wrong] == []


LISTS = {name: rule for name, rule in TABLE.items() if rule.everybody is not None}


async def test_lists_pages_and_csv_show_the_same_world(company: Company) -> None:
    wrong = []
    for (name, rule), caller in itertools.product(LISTS.items(), CALLERS):
        if not rule.admits(caller) or rule.everybody is None or rule.shows is None:
            continue
        service = name.split(" ")[0]
        whole = await company.call(
            caller, service, "GET", rule.everybody.path, **rule.everybody.options()
        )
        assert whole.status_code == 200, whole.text
        shown = {"list": markers(whole.text)}
        if "next_cursor" in whole.json() and len(whole.json()["data"]) > 1:
            pages = await paged(company, caller, service, rule.everybody)
            rows = await as_csv(company, caller, service, rule.everybody)
            shown |= {"pages": markers(pages), "csv": markers(rows)}
            assert rows.count("\n") - 1 == len(whole.json()["data"]), name
        expected = rule.shows(caller)
        wrong += [
            f"{name} by {caller.name}: {way} shows {sorted(those)}, not {sorted(expected)}"
            for way, those in shown.items()
            if those != expected
        ]
    assert wrong == []


async def paged(company: Company, caller: Caller, service: str, asked: Asked) -> str:
    """The whole list, by small pages."""
    text, cursor = "", ""
    while cursor is not None:
        params = {**asked.params, "limit": "3", **({"cursor": cursor} if cursor else {})}
        page = await company.call(caller, service, "GET", asked.path, params=params)
        text += page.text
        cursor = page.json()["next_cursor"]
    return text


async def as_csv(company: Company, caller: Caller, service: str, asked: Asked) -> str:
    """The whole list as an export."""
    headers = {"Accept": "text/csv"}
    answer = await company.call(
        caller, service, "GET", asked.path, params=dict(asked.params), headers=headers
    )
    assert answer.headers["content-type"].startswith("text/csv")
    assert len(list(csv.reader(io.StringIO(answer.text)))) >= 1
    return answer.text


async def test_a_cursor_of_somebody_who_sees_more_shows_no_more(company: Company) -> None:
    admin, rep = PERSONS[-1], PERSONS[0]
    for name, rule in LISTS.items():
        service = name.split(" ")[0]
        if rule.everybody is None or rule.shows is None:
            continue
        params = {**rule.everybody.params, "limit": "1"}
        first = await company.call(admin, service, "GET", rule.everybody.path, params=params)
        cursor = first.json().get("next_cursor")
        if cursor:
            more = await company.call(
                rep, service, "GET", rule.everybody.path, params={**params, "cursor": cursor}
            )
            assert markers(more.text) <= rule.shows(rep), name


async def test_counts_and_sums_are_over_the_same_people_as_lists(company: Company) -> None:
    for caller in (*PERSONS, machine("metrics:read"), blind_machine("metrics:read")):

        async def get(path: str, who: Caller = caller) -> Any:  # noqa: ANN401 - JSON
            answer = await company.call(who, "metrics", "GET", path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        still_open = await get("/v1/deals?status=open")
        stalled = await get("/v1/kpis/K17")
        assert len(still_open["data"]) == len(caller.sees), caller.name
        assert int(stalled["parts"]["open"]) == len(caller.sees), caller.name
        assert int(stalled["value"]) == len(caller.sees), caller.name
        year = "period=" + this_month()[:4]
        booked = await get(f"/v1/kpis/K3?{year}")
        behind = await get(f"/v1/kpis/K3/records?{year}")
        counted = sum(Decimal(row["counted"]) for row in behind["data"])
        assert Decimal(booked["parts"]["closed"]) == counted, caller.name
        assert len(behind["data"]) == len(caller.sees), caller.name


async def test_a_team_is_seen_by_whoever_sees_all_of_it(company: Company) -> None:
    rep, manager, *overseers = PERSONS
    for caller, seen in (
        (rep, set()),
        (manager, {"emea"}),
        *((o, {"emea", "us"}) for o in overseers),
    ):
        for path in ("/v1/kpis/K17?", "/v1/deals?"):
            for team in ("emea", "us"):
                answer = await company.call(caller, "metrics", "GET", f"{path}team={team}")
                assert answer.status_code == (200 if team in seen else 404), (caller.name, team)


async def test_a_hypothetical_owner_opens_no_foreign_deal(company: Company) -> None:
    """Naming oneself as the owner of somebody else's deal tells nothing about that deal."""
    rep, manager = PERSONS[:2]
    for caller, person, status in (
        (rep, "zzcem", 404),
        (rep, "zzben", 404),
        (rep, "zzana", 200),
        (manager, "zzcem", 404),
        (manager, "zzben", 200),
    ):
        for said in (
            {"owner": "zzana"},
            {"splits": {"zzana": "100%"}},
            {"overlays": {"zzana": "1"}},
        ):
            deal = {"id": open_deal(person), **said}
            answer = await company.call(
                caller, "commissions", "POST", "/v1/estimates", json={"deal": deal}
            )
            assert answer.status_code == status, (caller.name, person, said, answer.text)
