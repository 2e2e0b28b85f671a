"""Lint with figures from the service's data, and plan edits that reach into what is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.http.auth import Role
from tests.integration.commissions.system import (
    System,
    fact,
    flat_plan,
    kpi_event,
    quota_event,
    rows,
    running,
    won,
)

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"


def at_rate(rate: str, first: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    """The flat plan with another rate from a day on."""
    (part,) = flat_plan()["components"]
    rated = {**part, "rates": {"method": "flat", "rate": rate}}
    return flat_plan(effective={"from": first}, components=[rated], **changes)


@pytest_asyncio.fixture(loop_scope="session")
async def system(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> AsyncIterator[System]:
    """Ana and Ben won a deal each in January, which is closed, and in February, which is not."""
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as found:
        assert (await found.put_plan(flat_plan())).status_code == 201
        for payee in ("ana", "ben"):
            answer = await found.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
            assert answer.status_code == 201, answer.text
        await found.send(
            [
                won(f"{PREFIX}a", "2025-01-20T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-08T10:00:00Z", "3000", "ben"),
                won(f"{PREFIX}c", "2025-02-10T10:00:00Z", "5000", "ana"),
            ]
        )
        await found.drain()
        assert (await found.close("2025-01")).status_code == 200
        await found.drain()
        yield found


async def test_an_edit_of_closed_days_waits_for_a_second_person(system: System) -> None:
    closed = await system.statement("ana", "flat", "2025-01")
    edit = at_rate("12%", "2025-01-15")
    async with system.client(Role.COMP_ADMIN, person="cat") as cat:
        asked = await cat.put("/v1/plans/flat/versions/2", json=edit)
        assert asked.status_code == 202, asked.text
        told = asked.json()
        assert (told["state"], told["asked_by"], told["closed_until"]) == (
            "proposed",
            "cat",
            "2025-02-01",
        )
        # Ben's deal lies before the version's first day.
        (period,) = told["differences"]["periods"]
        assert {k: period[k] for k in ("period", "difference", "moved", "payees")} == {
            "period": "2025-01",
            "difference": "20",
            "moved": "20",
            "payees": 1,
        }
        assert [(p["payee"], p["before"], p["after"]) for p in told["differences"]["payees"]] == [
            ("ana", "100", "120")
        ]
        (border,) = [f for f in told["findings"] if f["code"] == "closed_border"]
        assert (border["figure"], border["unit"]) == ("20", "USD")
        again = await cat.put("/v1/plans/flat/versions/2", json=edit)
        assert (again.status_code, again.json()) == (202, told)
        other = await cat.put("/v1/plans/flat/versions/2", json=at_rate("13%", "2025-01-15"))
        assert other.json()["type"].endswith("proposal-waits")
        own = await cat.post(
            "/v1/plans/flat/versions/2/confirm", headers={"If-Match": asked.headers["etag"]}
        )
        assert own.json()["type"].endswith("same-person")
        assert len((await cat.get("/v1/plans/flat/versions")).json()) == 1
    async with system.client(Role.FINANCE, person="ana") as ana:
        mine = await ana.post(
            "/v1/plans/flat/versions/2/confirm", headers={"If-Match": asked.headers["etag"]}
        )
        assert mine.json()["type"].endswith("own-pay")
    async with system.client(Role.FINANCE, person="fin") as finance:
        path = "/v1/plans/flat/versions/2/confirm"
        assert (await finance.post(path)).status_code == 428
        assert (await finance.post(path, headers={"If-Match": '"99"'})).status_code == 412
        signed = await finance.post(path, headers={"If-Match": asked.headers["etag"]})
        assert signed.status_code == 200, signed.text
        assert (signed.json()["state"], signed.json()["decided_by"]) == ("confirmed", "fin")
        twice = await finance.post(path, headers={"If-Match": f'"{signed.json()["revision"]}"'})
        assert twice.json()["type"].endswith("proposal-decided")
        listed = (await finance.get("/v1/proposals", params={"state": "confirmed"})).json()
        assert [row["subject"] for row in listed["data"]] == ["plan/flat/2"]
    await system.drain()
    assert await system.statement("ana", "flat", "2025-01") == closed
    february = await system.statement("ana", "flat", "2025-02")
    assert (february["difference"], february["own"]) == ("20", "600")
    journal = await rows(
        system,
        "SELECT convert_from(value, 'UTF8')::json->'data'->>'state' AS state, "
        "convert_from(value, 'UTF8')::json->'data'->>'confirmed_by' AS by FROM outbox "
        "WHERE key IN ('proposal/plan/flat/2'::bytea, 'plan/flat/2'::bytea) ORDER BY id",
    )
    assert [(row["state"], row["by"]) for row in journal] == [
        ("proposed", None),
        ("proposed", None),
        ("confirmed", None),
        (None, "fin"),
    ]


async def test_a_proposal_can_be_withdrawn_and_is_asked_anew_after_another_close(
    system: System,
) -> None:
    edit = at_rate("12%", "2025-01-15")
    async with system.client(Role.COMP_ADMIN, person="cat") as cat:
        asked = await cat.put("/v1/plans/flat/versions/2", json=edit)
        assert asked.status_code == 202
        gone = await cat.post("/v1/plans/flat/versions/2/withdraw")
        assert gone.json()["state"] == "withdrawn"
        assert (await cat.post("/v1/plans/flat/versions/2/withdraw")).status_code == 409
        assert (await cat.post("/v1/plans/flat/versions/7/withdraw")).status_code == 404
        asked = await cat.put("/v1/plans/flat/versions/2", json=edit)
        assert asked.status_code == 202
        assert (await system.close("2025-02")).status_code == 200
        await system.drain()
        async with system.client(Role.FINANCE, person="fin") as finance:
            stale = await finance.post(
                "/v1/plans/flat/versions/2/confirm",
                headers={"If-Match": asked.headers["etag"]},
            )
            assert stale.json()["type"].endswith("closed-meanwhile")
        anew = await cat.put("/v1/plans/flat/versions/2", json=edit)
        assert anew.json()["closed_until"] == "2025-03-01"
        assert anew.json()["differences"]["difference"] == "120"
        assert [row["period"] for row in anew.json()["differences"]["periods"]] == [
            "2025-01",
            "2025-02",
        ]


async def test_a_version_of_open_periods_is_saved_at_once(system: System) -> None:
    later = await system.put_plan(at_rate("5%", "2025-02-01"), 2)
    assert later.status_code == 201, later.text
    codes = {finding["code"] for finding in later.json()["findings"]}
    assert codes == {"falling_border"}


async def test_the_database_refuses_a_maker_who_checks(system: System) -> None:
    async with system.client(Role.COMP_ADMIN, person="cat") as cat:
        asked = await cat.put("/v1/plans/flat/versions/2", json=at_rate("12%", "2025-01-15"))
        assert asked.status_code == 202
    with pytest.raises(asyncpg.CheckViolationError, match="maker_is_not_checker"):
        await rows(
            system,
            "UPDATE proposal SET state = 'confirmed', decided_by = asked_by, decided_at = now() "
            "RETURNING 1",
        )


async def test_lint_has_figures_from_the_service_s_data(system: System) -> None:
    quarter = {"period": "2025-Q1", "start": "2025-01-01", "end": "2025-04-01"}
    await system.send(
        [
            quota_event(
                "q-ana", 1, {"person": "ana", "measure": "bookings", "amount": "200000", **quarter}
            ),
            quota_event(
                "q-ben", 1, {"person": "ben", "measure": "bookings", "amount": "400000", **quarter}
            ),
            quota_event(
                "q-zoe", 1, {"person": "zoe", "measure": "calls", "amount": "9", **quarter}
            ),
            kpi_event("ana", "csat", "2025-02-01", "4.5", 1),
            fact(
                "rate",
                "plan:EUR:USD:2025-01-01",
                "2025-01-01T00:00:00Z",
                {"table": "plan", "from": "EUR", "to": "USD", "day": "2025-01-01", "rate": "1.1"},
            ),
        ]
    )
    await system.drain()
    tiers = [{"from": "0%", "rate": "4%"}, {"from": "100%", "rate": "6%"}]
    part = {
        **flat_plan()["components"][0],
        "quota": {"measure": "bookings", "period": "quarter"},
        "rates": {"method": "retroactive", "over": "attainment", "tiers": tiers},
        "cap": {"amount": "250", "per": "statement"},
        "gate": {"kpi": "csat", "at_least": 4, "otherwise": "hold"},
    }
    document = flat_plan(effective={"from": "2025-02-01"}, components=[part])
    async with system.client(Role.COMP_ADMIN) as admin:

        async def found(said: dict[str, Any]) -> dict[str, tuple[str, Decimal]]:
            answer = await admin.post("/v1/plans/lint", json=said)
            assert answer.status_code == 200, answer.text
            return {
                f["code"]: (f["severity"], Decimal(f["figure"])) for f in answer.json()["findings"]
            }

        assert await found(document) == {
            "cliff": ("warned", Decimal(4000)),  # 2 % of 200 000, the lower of two middle ones
            "falling_border": ("warned", Decimal("0.06")),
            "period_border": ("warned", Decimal("0.06")),
            "paid_without_goal": ("warned", Decimal(1)),  # csat
            "goal_without_pay": ("warned", Decimal(1)),  # calls
            "cap_reached": ("warned", Decimal(50)),  # ben's 300 in January
        }
        typo = {
            **part,
            "quota": {"measure": "boookings", "period": "quarter"},
            "gate": {**part["gate"], "kpi": "cat"},
        }
        refused = await found({**document, "components": [typo]})
        assert refused["unknown_measure"] == ("refused", Decimal(1))
        assert refused["unknown_kpi"] == ("refused", Decimal(1))
        strict = await admin.put(
            "/v1/plans/flat/versions/2",
            json={**document, "components": [typo]},
            params={"strict": "true"},
        )
        assert strict.status_code == 422
        assert [e["pointer"] for e in strict.json()["errors"]] == [
            "/components/0/gate/kpi",
            "/components/0/quota/measure",
        ]
        assert "did you mean bookings?" in strict.json()["errors"][1]["detail"]
        broken = await found({**document, "currency": "dollars"})
        assert broken == {"plan_invalid": ("refused", Decimal(1))}
        compared = await admin.post(
            "/v1/plans/lint",
            json=at_rate("20%", "2025-01-15"),
            params={"differences": "true"},
        )
        told = compared.json()["differences"]
        assert [(r["payee"], r["period"], r["difference"]) for r in told["payees"]] == [
            ("ana", "2025-02", "500"),
            ("ana", "2025-01", "100"),
        ]
        (border,) = [f for f in compared.json()["findings"] if f["code"] == "closed_border"]
        assert border["figure"] == "100"
    assert (await rows(system, "SELECT count(*) AS n FROM plan_version"))[0]["n"] == 1


async def test_an_assignment_that_reaches_into_closed_days_waits_as_well(system: System) -> None:
    closed = await system.statement("ben", "flat", "2025-01")
    async with system.client(Role.COMP_ADMIN, person="cat") as cat:
        path = "/v1/assignments/ben"
        known = await cat.get(path)
        body = {k: v for k, v in known.json().items() if k not in {"id", "revision"}}
        matching = {"If-Match": known.headers["etag"]}
        # Ending it in an open period moves nothing that is closed.
        ended = await cat.put(path, json={**body, "to": "2025-02-20"}, headers=matching)
        assert (ended.status_code, ended.json()["revision"]) == (200, 2)
        matching = {"If-Match": ended.headers["etag"]}
        earlier = {**body, "to": "2025-01-05"}
        asked = await cat.put(path, json=earlier, headers=matching)
        assert asked.status_code == 202, asked.text
        told = asked.json()
        assert told["subject"] == "assignment/ben"
        assert told["differences"]["difference"] == "-300"
        assert told["findings"][0]["figure"] == "-300"
        assert (await cat.get(path)).json()["to"] == "2025-02-20"
    async with system.client(Role.FINANCE, person="fin") as finance:
        signed = await finance.post(f"{path}/confirm", headers={"If-Match": asked.headers["etag"]})
        assert signed.status_code == 200, signed.text
        assert (await finance.get(path)).json()["to"] == "2025-01-05"
    await system.drain()
    assert await system.statement("ben", "flat", "2025-01") == closed
    assert (await system.statement("ben", "flat", "2025-02"))["difference"] == "-300"
    async with system.client(Role.COMP_ADMIN, person="cat") as cat:
        gone = await cat.delete("/v1/assignments/ana", headers={"If-Match": '"1"'})
        assert (gone.status_code, gone.json()["differences"]["difference"]) == (202, "-100")
        taken_back = await cat.post("/v1/assignments/ana/withdraw")
        assert taken_back.json()["state"] == "withdrawn"
        assert (await cat.get("/v1/assignments/ana")).status_code == 200
