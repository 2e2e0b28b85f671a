"""Liability, the cost of contracts by month, and commission health, through HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from shared.http.auth import Role
from tests.integration.commissions.system import System, deal, flat_plan, running, won

MakeDatabase = Callable[[], Awaitable[str]]
PREFIX = "crm:main:"


async def read(system: System, path: str, **params: str) -> list[dict[str, Any]]:
    async with system.client(Role.FINANCE, person="fin-a") as finance:
        answer = await finance.get(f"/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def pay_january(system: System) -> None:
    async with system.client(Role.FINANCE, person="fin-a") as maker:
        body = {"through": "2025-01", "pay_date": "2025-02-05"}
        made = await maker.put("/v1/payruns/jan", json=body)
        assert made.status_code == 201, made.text
    async with system.client(Role.FINANCE, person="fin-b") as checker:
        shown = {"hash": made.json()["hash"]}
        approved = await checker.post("/v1/payruns/jan/approve", json=shown)
        assert approved.status_code == 200, approved.text
        paid = await checker.post("/v1/payruns/jan/paid", json={"paid_on": "2025-02-05"})
        assert paid.status_code == 200, paid.text


async def test_what_finance_books_of_a_closed_month_a_payment_and_a_later_change(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> None:
    (component,) = flat_plan()["components"]
    plan = flat_plan(components=[{**component, "capitalise": {"over_months": 36}}])
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        assert (await system.put_plan(plan)).status_code == 201
        for payee in ("ana", "ben"):
            await system.assign(payee, payee=payee, plan="flat", from_="2025-01-01")
        await system.send(
            [
                won(f"{PREFIX}a", "2025-01-10T10:00:00Z", "1000", "ana"),
                won(f"{PREFIX}b", "2025-01-11T10:00:00Z", "500", "ben"),
            ]
        )
        assert (await system.close("2025-01")).status_code == 200
        await system.drain()
        await pay_january(system)
        await system.send([deal(f"{PREFIX}a", "2025-02-02T00:00:00Z", amount="1200")])
        await system.drain()

        january, february = await read(system, "accruals")
        assert january == {
            "period": "2025-01", "currency": "USD", "closed": True, "statements": 2,
            "earned": "150", "difference": "0", "due": "150", "paid": "150", "held": "0",
            "carried": "0", "liability": "0",
        }  # fmt: skip
        assert (february["period"], february["closed"]) == ("2025-02", False)
        assert (february["difference"], february["due"], february["liability"]) == (
            "20", "20", "20")  # fmt: skip

        (health,) = await read(system, "commission-health", period="2025-01")
        assert health == {
            "currency": "USD", "statements": 2, "payout": "150", "bookings": "1700",
            "effective_rate": "0.088235", "corrected": "20", "accuracy": "0.866667",
            "disputes": 0, "dispute_rate": "0", "days_to_resolve": None, "days_to_pay": "5",
        }  # fmt: skip
        assert await read(system, "commission-health", period="2024-01") == []

        ana, ben = await read(system, "capitalised-costs")
        (contract,) = ana["contracts"]
        assert (contract["cost"], contract["over_months"], contract["ended"]) == ("120", 36, None)
        assert [m["amortised"] for m in contract["months"][:2]] == ["2.78", "3.35"]
        assert [c["cost"] for c in ben["contracts"]] == ["50"]
        months = await read(system, "capitalised-costs/months")
        assert len(months) == 36
        assert sum(Decimal(m["amortised"]) + Decimal(m["written_off"]) for m in months) == 170
        assert (months[0]["remaining"], months[-1]["remaining"]) == ("145.83", "0")
