"""Two consumers on one log, and the rebuild: the same tables, and nothing announced again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.metrics.rebuild import rebuild
from services.metrics.wiring import projector_of
from shared.errors import Misconfigured
from shared.events.catalogue import METRICS_SIGNALS
from tests.integration.metrics.company import at, deal
from tests.integration.metrics.harness import consuming, running
from tests.integration.metrics.life import history


async def test_two_consumers_and_a_rebuild_agree(
    database_factory: Callable[[], Awaitable[str]],
    kafka_bootstrap: str,
    topic_prefix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = await database_factory()
    async with running(database, kafka_bootstrap, topic_prefix, tmp_path, consumers=0) as service:
        projector = projector_of(service.settings)
        async with consuming(service.settings), consuming(service.settings):
            for seed in (1, 2):
                await service.send(history(seed))
            left = {"stage": "lead", "owner": "ana", "amount": "5", "currency": "USD"}
            await service.send([deal(n, at(1), **left) for n in range(50, 55)])
            await service.drain()
            await service.at(at(100))
            with pytest.raises(Misconfigured):
                await rebuild(service.pool, service.settings, projector)
            announced = len(await service.published(METRICS_SIGNALS))
            before, open_before = await service.dump(), await service.episodes()
        assert open_before
        await rebuild(service.pool, service.settings, projector)
        assert capsys.readouterr().out.strip().endswith("the same")
        assert await service.dump() == before
        async with consuming(service.settings):
            await service.drain()
            await service.judged()
            assert await service.episodes() == open_before
            assert len(await service.published(METRICS_SIGNALS)) == announced
