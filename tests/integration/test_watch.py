"""What waits is counted as it is in the tables."""

from __future__ import annotations

import asyncio

import asyncpg

from shared.db.migrate import upgrade
from shared.runtime.watch import look
from shared.telemetry.catalogue import Telemetry


async def test_letters_marks_and_roots_of_older_data_are_shown(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA commissions")
    await connection.close()
    await asyncio.to_thread(upgrade, "commissions", database)
    options = {"search_path": "commissions"}
    async with asyncpg.create_pool(database, min_size=1, server_settings=options) as pool:
        await pool.execute(
            "INSERT INTO reference_version (version, code_version) VALUES (3, 1) "
            "ON CONFLICT (only_row) DO UPDATE SET version = 3"
        )
        await pool.execute(
            "INSERT INTO root (kind, id, reference_version) "
            "VALUES ('deal', 'a', 2), ('deal', 'b', 3), ('account', 'c', 1)"
        )
        await pool.execute(
            "INSERT INTO mark (kind, root_id, part) VALUES ('deal', 'a', ''), ('deal', 'b', '')"
        )
        await pool.execute(
            "INSERT INTO dead_letter (topic, partition, message_offset, subject, cause, detail, "
            "value, state) VALUES ('t', 0, 1, 'deal/a', 'unreadable', '', '', 'open'), "
            "('t', 0, 2, 'deal/a', 'unreadable', '', '', 'discarded')"
        )
        telemetry = Telemetry("commissions")
        await look(pool, telemetry, ("deal", "account"))
    shown = telemetry.exposition().decode()
    assert "attain_dead_letters_waiting 1.0" in shown
    assert 'attain_marks_waiting{root="deal"} 2.0' in shown
    assert 'attain_marks_waiting{root="account"} 0.0' in shown
    assert "attain_sweep_roots_waiting 2.0" in shown
