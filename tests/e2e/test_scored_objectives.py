"""A score given in metrics is paid by commissions: G21's figures, over the topics between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.http.auth import Role
from tests.integration.commissions.system import running as commissions_running
from tests.integration.metrics.company import at, company
from tests.integration.metrics.harness import running as metrics_running

WEIGHTS = {"o1": "50%", "o2": "30%", "o3": "20%"}
PLAN = {
    "id": "mbo",
    "name": "Objectives",
    "currency": "USD",
    "time_zone": "UTC",
    "effective": {"from": "2025-01-01"},
    "period": "month",
    "components": [
        {
            "id": "goals",
            "kind": "objective",
            "credit": {"on": "objective.scored"},
            "objectives": [{"id": name, "weight": weight} for name, weight in WEIGHTS.items()],
        }
    ],
}
PAID_TIMEOUT_S = 30


async def test_scores_become_pay_and_a_correction_moves_it(
    database_factory: Callable[[], Awaitable[str]],
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    async with (
        commissions_running(await database_factory(), kafka_bootstrap, topic_prefix) as pay,
        metrics_running(
            await database_factory(), kafka_bootstrap, topic_prefix, tmp_path
        ) as metrics,
    ):
        await metrics.send(company())
        await metrics.drain()
        await metrics.at(at(40))
        assert (await pay.put_plan(PLAN)).status_code == 201
        assigned = await pay.assign(
            "ana", payee="ana", plan="mbo", from_="2026-01-01", target_pay="6000"
        )
        assert assigned.status_code == 201
        manager = metrics.token(Role.MANAGER, person="mia")

        async def score(name: str, value: str) -> None:
            found = await metrics.api.get(f"/v1/objectives/{name}", headers=manager)
            answer = await metrics.api.post(
                f"/v1/objectives/{name}/score",
                json={"score": value, "evidence": "seen"},
                headers={**manager, "If-Match": found.headers["etag"]},
            )
            assert answer.status_code == 200, answer.text

        async def paid(total: str) -> None:
            async with asyncio.timeout(PAID_TIMEOUT_S):
                while True:
                    async with pay.client(Role.AUDITOR) as auditor:
                        answer = await auditor.get("/v1/statements/ana/mbo/2026-01")
                    if answer.is_success and answer.json()["own"] == total:
                        return
                    await asyncio.sleep(0.1)

        for name, weight in WEIGHTS.items():
            body = {"person": "ana", "period": "2026-01", "title": name, "target": "as agreed"}
            made = await metrics.api.put(
                f"/v1/objectives/{name}", json={**body, "weight": weight}, headers=manager
            )
            assert made.status_code == 200, made.text
        for name, value in (("o1", "1"), ("o2", "0.8"), ("o3", "0")):
            await score(name, value)
        await paid("4440")
        await score("o3", "0.5")
        await paid("5040")
