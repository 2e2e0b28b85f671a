"""Targets through the running service: figures, reliefs, allocation, import, objectives, goals."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import httpx
import pytest_asyncio

from shared.events.catalogue import METRICS_JOURNAL, METRICS_TARGETS
from shared.http.auth import Role
from tests.integration.metrics.company import SINCE, T0, at, company, won
from tests.integration.metrics.harness import Metrics, fact

Q1 = "2026-Q1"
Body = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def history(metrics: Metrics) -> None:
    """Ana and Ben sold last year; Cem was hired in the middle of the first quarter."""
    await metrics.send(company())
    await metrics.send(
        [
            fact("person", "cem", T0, tie_break=1, effective_from=SINCE, hired_on="2026-02-16"),
            *won(1, at(-300), "ana", "600"),
            *won(2, at(-301), "ben", "300"),
        ]
    )
    await metrics.drain()
    await metrics.at(at(10))


def admin(metrics: Metrics, person: str | None = "cora") -> Mapping[str, str]:
    return metrics.token(Role.COMP_ADMIN, person=person)


async def ask(
    metrics: Metrics,
    method: str,
    path: str,
    body: Body | None = None,
    *,
    by: Mapping[str, str] | None = None,
    **headers: str,
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await metrics.api.request(
        method, path, json=body, headers={**(by or admin(metrics)), **named}
    )


async def told(metrics: Metrics, topic: str, subject: str) -> list[dict[str, Any]]:
    return [e["data"] for e in await metrics.published(topic) if e["subject"] == subject]


async def test_a_prorated_quota_is_published_as_one_figure(metrics: Metrics) -> None:
    body: Body = {
        "person": "ana",
        "measure": "bookings",
        "period": "2025-Q2",
        "amount": "300000",
        "currency": "USD",
        "method": "calendar_days",
        "from": "2025-05-16",
    }
    saved = await ask(metrics, "PUT", "/v1/quotas/part", body)
    assert saved.status_code == 200, saved.text
    found = await metrics.get("/v1/quotas/part")
    assert (found["amount"], found["in_force"]) == ("300000", "151648.35")
    assert found["by_method"] == {
        "calendar_days": "151648.35",
        "months": "151612.9",
        "working_days": "147692.31",
    }
    figure = (await told(metrics, METRICS_TARGETS, "quota/part"))[0]
    assert {k: figure[k] for k in ("start", "end", "amount", "method", "stated")} == {
        "start": "2025-04-01",
        "end": "2025-07-01",
        "amount": "151648.35",
        "method": "calendar_days",
        "stated": "300000",
    }
    attained = await metrics.get("/v1/kpis/K1", rep="ana", period="2025-Q2")
    assert attained["parts"]["quota"] == "151648.35"
    second = await ask(metrics, "PUT", "/v1/quotas/other", body)
    assert (second.status_code, second.json()["type"].rpartition(":")[2]) == (409, "second-quota")
    for wrong in (
        {"method": "stated"},
        {"from": "2025-05-16", "to": "2025-05-15"},
        {"ramp": ["150%"]},
        {"first_day": "2025-05-16"},
        {"leave": [{"from": "2025-05-20", "to": "2025-05-19"}]},
    ):
        refused = await ask(metrics, "PUT", "/v1/quotas/wrong", {**body, "person": "ben", **wrong})
        assert refused.status_code == 422, wrong


async def test_who_was_hired_or_left_is_there_for_a_part(metrics: Metrics) -> None:
    body: Body = {
        "person": "cem",
        "period": Q1,
        "amount": "90000",
        "currency": "USD",
        "method": "calendar_days",
    }
    await metrics.put("/v1/quotas/cem-q1", body)
    found = await metrics.get("/v1/quotas/cem-q1")
    assert (found["present_from"], found["in_force"]) == ("2026-02-16", "44000")
    gone = fact("person", "cem", at(1), effective_from="2026-03-01", active=False)
    await metrics.send([gone])
    await metrics.drain()
    await metrics.judged()
    found = await metrics.get("/v1/quotas/cem-q1")
    assert (found["present_to"], found["in_force"]) == ("2026-02-28", "13000")
    assert found["changed_by"] == "people"
    back = fact("person", "cem", at(2), effective_from="2026-03-01", active=True)
    await metrics.send([back])
    await metrics.drain()
    await metrics.judged()
    versions = (await metrics.get("/v1/quotas/cem-q1/history"))["data"]
    amounts = [v["document"]["quota"]["amount"] for v in versions]
    assert amounts == ["44000", "13000", "44000"]
    rep = metrics.token(Role.REP, person="ana")
    hidden = await metrics.api.get("/v1/quotas/cem-q1/history", headers=rep)
    assert hidden.status_code == 404


async def test_a_relief_counts_once_a_second_person_approved(metrics: Metrics) -> None:
    await metrics.put(
        "/v1/quotas/ben-q2",
        {"person": "ben", "period": "2026-Q2", "amount": "1000", "currency": "USD"},
    )
    path = "/v1/quotas/ben-q2/reliefs"
    manager = metrics.token(Role.MANAGER, person="mia")
    asked: Body = {"share": "25%", "reason": "his largest account was handed over"}
    first = await ask(metrics, "POST", path, asked, by=manager, Idempotency_Key="k1")
    again = await ask(metrics, "POST", path, asked, by=manager, Idempotency_Key="k1")
    assert (first.status_code, first.json()["state"]) == (201, "proposed")
    assert again.json() == first.json()
    assert (await metrics.get("/v1/quotas/ben-q2"))["in_force"] == "1000"
    too_much: Body = {"amount": "1001", "reason": "x"}
    refused = await ask(metrics, "POST", path, too_much, by=manager, Idempotency_Key="k2")
    assert refused.status_code == 422
    both = metrics.token(Role.MANAGER, Role.COMP_ADMIN, person="mia")
    own = await ask(metrics, "POST", f"{path}/1/approve", by=both)
    assert own.json()["type"].endswith(":same-person")
    his = await ask(
        metrics, "POST", f"{path}/1/approve", by=metrics.token(Role.COMP_ADMIN, person="ben")
    )
    assert his.json()["type"].endswith(":own-quota")
    done = await ask(metrics, "POST", f"{path}/1/approve")
    assert (done.json()["before"], done.json()["after"]) == ("1000", "750")
    found = await metrics.get("/v1/quotas/ben-q2")
    assert (found["amount"], found["in_force"]) == ("1000", "750")
    assert found["reliefs"][0]["reason"] == asked["reason"]
    twice = await ask(metrics, "POST", f"{path}/1/approve")
    assert twice.json()["type"].endswith(":already-decided")
    # Stated anew, it goes on; withdrawn, it is gone.
    body: Body = {"person": "ben", "period": "2026-Q2", "amount": "2000", "currency": "USD"}
    tag = f'"{found["revision"]}"'
    restated = await ask(metrics, "PUT", "/v1/quotas/ben-q2", body, If_Match=tag)
    assert restated.json()["in_force"] == "1500"
    await ask(metrics, "POST", f"{path}/1/withdraw")
    assert (await metrics.get("/v1/quotas/ben-q2"))["in_force"] == "2000"
    figures = [d["amount"] for d in await told(metrics, METRICS_TARGETS, "quota/ben-q2")]
    assert figures == ["1000", "750", "1500", "2000"]
    states = [d["state"] for d in await told(metrics, METRICS_JOURNAL, "relief/ben-q2/1")]
    assert states == ["proposed", "approved", "withdrawn"]


async def test_a_quota_at_risk_is_judged_by_the_figure_in_force(metrics: Metrics) -> None:
    """100 of 1 000 stated is far behind; of 100 in force it is reached."""
    body: Body = {"person": "ana", "period": "2026-01", "amount": "1000", "currency": "USD"}
    await metrics.put("/v1/quotas/risk", body)
    await metrics.send(won(30, at(9), "ana", "100"))
    await metrics.drain()
    await metrics.at(at(18))
    assert "quota_at_risk:quota/risk" in await metrics.episodes()
    on_leave: Body = {
        **body,
        "method": "working_days",
        "leave": [{"from": "2026-01-08", "to": "2026-01-31", "reason": "parental"}],
    }
    tag = f'"{(await metrics.get("/v1/quotas/risk"))["revision"]}"'
    saved = await ask(metrics, "PUT", "/v1/quotas/risk", on_leave, If_Match=tag)
    assert saved.json()["in_force"] == "227.27"
    asked: Body = {"amount": "127.27", "reason": "nobody stood in"}
    await ask(metrics, "POST", "/v1/quotas/risk/reliefs", asked, Idempotency_Key="r")
    other = admin(metrics, "dora")
    await ask(metrics, "POST", "/v1/quotas/risk/reliefs/1/approve", by=other)
    await metrics.judged()
    assert "quota_at_risk:quota/risk" not in await metrics.episodes()


async def test_a_target_is_handed_down_as_it_was_previewed(metrics: Metrics) -> None:
    await metrics.put(
        "/v1/quotas/emea-26",
        {"team": "emea", "period": "2026", "amount": "1000", "currency": "USD"},
    )
    body: Body = {"team": "emea", "period": "2026", "split": "prior_year"}
    preview = await ask(metrics, "POST", "/v1/quotas/allocations", body)
    assert preview.status_code == 200, preview.text
    parts = {row["person"]: row["amount"] for row in preview.json()["data"]}
    assert parts == {"ana": "666.67", "ben": "333.33"}
    assert (await metrics.get("/v1/quotas", rep="ana", period="2026-12"))["data"] == []
    over: Body = {**body, "split": "weighted", "weights": {"ana": "1"}, "over_assignment": "10%"}
    other = (await ask(metrics, "POST", "/v1/quotas/allocations", over)).json()
    assert [row["amount"] for row in other["data"]] == ["1100", "0"]
    path, key = "/v1/quotas/allocations/apply", "apply-1"
    blind = await ask(metrics, "POST", path, body, Idempotency_Key=key)
    assert blind.status_code == 428
    tag = preview.headers["etag"]
    applied = await ask(metrics, "POST", path, body, If_Match=tag, Idempotency_Key=key)
    assert (applied.status_code, applied.json()["applied"]) == (201, True)
    again = await ask(metrics, "POST", path, body, If_Match=tag, Idempotency_Key=key)
    assert again.json() == applied.json()
    late = await ask(metrics, "POST", path, body, If_Match=tag, Idempotency_Key="apply-2")
    assert late.status_code == 412
    quota = (await metrics.get("/v1/quotas", rep="ana", period="2026-12"))["data"][0]
    assert (quota["id"], quota["amount"]) == ("ana:bookings:2026", "666.67")
    covered = (await metrics.get("/v1/quotas/coverage", period="2026"))["data"]
    emea = next(row for row in covered if row["team"] == "emea")
    assert (emea["target"], emea["assigned"], emea["gap"]) == ("1000", "1000", "0")
    us = next(row for row in covered if row["team"] == "us")
    assert us["target"] is None
    by_manager = await metrics.get(
        "/v1/quotas/coverage", metrics.token(Role.MANAGER, person="mia"), period="2026"
    )
    assert [row["team"] for row in by_manager["data"]] == ["emea"]


async def sent(metrics: Metrics, text: str, *, preview: bool = False) -> httpx.Response:
    return await metrics.api.post(
        "/v1/quotas/import",
        content=text.encode(),
        params={"preview": str(preview).lower()},
        headers={**admin(metrics), "Content-Type": "text/csv; charset=utf-8"},
    )


async def test_a_file_of_quotas_is_all_or_nothing_and_comes_back(metrics: Metrics) -> None:
    bad = (
        "id,person,period,amount,currency,method,ramp\n"
        "imp-1,ana,2027-Q1,1000,USD,,\n"
        "imp-2,ben,2027-Q9,1000,USD,,\n"
        "imp-3,cem,2027-Q1,much,USD,,\n"
        "imp-1,mia,2027-Q1,1000,USD,,\n"
        "imp-4,ana,2027-Q1,1000,USD,,\n"
        "imp-5,mia,2027-Q1,1000,USD,,25%\n"
    )
    report = (await sent(metrics, bad, preview=True)).json()
    shown = [
        (line["line"], line["state"], [fault["column"] for fault in line["faults"]])
        for line in report["lines"]
    ]
    assert shown == [
        (2, "new", []),
        (3, "refused", ["period"]),
        (4, "refused", ["amount"]),
        (5, "refused", ["id"]),
        (6, "refused", [None]),
        (7, "refused", ["method"]),
    ]
    refused = await sent(metrics, bad)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "#line/3/period"
    assert (await ask(metrics, "GET", "/v1/quotas/imp-1")).status_code == 404
    good = (
        "id,person,period,amount,currency,method,ramp,leave\r\n"
        "imp-1,ana,2027-Q1,1000,USD,,,\r\n"
        'imp-2,ben,2027-Q1,"3000",USD,months,"25% 50% 75%",'
        '"[{""from"": ""2027-03-01"", ""to"": ""2027-03-31""}]"\r\n'
    )
    assert (await sent(metrics, good)).json()["new"] == 2
    assert (await metrics.get("/v1/quotas/imp-2"))["in_force"] == "750"
    assert (await sent(metrics, good)).json()["unchanged"] == 2
    exported = await metrics.api.get("/v1/quotas", headers={**admin(metrics), "Accept": "text/csv"})
    whole = (await sent(metrics, exported.text, preview=True)).json()
    assert whole["unchanged"] == len(whole["lines"]) > 2
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    rows[-1] = {**rows[-1], "amount": "4000"}
    edited = io.StringIO()
    writer = csv.DictWriter(edited, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    changed = (await sent(metrics, edited.getvalue())).json()
    assert (changed["changed"], changed["unchanged"]) == (1, len(rows) - 1)
    stale = {**rows[-1], "amount": "5000"}
    writer.writerow(stale)
    rows[-1] = stale
    text = io.StringIO()
    csv.DictWriter(text, list(rows[0])).writeheader()
    csv.DictWriter(text, list(rows[0])).writerow(stale)
    outdated = await sent(metrics, text.getvalue())
    assert outdated.json()["errors"][0]["pointer"] == "#line/2/revision"
    for content, status in (("", 422), ("id,what\n", 422), ("id,period\n", 422)):
        assert (await sent(metrics, content)).status_code == status
    no_csv = await ask(metrics, "POST", "/v1/quotas/import", {})
    assert no_csv.status_code == 415


async def test_an_objective_is_scored_by_somebody_else_and_published(metrics: Metrics) -> None:
    path = "/v1/objectives/ana-o1"
    manager = metrics.token(Role.MANAGER, person="mia")
    body: Body = {
        "objective": "o1",
        "person": "ana",
        "period": "2026-01",
        "title": "Reference customers",
        "target": "two customers agree in writing to be named",
        "weight": "50%",
    }
    made = await ask(metrics, "PUT", path, body, by=manager)
    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    clash = await ask(metrics, "PUT", "/v1/objectives/again", body, by=manager)
    assert clash.json()["type"].endswith(":second-objective")
    own = metrics.token(Role.MANAGER, person="ana")
    half: Body = {"score": "0.5", "evidence": "one letter"}
    for caller, status in (
        (metrics.token(Role.REP, person="ana"), 403),
        (own, 409),
        (metrics.token(Role.MANAGER, person="cem"), 404),
    ):
        refused = await ask(metrics, "POST", f"{path}/score", half, by=caller, If_Match='"1"')
        assert refused.status_code == status
    slip = await ask(metrics, "POST", f"{path}/score", {**half, "score": "80"}, by=manager)
    assert slip.status_code == 422
    scored = await ask(metrics, "POST", f"{path}/score", half, by=manager, If_Match='"1"')
    assert scored.json()["scored_at"] == "2026-01-31T23:59:59.999Z"
    whole: Body = {"score": "1", "evidence": "the second letter came"}
    assert (await ask(metrics, "POST", f"{path}/score", whole, by=manager)).status_code == 428
    await ask(metrics, "POST", f"{path}/score", whole, by=manager, If_Match='"2"')
    moved = await ask(metrics, "PUT", path, {**body, "period": Q1}, by=manager, If_Match='"3"')
    assert moved.json()["type"].endswith(":scored")
    await ask(metrics, "DELETE", path, by=manager, If_Match='"3"')
    await ask(metrics, "PUT", "/v1/objectives/anew", body, by=manager)
    await ask(metrics, "POST", "/v1/objectives/anew/score", whole, by=manager, If_Match='"1"')
    scores = await told(metrics, METRICS_TARGETS, "objective_score/ana/o1/2026-01")
    assert [(s["score"], s["revision"], s["deleted"]) for s in scores] == [
        ("0.5", 1, False),
        ("1", 2, False),
        ("1", 3, True),
        ("1", 4, False),
    ]
    versions = (await metrics.get(f"{path}/history"))["data"]
    evidence = [v["document"]["evidence"] for v in versions]
    assert evidence == ["the second letter came"] * 2 + ["one letter", None]
    rep = metrics.token(Role.REP, person="ana")
    assert len((await metrics.get("/v1/objectives", rep))["data"]) == 1
    other = metrics.token(Role.REP, person="ben")
    assert (await metrics.get("/v1/objectives", other))["data"] == []


async def test_a_goal_shows_what_is_reached_and_a_standard_who_reaches_it(
    metrics: Metrics,
) -> None:
    body: Body = {
        "title": "Close 1,200 this quarter",
        "kpi": "K12",
        "target": "1200",
        "start": "2025-01-01",
        "end": "2025-04-01",
        "person": "ana",
    }
    rep = metrics.token(Role.REP, person="ana")
    made = await ask(metrics, "PUT", "/v1/goals/g1", body, by=rep)
    assert made.status_code == 200, made.text
    assert (made.json()["owner"], made.json()["unit"]) == ("ana", "money")
    found = await metrics.get("/v1/goals/g1", rep)
    assert (found["value"], found["progress"], found["reached"]) == ("600", "0.5", False)
    assert "it serves no other goal" in found["doubts"]
    for wrong in (
        {"kpi": "K99"},
        {"end": "2025-01-01"},
        {"parent": "g1"},
        {"parent": "nothing"},
        {"owner": "nobody-known"},
    ):
        refused = await ask(
            metrics, "PUT", "/v1/goals/g1", {**body, **wrong}, by=rep, If_Match='"1"'
        )
        assert refused.status_code == 422, wrong
    bens = await ask(metrics, "PUT", "/v1/goals/g2", {**body, "person": "ben"}, by=rep)
    assert bens.status_code == 404
    team: Body = {**body, "person": None, "team": "emea", "owner": "mia"}
    assert (await ask(metrics, "PUT", "/v1/goals/g3", team)).status_code == 200
    child = await ask(metrics, "PUT", "/v1/goals/g1", {**body, "parent": "g3"}, If_Match='"1"')
    assert child.json()["parent"] == "g3"
    assert [g["id"] for g in (await metrics.get("/v1/goals", rep))["data"]] == ["g1"]
    standard: Body = {
        "title": "Deals of 500 and more",
        "role": "ae",
        "kpi": "K12",
        "limit": "500",
        "period": "quarter",
        "from": "2025-01-01",
    }
    for person in ("ana", "ben"):
        await metrics.send(
            [fact("person", person, T0, tie_break=2, effective_from=SINCE, role="ae")]
        )
    await metrics.drain()
    assert (await ask(metrics, "PUT", "/v1/standards/s1", standard)).status_code == 200
    results = (await metrics.get("/v1/standards/s1/results", period="2025-Q1"))["data"]
    assert {row["person"]: row["met"] for row in results} == {"ana": True, "ben": False}
    month = await ask(metrics, "GET", "/v1/standards/s1/results?period=2025-03")
    assert month.json()["errors"][0]["pointer"] == "#query/period"
    seen = (await metrics.get("/v1/standards/s1/results", rep, period="2025-Q1"))["data"]
    assert [row["person"] for row in seen] == ["ana"]
    assert (await ask(metrics, "DELETE", "/v1/standards/s1", If_Match='"1"')).status_code == 204
    kinds = {e["subject"] for e in await metrics.published(METRICS_JOURNAL)}
    assert {"goal/g1", "goal/g3", "standard/s1"} <= kinds
